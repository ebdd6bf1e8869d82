//! Is the client known for good mail? (PRACTICES S43; RFC 5782 §2)

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use smtp_core::{Resolver, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::dns_list::{DnsList, ListTest, Listed, Listing, TestedList};
use crate::dnsbl::is_of_the_internet;
use crate::finding::{Action, Finding};
use crate::practice::Practice;

/// Who is on no such list has done nothing wrong: it never fails.
const DNSWL: Practice =
    Practice::new("dnswl", "S43", "A list knows the client for good mail").fails([Action::Observe; 3], [0; 3]);

/// How much a list of good mail servers trusts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Trust {
    /// Level 0: it sends mail, good and bad.
    None,
    /// Level 1: bad mail is seldom.
    Low,
    /// Level 2: bad mail is rare, and somebody cares.
    Medium,
    /// Level 3: no bad mail is known.
    High,
}

/// A list knows the client: what [`Dnswl`] leaves for other checks. Of several lists, the highest trust. From [`Trust::Low`] on the
/// client is not [greylisted](crate::Greylist) (PRACTICES S43).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownClient(pub Trust);

/// Asks lists of good mail servers about the address of the client, all at the same time. It never speaks against anybody.
///
/// They are tested as those of [`Dnsbl`](crate::Dnsbl) are.
#[derive(Clone)]
pub struct Dnswl {
    resolver: Arc<dyn Resolver>,
    lists: Vec<(Arc<TestedList>, Option<Trust>)>,
}

impl Dnswl {
    /// Without a list, by this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver), lists: Vec::new() }
    }

    /// With a list whose answers have the trust as their last octet, 0 to 3; others say nothing.
    #[must_use]
    pub fn with(mut self, list: DnsList) -> Self {
        self.lists.push((Arc::new(TestedList::new(list)), None));
        self
    }

    /// With a list on which all have the same trust.
    #[must_use]
    pub fn with_uniform(mut self, list: DnsList, trust: Trust) -> Self {
        self.lists.push((Arc::new(TestedList::new(list)), Some(trust)));
        self
    }

    /// Tests all lists now; those that are off are an alert for the operator (RFC 5782 §5).
    pub async fn self_test(&self) -> Vec<ListTest> {
        join_all(self.lists.iter().map(|(list, _)| list.test_addresses(&*self.resolver))).await
    }

    /// What the lists say of this address.
    pub async fn examine_address(&self, client: IpAddr) -> Observation {
        let client = client.to_canonical();
        if !is_of_the_internet(client) {
            return Observation::new();
        }
        let who = Listed::Address(client);
        let said = join_all(self.lists.iter().map(|(tested, uniform)| {
            let who = &who;
            async move {
                let trust = match tested.look_up(&*self.resolver, who).await {
                    Listing::Listed(codes) => {
                        uniform.or_else(|| codes.iter().filter_map(|code| level(code.octets()[3])).max())
                    }
                    Listing::NotListed | Listing::Unknown => None,
                };
                trust.map(|trust| (trust, tested.list.zone()))
            }
        }));
        let Some((trust, zone)) = said.await.into_iter().flatten().max_by_key(|(trust, _)| *trust) else {
            return Observation::new();
        };
        Observation::from(Finding::pass(DNSWL.name(), format!("{client} is on {zone}, trust {trust:?}")))
            .with_fact(KnownClient(trust))
    }
}

fn level(octet: u8) -> Option<Trust> {
    [Trust::None, Trust::Low, Trust::Medium, Trust::High].get(usize::from(octet)).copied()
}

impl fmt::Debug for Dnswl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dnswl").field("lists", &self.lists).finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for Dnswl {
    fn practices(&self) -> &[Practice] {
        &[DNSWL]
    }

    fn scope(&self) -> Scope {
        Scope::Client
    }

    fn asks_dns(&self) -> bool {
        true
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        self.examine_address(subject.connection().peer().ip()).await
    }
}

#[cfg(test)]
mod tests {
    use smtp_core::ResolverTable;

    use super::*;
    use crate::finding::Outcome;

    #[tokio::test] // PRACTICES S43
    async fn s43_the_highest_trust_of_all_lists_counts_and_nothing_counts_against() {
        let list = |zone: &str| DnsList::new(zone.parse().expect("a name"));
        let mut dns = ResolverTable::new()
            .with_address("2.0.0.127.levels.example", "127.0.0.2")
            .with_address("2.0.0.127.uniform.example", "127.0.0.2")
            .with_address("7.2.0.192.uniform.example", "127.0.0.2")
            .with_address("3.2.0.192.uniform.example", "127.0.0.2")
            .with_address("3.2.0.192.dead.example", "127.0.5.3")
            .with_unknown("9.2.0.192.levels.example");
        for (client, code) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 255)] {
            dns = dns.with_address(&format!("{client}.2.0.192.levels.example"), &format!("127.0.5.{code}"));
        }
        let lists = Dnswl::new(dns)
            .with(list("levels.example"))
            .with(list("dead.example"))
            .with_uniform(list("uniform.example"), Trust::Medium);
        for (client, expected) in [
            (0, Some(Trust::None)),
            (1, Some(Trust::Low)),
            (2, Some(Trust::Medium)),
            (3, Some(Trust::High)),
            (4, None),
            (5, None),
            (7, Some(Trust::Medium)),
            (8, None),
            (9, None),
        ] {
            let seen = lists.examine_address(format!("192.0.2.{client}").parse().expect("an address")).await;
            assert_eq!(seen.fact::<KnownClient>().map(|KnownClient(trust)| *trust), expected, "{client}");
            assert!(seen.findings().iter().all(|finding| finding.outcome() == Outcome::Pass));
        }
        let on: Vec<_> = lists.self_test().await.iter().map(ListTest::is_on).collect();
        assert_eq!(on, [true, false, true]);
    }
}
