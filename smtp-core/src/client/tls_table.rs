//! A ready-made policy of TLS: what is demanded of hosts and domains, by a table.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::hooks::outbound::Transient;

use super::tls_policy::{NextHop, TlsPolicy, TlsRequirement};

/// What an operator demands of next hops, by name.
///
/// The domain of a next hop counts before its host, each as it is before any that it lies beneath (`.example.org`, the nearest
/// first). What is not in the table has the default.
///
/// ```
/// use smtp_core::{TlsPolicyTable, TlsRequirement};
///
/// let policy = TlsPolicyTable::new(TlsRequirement::Opportunistic)
///     .with("bank.example", TlsRequirement::Names(vec!["mx.bank.example".into()]))
///     .with(".internal.example", TlsRequirement::Required);
/// # let _ = policy;
/// ```
#[derive(Debug, Clone)]
pub struct TlsPolicyTable {
    default: TlsRequirement,
    /// Lower case.
    by_name: HashMap<Box<str>, TlsRequirement>,
}

impl TlsPolicyTable {
    /// The same for all, until there are entries.
    pub fn new(default: TlsRequirement) -> Self {
        Self { default, by_name: HashMap::new() }
    }

    /// With an entry for a domain, for a host by its name or address, or, with a dot in front, for all that lies beneath a
    /// domain. A later entry takes the place of an earlier one.
    #[must_use]
    pub fn with(mut self, name: &str, requirement: TlsRequirement) -> Self {
        self.by_name.insert(key(name), requirement);
        self
    }

    /// The entry for that next hop; `None` where the default holds.
    pub fn find(&self, next_hop: &NextHop) -> Option<&TlsRequirement> {
        let domain = next_hop.domain().and_then(|domain| self.find_name(&key(domain.as_str())));
        domain.or_else(|| self.find_name(&key(next_hop.host())))
    }

    fn find_name(&self, name: &str) -> Option<&TlsRequirement> {
        let beneath = || name.match_indices('.').map(|(dot, _)| &name[dot..]);
        self.by_name.get(name).or_else(|| beneath().find_map(|suffix| self.by_name.get(suffix)))
    }
}

/// Names compare without case (RFC 5321 §2.4), and by what DNS knows them as.
fn key(name: &str) -> Box<str> {
    let (dot, name) = name.strip_prefix('.').map_or(("", name), |name| (".", name));
    let name = name.trim_matches(['[', ']']).trim_end_matches('.');
    let ascii = name.parse::<crate::syntax::domain::Domain>().map(|domain| domain.to_ascii().as_str().to_owned());
    format!("{dot}{}", ascii.unwrap_or_else(|_| name.to_owned()).to_ascii_lowercase()).into()
}

#[async_trait]
impl TlsPolicy for TlsPolicyTable {
    async fn requirement(&self, next_hop: &NextHop) -> Result<TlsRequirement, Transient> {
        Ok(self.find(next_hop).unwrap_or(&self.default).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // Each row: domain, host, the name in the requirement that is found.
    fn the_nearest_name_counts() {
        let named = |name: &str| TlsRequirement::Names(vec![name.into()]);
        let table =
            ["example.org", "mx.example.net", ".example.net", ".deep.example.net", "192.0.2.1", "b\u{fc}cher.example"]
                .iter()
                .fold(TlsPolicyTable::new(named("default")), |table, name| table.with(name, named(name)));
        for (domain, host, expected) in [
            ("example.org", "mx.example.net", "example.org"),
            ("EXAMPLE.ORG", "mx.example.net", "example.org"),
            ("example.com", "MX.example.net", "mx.example.net"),
            ("", "mx.example.net.", "mx.example.net"),
            ("", "mx2.example.net", ".example.net"),
            ("", "a.mx.deep.example.net", ".deep.example.net"),
            ("", "deep.example.net", ".example.net"),
            ("", "example.net", "default"),
            ("", "notexample.net", "default"),
            ("sub.example.org", "mx.example.com", "default"),
            ("", "192.0.2.1", "192.0.2.1"),
            ("", "[192.0.2.1]", "192.0.2.1"),
            ("xn--bcher-kva.example", "mx.example.com", "b\u{fc}cher.example"),
        ] {
            let hop = NextHop::new(host, 25);
            let hop = if domain.is_empty() { hop } else { hop.with_domain(domain.parse().expect("a domain")) };
            let found = table.find(&hop).unwrap_or(&table.default);
            assert_eq!(*found, named(expected), "{domain} {host}");
        }
    }
}
