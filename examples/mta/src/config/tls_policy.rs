//! What next hops ask of those who send to them, by name: `[[tls_policy]]`.

use std::collections::HashSet;
use std::net::IpAddr;

use smtp_core::{Domain, TlsPolicyTable, TlsRequirement};

use super::file::{RelayTls, TlsPolicyEntry};
use super::problem::Report;

/// One `[[tls_policy]]` that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsPolicyConfig {
    /// A host or a domain, or with a dot in front all that lies beneath.
    pub(super) name: String,
    pub(super) tls: RelayTls,
    /// For which the certificate may be; at least one where it is verified.
    pub(super) names: Vec<String>,
}

/// All entries; what is wrong with one is in the report.
pub(super) fn check(report: &mut Report<'_>, entries: Vec<TlsPolicyEntry>, has_next_hop: bool) -> Vec<TlsPolicyConfig> {
    let mut seen = HashSet::new();
    let mut checked = Vec::with_capacity(entries.len());
    for TlsPolicyEntry { name: text, tls, names } in entries {
        let name = text.get_ref().clone();
        let is_address = name.parse::<IpAddr>().is_ok();
        let mut wrong = |problem: String| report.add(text.span(), "tls_policy.name", problem);
        if !is_address && !is_domain(name.strip_prefix('.').unwrap_or(&name)) {
            wrong(format!(
                "`{}` is no host and no domain, for example `mx.example.org` or `.example.org`",
                name.escape_debug()
            ));
        } else if !seen.insert(name.to_ascii_lowercase()) {
            wrong(format!("`{name}` is named twice"));
        }
        if !has_next_hop {
            wrong("there is no next hop that it could be about: name a `relay.smart_host`".to_owned());
        }
        let is_verified = *tls.get_ref() == RelayTls::Verified;
        let mut expected = Vec::new();
        for text in names.iter().flatten() {
            if is_verified && is_domain(text.get_ref()) {
                expected.push(text.get_ref().clone());
            } else if is_verified {
                let problem = format!("`{}` is not a domain", text.get_ref().escape_debug());
                report.add(text.span(), "tls_policy.names", problem);
            } else {
                report.add(text.span(), "tls_policy.names", "a name counts only with `tls = \"verified\"`");
            }
        }
        if is_verified && names.as_ref().is_none_or(Vec::is_empty) {
            if name.starts_with('.') || is_address {
                let problem = format!("which `names` the certificates of `{name}` have must be said");
                report.add(tls.span(), "tls_policy.tls", problem);
            }
            expected.push(name.clone());
        }
        checked.push(TlsPolicyConfig { name, tls: tls.into_inner(), names: expected });
    }
    checked
}

fn is_domain(text: &str) -> bool {
    Domain::parse(text).is_ok()
}

/// The entries as a policy; what none of them names has no demands of its own.
pub(super) fn table(entries: &[TlsPolicyConfig]) -> TlsPolicyTable {
    entries.iter().fold(TlsPolicyTable::new(TlsRequirement::Opportunistic), |table, entry| {
        let requirement = match entry.tls {
            RelayTls::None => TlsRequirement::None,
            RelayTls::Opportunistic => TlsRequirement::Opportunistic,
            RelayTls::Required => TlsRequirement::Required,
            RelayTls::Verified => TlsRequirement::Names(entry.names.clone()),
        };
        table.with(&entry.name, requirement)
    })
}
