//! One header field, written so that it is exactly one (RFC 5322 §2.2).

use std::fmt;

use thiserror::Error;

/// Octets of a line after which a field is folded where it has a space (RFC 5322 §2.1.1).
const FOLD_AFTER_OCTETS: usize = 78;
/// The most octets of a line without CRLF (RFC 5322 §2.1.1).
const LINE_LIMIT_OCTETS: usize = 998;
/// The most octets of a field that we write: 64 KiB (ours).
const FIELD_LIMIT_OCTETS: usize = 65_536;

/// Why a name and a value make no header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderFieldError {
    /// A name has printable ASCII without colon and space, and at most 77 octets (RFC 5322 §2.2).
    #[error("invalid name of a header field")]
    Name,
    /// A value has neither CR, LF, NUL nor other controls; tabs are allowed.
    #[error("control character in the value of a header field")]
    Control,
    /// A word of more than 998 octets cannot be folded (RFC 5322 §2.1.1); nor may the field exceed 64 KiB.
    #[error("value of a header field too long")]
    TooLong,
}

impl HeaderFieldError {
    /// Never: the same value will be as wrong tomorrow.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// A header field, folded and with its CRLF.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderField {
    octets: String,
    name_length: usize,
}

impl HeaderField {
    /// Writes `name: value`. Long values are folded at spaces; nothing of the value is changed or escaped.
    ///
    /// # Errors
    /// [`HeaderFieldError`] where the value could become a second field, a body, or a line of more than 998 octets.
    pub fn new(name: &str, value: &str) -> Result<Self, HeaderFieldError> {
        if !is_field_name(name) {
            return Err(HeaderFieldError::Name);
        }
        if value.chars().any(is_forbidden) {
            return Err(HeaderFieldError::Control);
        }
        Ok(Self { octets: fold(name, value.trim())?, name_length: name.len() })
    }

    /// Writes `name:` and the value behind it as it is, with the space at its start and folded as it is: for a field over which
    /// somebody else has signed. Lines of the value end with CRLF, but for the last; the next begins with white space.
    ///
    /// # Errors
    /// [`HeaderFieldError`], also where a line holds nothing but white space (RFC 5322 §3.2.2).
    pub fn as_written(name: &str, value: &str) -> Result<Self, HeaderFieldError> {
        if !is_field_name(name) {
            return Err(HeaderFieldError::Name);
        }
        for (number, line) in value.split("\r\n").enumerate() {
            let is_empty = line.trim_matches([' ', '\t']).is_empty();
            if line.chars().any(is_forbidden) || (number > 0 && (is_empty || !line.starts_with([' ', '\t']))) {
                return Err(HeaderFieldError::Control);
            }
            let octets = line.len() + if number == 0 { name.len() + 1 } else { 0 };
            if octets > LINE_LIMIT_OCTETS {
                return Err(HeaderFieldError::TooLong);
            }
        }
        if name.len() + value.len() > FIELD_LIMIT_OCTETS {
            return Err(HeaderFieldError::TooLong);
        }
        Ok(Self { octets: format!("{name}:{value}\r\n"), name_length: name.len() })
    }

    /// The name as given.
    pub fn name(&self) -> &str {
        &self.octets[..self.name_length]
    }

    /// The whole field, folded, with its final CRLF.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.as_bytes()
    }
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.octets.trim_end())
    }
}

impl fmt::Debug for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.octets, f)
    }
}

fn is_forbidden(c: char) -> bool {
    c != '\t' && c.is_control()
}

/// RFC 5322 §2.2: printable ASCII but the colon; the length leaves room for it on the first line.
pub(crate) fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < FOLD_AFTER_OCTETS
        && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':')
}

/// Puts a CRLF before white space, which stays, so that unfolding gives the value back (RFC 5322 §2.2.3).
fn fold(name: &str, value: &str) -> Result<String, HeaderFieldError> {
    let mut field = String::with_capacity(name.len() + value.len() + value.len() / 32 + 4);
    field.push_str(name);
    field.push(':');
    let mut line_octets = field.len();
    let mut rest = value;
    while !rest.is_empty() {
        let is_first = rest.len() == value.len();
        let space = if is_first { " " } else { &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()] };
        rest = rest.trim_start_matches([' ', '\t']);
        let word = &rest[..rest.find([' ', '\t']).unwrap_or(rest.len())];
        rest = &rest[word.len()..];
        if !is_first && line_octets + space.len() + word.len() > FOLD_AFTER_OCTETS {
            field.push_str("\r\n");
            line_octets = 0;
        }
        field.push_str(space);
        field.push_str(word);
        line_octets += space.len() + word.len();
        if line_octets > LINE_LIMIT_OCTETS || field.len() > FIELD_LIMIT_OCTETS {
            return Err(HeaderFieldError::TooLong);
        }
    }
    field.push_str("\r\n");
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        for (name, value, expected) in [
            ("Subject", "hello", Ok("Subject: hello\r\n")),
            ("Subject", "  a   b\tc ", Ok("Subject: a   b\tc\r\n")),
            ("Subject", "", Ok("Subject:\r\n")),
            ("Subject", "J\u{fc}rgen", Ok("Subject: J\u{fc}rgen\r\n")),
            ("Subject", "a\r\nBcc: x", Err(HeaderFieldError::Control)),
            ("Subject", "a\nb", Err(HeaderFieldError::Control)),
            ("Subject", "a\0b", Err(HeaderFieldError::Control)),
            ("Subject", "a\u{85}b", Err(HeaderFieldError::Control)),
            ("Sub ject", "x", Err(HeaderFieldError::Name)),
            ("Subject:", "x", Err(HeaderFieldError::Name)),
            ("", "x", Err(HeaderFieldError::Name)),
            ("S\r\nX", "x", Err(HeaderFieldError::Name)),
        ] {
            let field =
                HeaderField::new(name, value).map(|field| String::from_utf8_lossy(field.as_bytes()).into_owned());
            assert_eq!(field, expected.map(str::to_owned), "{name}: {value:?}");
        }
        assert_eq!(HeaderField::new("X", &"x".repeat(999)), Err(HeaderFieldError::TooLong));
        assert_eq!(HeaderField::new("X", &"x ".repeat(40_000)), Err(HeaderFieldError::TooLong));
    }

    #[test] // SECURITY G2: what a filter writes
    fn g2_fields_as_they_were_written_are_one_field_each() {
        let long = "x".repeat(997);
        for (name, value, expected) in [
            ("A", " b", Ok("A: b\r\n")),
            ("A", "b", Ok("A:b\r\n")),
            ("A", "", Ok("A:\r\n")),
            ("A", " b\r\n\tc=d;\r\n e", Ok("A: b\r\n\tc=d;\r\n e\r\n")),
            ("A", "\r\n b", Ok("A:\r\n b\r\n")),
            ("A", " b\r\nB: c", Err(HeaderFieldError::Control)),
            ("A", " b\r\n\r\nbody", Err(HeaderFieldError::Control)),
            ("A", " b\r\n \r\n c", Err(HeaderFieldError::Control)),
            ("A", " b\r\n", Err(HeaderFieldError::Control)),
            ("A", " b\n c", Err(HeaderFieldError::Control)),
            ("A", " b\r c", Err(HeaderFieldError::Control)),
            ("A", " b\0c", Err(HeaderFieldError::Control)),
            ("A:", " b", Err(HeaderFieldError::Name)),
            ("A", long.as_str(), Err(HeaderFieldError::TooLong)),
        ] {
            let field = HeaderField::as_written(name, value)
                .map(|field| String::from_utf8_lossy(field.as_bytes()).into_owned());
            assert_eq!(field, expected.map(str::to_owned), "{name}: {value:?}");
        }
    }

    proptest::proptest! {
        #[test] // RFC 5322 §2.2.3: unfolding gives the value back; no line over 998 octets, none of white space alone.
        fn unfolding_undoes_folding(words in proptest::collection::vec("[!-~]{1,200}[ \t]{1,3}", 0..30)) {
            let value = words.concat();
            let field = HeaderField::new("X-Words", &value)?;
            let text = String::from_utf8_lossy(field.as_bytes()).into_owned();
            for line in text.trim_end_matches("\r\n").split("\r\n") {
                proptest::prop_assert!(line.len() <= 998 && !line.trim().is_empty());
                proptest::prop_assert!(line.starts_with("X-Words:") || line.starts_with([' ', '\t']));
            }
            let unfolded = text.replace("\r\n", "");
            proptest::prop_assert_eq!(unfolded["X-Words:".len()..].trim(), value.trim());
        }
    }
}
