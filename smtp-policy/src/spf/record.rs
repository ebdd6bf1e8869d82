//! The grammar of an SPF record (RFC 7208 §12).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::SpfResult;
use super::macros::{MacroString, Use};

/// One `v=spf1` record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<MacroString>,
    pub(super) explanation: Option<MacroString>,
}

/// Whom it means, and what it says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) result: SpfResult,
    pub(super) mechanism: Mechanism,
}

/// A way to say whom (RFC 7208 §5). Without a name it is about the domain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(MacroString),
    Address(Option<MacroString>, Prefixes),
    Exchanger(Option<MacroString>, Prefixes),
    Pointer(Option<MacroString>),
    Network(IpNet),
    Exists(MacroString),
}

/// How many bits of an address count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) ipv4: u8,
    pub(super) ipv6: u8,
}

/// The term that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

/// Whether a `TXT` record is one of SPF (RFC 7208 §4.5).
pub(crate) fn is_record(text: &[u8]) -> bool {
    let version = text.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"v=spf1"));
    version && matches!(text.get(6), None | Some(b' '))
}

impl Record {
    /// Reads it, with its version. An error anywhere makes the whole of it unreadable (RFC 7208 §4.6).
    pub(super) fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| Unreadable("what is not ASCII".to_owned()))?;
        let mut record = Self { directives: Vec::new(), redirect: None, explanation: None };
        for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
            record.add(term).ok_or_else(|| Unreadable(term.to_owned()))?;
        }
        Ok(record)
    }

    fn add(&mut self, term: &str) -> Option<()> {
        let name_end = term.find([':', '/', '=']).unwrap_or(term.len());
        let (name, argument) = term.split_at(name_end);
        if let Some(value) = argument.strip_prefix('=') {
            let place = match name {
                _ if name.eq_ignore_ascii_case("redirect") => &mut self.redirect,
                _ if name.eq_ignore_ascii_case("exp") => &mut self.explanation,
                _ => return is_modifier(name).then(|| MacroString::parse(value, Use::Text)).flatten().map(drop),
            };
            if place.is_some() {
                return None;
            }
            *place = Some(MacroString::parse_name(value)?);
            return Some(());
        }
        self.directives.push(directive(name, argument)?);
        Some(())
    }
}

fn is_modifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn directive(name: &str, argument: &str) -> Option<Directive> {
    let (result, name) = match name.split_at_checked(1)? {
        ("+", name) => (SpfResult::Pass, name),
        ("-", name) => (SpfResult::Fail, name),
        ("~", name) => (SpfResult::SoftFail, name),
        ("?", name) => (SpfResult::Neutral, name),
        _ => (SpfResult::Pass, name),
    };
    let named = || MacroString::parse_name(argument.strip_prefix(':')?);
    let mechanism = match name.to_ascii_lowercase().as_str() {
        "all" if argument.is_empty() => Mechanism::All,
        "include" => Mechanism::Include(named()?),
        "exists" => Mechanism::Exists(named()?),
        "a" => host(argument).map(|(name, prefixes)| Mechanism::Address(name, prefixes))?,
        "mx" => host(argument).map(|(name, prefixes)| Mechanism::Exchanger(name, prefixes))?,
        "ptr" if argument.is_empty() => Mechanism::Pointer(None),
        "ptr" => Mechanism::Pointer(Some(named()?)),
        "ip4" => {
            let (address, prefix) = address_and_prefix(argument)?;
            let network = Ipv4Net::new(address.parse::<Ipv4Addr>().ok()?, prefix.map_or(Some(32), bits)?).ok()?;
            Mechanism::Network(network.into())
        }
        "ip6" => {
            let (address, prefix) = address_and_prefix(argument)?;
            let network = Ipv6Net::new(address.parse::<Ipv6Addr>().ok()?, prefix.map_or(Some(128), bits)?).ok()?;
            Mechanism::Network(network.into())
        }
        _ => return None,
    };
    Some(Directive { result, mechanism })
}

/// `:name/24//64`, of which each part may be absent.
fn host(argument: &str) -> Option<(Option<MacroString>, Prefixes)> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let (rest, ipv6) = match argument.rsplit_once("//") {
        Some((rest, number)) if is_number(number) => (rest, bits(number)?),
        _ => (argument, 128),
    };
    let (name, ipv4) = match rest.rsplit_once('/') {
        Some((rest, number)) if is_number(number) => (rest, bits(number)?),
        _ => (rest, 32),
    };
    if ipv4 > 32 || ipv6 > 128 {
        return None;
    }
    let name = match name {
        "" => None,
        name => Some(MacroString::parse_name(name.strip_prefix(':')?)?),
    };
    Some((name, Prefixes { ipv4, ipv6 }))
}

fn address_and_prefix(argument: &str) -> Option<(&str, Option<&str>)> {
    let argument = argument.strip_prefix(':')?;
    Some(argument.split_once('/').map_or((argument, None), |(address, prefix)| (address, Some(prefix))))
}

/// A number without zeros in front of it.
fn bits(text: &str) -> Option<u8> {
    let is_written_so = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_written_so.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 7208 §12
    fn terms_that_are_in_the_grammar_and_terms_that_are_not() {
        for (term, is_valid) in [
            ("all", true),
            ("-ALL", true),
            ("all:x.example", false),
            ("?a", true),
            ("a/24", true),
            ("a//64", true),
            ("a/24//64", true),
            ("a:x.example/24//64", true),
            ("a:x.example/33", false),
            ("a:x.example//129", false),
            ("a:x.example/08", false),
            ("a:x.example/", false),
            ("a:", false),
            ("a:/24", false),
            ("ax", false),
            ("mx:%{d2}/0", true),
            ("ip4:192.0.2.1", true),
            ("ip4:192.0.2.0/24", true),
            ("ip4:192.0.2.0/", false),
            ("ip4:192.0.2", false),
            ("ip4", false),
            ("ip6:2001:db8::/32", true),
            ("ip6:::1.2.3.4/0", true),
            ("ip6:2001:db8::/+32", false),
            ("ptr", true),
            ("ptr/24", false),
            ("exists:%{ir}.x.example", true),
            ("exists", false),
            ("exists:x.example/24", false),
            ("include:x.example", true),
            ("include", false),
            ("redirect=x.example", true),
            ("redirect:x.example", false),
            ("redirect=", false),
            ("new-modifier=anything%%", true),
            ("1new=x", false),
            ("-new=x", false),
            ("=x", false),
            ("-", false),
        ] {
            let record = format!("v=spf1 {term}");
            assert_eq!(Record::parse(record.as_bytes()).is_ok(), is_valid, "{term}");
        }
        assert!(Record::parse(b"v=spf1 exp=a.b exp=a.b").is_err());
    }

    #[test] // RFC 7208 §4.5
    fn a_record_has_a_version_and_nothing_but_a_space_behind_it() {
        for (text, expected) in
            [("v=spf1", true), ("V=SPF1 -all", true), ("v=spf10", false), ("v=spf1\tx", false), (" v=spf1", false)]
        {
            assert_eq!(is_record(text.as_bytes()), expected, "{text}");
        }
    }
}
