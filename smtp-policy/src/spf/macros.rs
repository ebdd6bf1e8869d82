//! Macro strings: names and texts of an SPF record that depend on the sender (RFC 7208 §7).

/// The most octets of a name that DNS is asked for (RFC 7208 §7.3).
const NAME_LIMIT_OCTETS: usize = 253;

/// What a macro string is used for: some letters are for people only (RFC 7208 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Name,
    Text,
}

/// A text with places to be filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MacroString(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Macro { letter: char, escapes: bool, labels: usize, reverses: bool, delimiters: Vec<char> },
}

impl MacroString {
    /// Reads one; `None` where it is not in the grammar.
    pub(super) fn parse(text: &str, purpose: Use) -> Option<Self> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '%' => {
                    let kind = rest.chars().next()?;
                    rest = &rest[kind.len_utf8()..];
                    match kind {
                        '%' => literal.push('%'),
                        '_' => literal.push(' '),
                        '-' => literal.push_str("%20"),
                        '{' => {
                            let (inside, behind) = rest.split_once('}')?;
                            rest = behind;
                            if !literal.is_empty() {
                                parts.push(Part::Literal(std::mem::take(&mut literal)));
                            }
                            parts.push(parse_macro(inside, purpose)?);
                        }
                        _ => return None,
                    }
                }
                '!'..='~' => literal.push(c),
                ' ' if purpose == Use::Text => literal.push(c),
                _ => return None,
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Some(Self(parts))
    }

    /// Reads one that becomes a name: it ends in a macro, or in a top label behind a dot (RFC 7208 §7.1, `domain-spec`).
    pub(super) fn parse_name(text: &str) -> Option<Self> {
        let parsed = Self::parse(text, Use::Name)?;
        let ends_in_macro = text.ends_with('}') || ["%%", "%_", "%-"].iter().any(|end| text.ends_with(end));
        if ends_in_macro {
            return Some(parsed);
        }
        let (_, top) = text.strip_suffix('.').unwrap_or(text).rsplit_once('.')?;
        let is_label = top.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !top.starts_with('-')
            && !top.ends_with('-')
            && top.chars().any(|c| !c.is_ascii_digit());
        (is_label && !top.is_empty()).then_some(parsed)
    }

    /// Whether the letter is used, so that what it stands for must be known.
    pub(super) fn uses(&self, wanted: char) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Macro { letter, .. } if *letter == wanted))
    }

    /// Fills it, with what each letter stands for.
    pub(super) fn expand(&self, value: impl Fn(char) -> String) -> String {
        let fill = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::Macro { letter, escapes, labels, reverses, delimiters } => {
                let value = value(*letter);
                let mut pieces: Vec<&str> = value.split(|c| delimiters.contains(&c)).collect();
                if *reverses {
                    pieces.reverse();
                }
                let kept = pieces[pieces.len().saturating_sub(*labels)..].join(".");
                if *escapes { escape(&kept) } else { kept }
            }
        };
        self.0.iter().map(fill).collect()
    }

    /// Fills it as a name: without a dot at its end, and without as many of its first labels as it is too long by.
    pub(super) fn expand_name(&self, value: impl Fn(char) -> String) -> String {
        let filled = self.expand(value);
        let mut name = filled.strip_suffix('.').unwrap_or(&filled);
        while name.len() > NAME_LIMIT_OCTETS
            && let Some((_, behind)) = name.split_once('.')
        {
            name = behind;
        }
        name.to_owned()
    }
}

/// What stands between the braces: letter, transformers, delimiters.
fn parse_macro(inside: &str, purpose: Use) -> Option<Part> {
    let first = inside.chars().next()?;
    let letter = first.to_ascii_lowercase();
    let letters = if purpose == Use::Text { "slodiphvcrt" } else { "slodiphv" };
    if !letters.contains(letter) {
        return None;
    }
    let rest = &inside[1..];
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let labels = match &rest[..digits] {
        "" => usize::MAX,
        // A number that is too large keeps all.
        number => number.parse().unwrap_or(usize::MAX),
    };
    if labels == 0 {
        return None;
    }
    let rest = &rest[digits..];
    let reversed = rest.strip_prefix(['r', 'R']);
    let delimiters: Vec<char> = reversed.unwrap_or(rest).chars().collect();
    if delimiters.iter().any(|c| !".-+,/_=".contains(*c)) {
        return None;
    }
    let delimiters = if delimiters.is_empty() { vec!['.'] } else { delimiters };
    Some(Part::Macro { letter, escapes: first.is_ascii_uppercase(), labels, reverses: reversed.is_some(), delimiters })
}

/// As part of a URL (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
    text.bytes()
        .map(|octet| if is_plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7208 §7.4.
    fn value(letter: char) -> String {
        match letter {
            's' => "strong-bad@email.example.com",
            'l' => "strong-bad",
            'o' | 'd' => "email.example.com",
            'i' => "192.0.2.3",
            'v' => "in-addr",
            _ => "unknown",
        }
        .to_owned()
    }

    #[test] // RFC 7208 §7.4
    fn the_examples_of_the_rfc() {
        for (text, expected) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
            ("%{S}", "strong-bad%40email.example.com"),
            ("%{d99999999999999999999}", "email.example.com"),
        ] {
            let parsed = MacroString::parse_name(text).unwrap_or_else(|| panic!("{text} is in the grammar"));
            assert_eq!(parsed.expand_name(value), expected, "{text}");
        }
    }

    #[test] // RFC 7208 §7.1
    fn what_is_not_in_the_grammar() {
        for text in
            ["%", "%a", "%{", "%{}", "%{x}", "%{d0}", "%{d!}", "%{c}", "example", "a.1", "a.b-", "a.", ".", "", "a b.c"]
        {
            assert_eq!(MacroString::parse_name(text), None, "{text:?}");
        }
        assert!(MacroString::parse("%{c} %{r} %{t}", Use::Text).is_some());
        assert!(MacroString::parse("caf\u{e9}", Use::Text).is_none());
    }

    #[test] // RFC 7208 §7.3
    fn a_name_that_is_too_long_loses_its_first_labels() {
        let text = format!("%{{l}}.{}.example", vec!["abcdefghi"; 25].join("."));
        let name = MacroString::parse_name(&text).expect("a name").expand_name(|_| "x".repeat(40));
        assert!(name.len() <= 253 && name.ends_with("i.example") && name.starts_with("abcdefghi."), "{name}");
    }
}
