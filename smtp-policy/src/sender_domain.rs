//! Can the reverse-path be answered: does its domain exist, and take mail? (PRACTICES B2505.9; RFC 5321 §5.1, RFC 7505)

use std::fmt;
use std::sync::Arc;

use smtp_core::{Answer, DnsName, Domain, Mailbox, Resolver, ReversePath, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::Practice;
use crate::reverse_dns::addresses;

/// The domain has `MX` records or an address.
const SENDER_DOMAIN: Practice = Practice::new("sender-domain", "B2505.9", "The domain of the reverse-path exists")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
    .unknown([Action::Observe, Action::Defer, Action::Defer])
    .refuses(1, 8, "The domain of the sender does not exist")
    .when_unknown("The domain of the sender cannot be looked up now, try again later");
/// It has no null `MX`.
const SENDER_NULL_MX: Practice =
    Practice::new("sender-null-mx", "B2505.9", "The domain of the reverse-path does not say that it takes no mail")
        .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
        .refuses(7, 27, "The domain of the sender takes no mail");

/// Looks the domain of the reverse-path up. The null reverse-path has none, and an address literal needs none.
#[derive(Clone)]
pub struct SenderDomain {
    resolver: Arc<dyn Resolver>,
}

impl SenderDomain {
    /// By this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver) }
    }

    /// What is to be said of this reverse-path.
    pub async fn examine_reverse_path(&self, reverse_path: &ReversePath) -> Observation {
        match reverse_path.mailbox().and_then(Mailbox::domain) {
            Some(domain) => self.examine_domain(domain).await,
            None => Observation::new(),
        }
    }

    /// What is to be said of this domain.
    pub async fn examine_domain(&self, domain: &Domain) -> Observation {
        let Ok(name) = DnsName::try_from(domain) else {
            return Finding::fail(SENDER_DOMAIN.name(), format!("{domain} is too long for a name in DNS")).into();
        };
        let no_answer = || Finding::unknown(SENDER_DOMAIN.name(), format!("no answer for {name}"));
        match self.resolver.mx(&name).await {
            // A null MX beside others is a mistake, and says nothing (RFC 7505 §3).
            Answer::Found { data, .. } if !data.is_empty() && data.iter().all(|exchanger| exchanger.host.is_none()) => {
                Observation::from(Finding::pass(SENDER_DOMAIN.name(), format!("{name} has a null MX")))
                    .with(Finding::fail(SENDER_NULL_MX.name(), format!("{name} has a null MX")))
            }
            Answer::Found { .. } => Observation::from(Finding::pass(SENDER_DOMAIN.name(), format!("{name} has an MX")))
                .with(Finding::pass(SENDER_NULL_MX.name(), name.to_string())),
            Answer::Absent => self.examine_addresses(&name).await.unwrap_or_else(no_answer).into(),
            Answer::Unknown => no_answer().into(),
        }
    }

    /// A domain without `MX` is its own mail host (RFC 5321 §5.1). `None` where that is not known.
    async fn examine_addresses(&self, name: &DnsName) -> Option<Finding> {
        let mut some_is_unknown = false;
        for is_ipv6 in [false, true] {
            match addresses(&*self.resolver, name, is_ipv6).await {
                Answer::Found { .. } => {
                    return Some(Finding::pass(SENDER_DOMAIN.name(), format!("{name} has an address")));
                }
                Answer::Absent => {}
                Answer::Unknown => some_is_unknown = true,
            }
        }
        let nothing = || Finding::fail(SENDER_DOMAIN.name(), format!("{name} has neither MX nor address"));
        (!some_is_unknown).then(nothing)
    }
}

impl fmt::Debug for SenderDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderDomain").finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for SenderDomain {
    fn practices(&self) -> &[Practice] {
        &[SENDER_DOMAIN, SENDER_NULL_MX]
    }

    fn scope(&self) -> Scope {
        Scope::Sender
    }

    fn asks_dns(&self) -> bool {
        true
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        match subject.transaction() {
            Some(transaction) => self.examine_reverse_path(transaction.reverse_path()).await,
            None => Observation::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use smtp_core::{RecordType, ResolverTable};

    use super::*;
    use crate::finding::Outcome::{self, Fail, Pass, Unknown};

    #[tokio::test] // PRACTICES B2505.9, RFC 7505 §3, RFC 5321 §5.1
    async fn b2505_9_by_every_answer_of_dns() {
        let long = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(62));
        let long_path = format!("<a@{long}>");
        let dns = ResolverTable::new()
            .with_mx("mx.example", 10, "mail.example")
            .with_address("a.example", "192.0.2.1")
            .with_address("aaaa.example", "2001:db8::1")
            .with_mx("null.example", 0, ".")
            .with_mx("null-beside.example", 0, ".")
            .with_mx("null-beside.example", 10, "mail.example")
            .with_txt("text.example", "v=spf1 -all")
            .with_mx("xn--bcher-kva.example", 10, "mail.example")
            .with_unknown_record("half.example", RecordType::A)
            .with_unknown_record("half.example", RecordType::Aaaa)
            .with_unknown_record("four.example", RecordType::A)
            .with_unknown_record("four-six.example", RecordType::A)
            .with_address("four-six.example", "2001:db8::1")
            .with_unknown("slow.example");
        let exists: &[(&str, Outcome)] = &[("sender-domain", Pass), ("sender-null-mx", Pass)];
        for (path, expected) in [
            ("<>", &[][..]),
            ("<a@[192.0.2.1]>", &[]),
            ("<a@mx.example>", exists),
            ("<a@MX.EXAMPLE>", exists),
            ("<a@b\u{fc}cher.example>", exists),
            ("<a@a.example>", &[("sender-domain", Pass)]),
            ("<a@aaaa.example>", &[("sender-domain", Pass)]),
            ("<a@null-beside.example>", exists),
            ("<a@null.example>", &[("sender-domain", Pass), ("sender-null-mx", Fail)]),
            ("<a@gone.example>", &[("sender-domain", Fail)]),
            ("<a@text.example>", &[("sender-domain", Fail)]),
            ("<a@localhost>", &[("sender-domain", Fail)]),
            ("<a@slow.example>", &[("sender-domain", Unknown)]),
            ("<a@half.example>", &[("sender-domain", Unknown)]),
            ("<a@four.example>", &[("sender-domain", Unknown)]),
            ("<a@four-six.example>", &[("sender-domain", Pass)]),
            ("<a@sub.slow.example>", &[("sender-domain", Unknown)]),
            (&long_path, &[("sender-domain", Fail)]),
        ] {
            let path = ReversePath::parse(path).expect("a path");
            let seen = SenderDomain::new(dns.clone()).examine_reverse_path(&path).await;
            let found: Vec<_> = seen.findings().iter().map(|finding| (finding.practice(), finding.outcome())).collect();
            assert_eq!(found, expected, "{path:?}");
        }
    }
}
