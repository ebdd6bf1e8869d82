//! Is the client, or a domain it uses, on a blocklist? (PRACTICES S27; RFC 5782)

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use smtp_core::{Domain, Greeting, Host, Mailbox, Resolver, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::dns_list::{DnsList, ListTest, Listed, Listing, TestedList};
use crate::finding::{Action, Finding};
use crate::helo::qualified;
use crate::practice::Practice;

/// The client is on none of the lists that score.
const DNSBL: Practice = of_list("dnsbl", "The client is on no blocklist", Action::Score);
/// Nor on one that refuses.
const DNSBL_REFUSING: Practice =
    of_list("dnsbl-refusing", "The client is on no blocklist that refuses", Action::Reject);
/// The same of domains.
const DOMAIN_DNSBL: Practice =
    of_list("domain-dnsbl", "The domains of reverse-path and greeting are on no blocklist", Action::Score);
const DOMAIN_DNSBL_REFUSING: Practice = of_list(
    "domain-dnsbl-refusing",
    "The domains of reverse-path and greeting are on no blocklist that refuses",
    Action::Reject,
);

const fn of_list(name: &'static str, about: &'static str, in_bcp: Action) -> Practice {
    Practice::new(name, "S27", about).fails([Action::Off, in_bcp, Action::Reject], [0, 3, 3]).refuses(
        7,
        1,
        "Blocklisted",
    )
}

/// Asks blocklists about the address of the client, all at the same time.
///
/// A list is tested before it is used and once an hour; one that fails is off until it passes ([`Dnsbl::self_test`] says which).
/// What a list does not answer is not listed. It looks when a recipient is there, and so never refuses a connection.
/// Addresses that are not of the Internet are told to nobody.
///
/// ```
/// use smtp_core::ResolverTable;
/// use smtp_policy::{Chain, DnsList, Dnsbl, Preset};
///
/// let blocklists = Dnsbl::new(ResolverTable::new())
///     .with(DnsList::new("dynamic.example".parse()?).with_weight(2))
///     .with(DnsList::new("exploited.example".parse()?).refusing());
/// let policy = Chain::new("blocklists", Preset::Bcp).with(blocklists);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Dnsbl(Lists);

impl Dnsbl {
    /// Without a list, by this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self(Lists::new(resolver))
    }

    /// With a list of addresses.
    #[must_use]
    pub fn with(mut self, list: DnsList) -> Self {
        self.0.lists.push(Arc::new(TestedList::new(list)));
        self
    }

    /// Tests all lists now; those that are off are an alert for the operator (RFC 5782 §5).
    pub async fn self_test(&self) -> Vec<ListTest> {
        let Lists { resolver, lists } = &self.0;
        join_all(lists.iter().map(|list| list.test_addresses(&**resolver))).await
    }

    /// What the lists say of this address.
    pub async fn examine_address(&self, client: IpAddr) -> Observation {
        let client = client.to_canonical();
        if !is_of_the_internet(client) {
            return Observation::new();
        }
        self.0.look_up(&[Listed::Address(client)], &DNSBL, &DNSBL_REFUSING).await
    }
}

/// Asks blocklists of domains about those of the reverse-path and of the greeting, all at the same time (RFC 5782 §3).
#[derive(Clone)]
pub struct DomainDnsbl(Lists);

impl DomainDnsbl {
    /// Without a list, by this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self(Lists::new(resolver))
    }

    /// With a list of domains.
    #[must_use]
    pub fn with(mut self, list: DnsList) -> Self {
        self.0.lists.push(Arc::new(TestedList::new(list)));
        self
    }

    /// Tests all lists now; those that are off are an alert for the operator (RFC 5782 §5).
    pub async fn self_test(&self) -> Vec<ListTest> {
        let Lists { resolver, lists } = &self.0;
        join_all(lists.iter().map(|list| list.test_domains(&**resolver))).await
    }

    /// What the lists say of these domains; they are not asked about what is not fully qualified, nor about numbers.
    pub async fn examine_domains<'a>(&self, domains: impl IntoIterator<Item = &'a Domain>) -> Observation {
        let mut names: Vec<_> = domains.into_iter().filter_map(qualified).collect();
        names.sort();
        names.dedup();
        let names: Vec<_> = names.iter().map(Listed::Domain).collect();
        self.0.look_up(&names, &DOMAIN_DNSBL, &DOMAIN_DNSBL_REFUSING).await
    }
}

/// Lists, and whom to ask for them.
#[derive(Clone)]
struct Lists {
    resolver: Arc<dyn Resolver>,
    lists: Vec<Arc<TestedList>>,
}

impl Lists {
    fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver), lists: Vec::new() }
    }

    /// One finding for each list and each of these.
    async fn look_up(&self, all: &[Listed<'_>], scoring: &Practice, refusing: &Practice) -> Observation {
        let resolver = &*self.resolver;
        let pairs = self.lists.iter().flat_map(|list| all.iter().map(move |who| (list, who)));
        let findings = join_all(pairs.map(|(tested, who)| async move {
            let list = &tested.list;
            let practice = if list.refuses() { refusing.name() } else { scoring.name() };
            match tested.look_up(resolver, who).await {
                Listing::Listed(codes) => {
                    let finding = Finding::fail(practice, format!("{who} is on {}: {codes:?}", list.zone()))
                        .with_explanation(tested.explanation(resolver, who).await);
                    match list.weight() {
                        Some(weight) => finding.with_weight(weight),
                        None => finding,
                    }
                }
                Listing::NotListed => Finding::pass(practice, format!("{who} is not on {}", list.zone())),
                Listing::Unknown => Finding::unknown(practice, format!("no answer of {} for {who}", list.zone())),
            }
        }));
        findings.await.into_iter().collect()
    }
}

/// Whether others know this address by the same name.
pub(crate) fn is_of_the_internet(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_private() || address.is_loopback() || address.is_link_local() || address.is_unspecified())
        }
        IpAddr::V6(address) => {
            !(address.is_unique_local()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified())
        }
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.lists).finish()
    }
}

impl fmt::Debug for Dnsbl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dnsbl").field(&self.0).finish()
    }
}

impl fmt::Debug for DomainDnsbl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DomainDnsbl").field(&self.0).finish()
    }
}

#[async_trait]
impl Check for Dnsbl {
    fn practices(&self) -> &[Practice] {
        &[DNSBL, DNSBL_REFUSING]
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

#[async_trait]
impl Check for DomainDnsbl {
    fn practices(&self) -> &[Practice] {
        &[DOMAIN_DNSBL, DOMAIN_DNSBL_REFUSING]
    }

    fn scope(&self) -> Scope {
        Scope::Sender
    }

    fn asks_dns(&self) -> bool {
        true
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let reverse_path = subject.transaction().and_then(|transaction| transaction.reverse_path().mailbox());
        let greeting = subject.connection().greeting().map(Greeting::host).and_then(Host::domain);
        self.examine_domains(reverse_path.and_then(Mailbox::domain).into_iter().chain(greeting)).await
    }
}

#[cfg(test)]
mod tests {
    use smtp_core::{RecordType, ResolverTable};

    use super::*;
    use crate::dns_list::ListHealth;
    use crate::finding::Outcome;

    fn list(zone: &str) -> DnsList {
        DnsList::new(zone.parse().expect("a name"))
    }

    fn working(dns: ResolverTable, zones: &[&str]) -> ResolverTable {
        zones.iter().fold(dns, |dns, zone| dns.with_address(&format!("2.0.0.127.{zone}"), "127.0.0.2"))
    }

    async fn outcomes(lists: &Dnsbl, client: &str) -> Vec<(&'static str, Outcome, Option<u16>)> {
        let seen = lists.examine_address(client.parse().expect("an address")).await;
        seen.findings().iter().map(|finding| (finding.practice(), finding.outcome(), finding.weight())).collect()
    }

    #[tokio::test] // PRACTICES S27, RFC 5782 §2.1, §2.4
    async fn s27_each_list_has_its_say() {
        use Outcome::{Fail, Pass, Unknown};
        let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2";
        let dns = working(ResolverTable::new(), &["a.example", "b.example"])
            .with_address("1.2.0.192.a.example", "127.0.0.2")
            .with_address("1.2.0.192.b.example", "127.0.0.10")
            .with_address(&format!("{nibbles}.b.example"), "127.0.0.4")
            .with_address("1.2.0.192.dead.example", "127.0.0.2");
        let codes = "127.0.0.2".parse().expect("an address")..="127.0.0.9".parse().expect("an address");
        let lists = Dnsbl::new(dns.clone())
            .with(list("a.example").with_weight(7))
            .with(list("b.example").counting(codes).refusing())
            .with(list("dead.example"));
        for (client, of_a, of_b) in [
            ("192.0.2.1", ("dnsbl", Fail, Some(7)), ("dnsbl-refusing", Pass, None)),
            ("::ffff:192.0.2.1", ("dnsbl", Fail, Some(7)), ("dnsbl-refusing", Pass, None)),
            ("192.0.2.2", ("dnsbl", Pass, None), ("dnsbl-refusing", Pass, None)),
            ("2001:db8::1", ("dnsbl", Pass, None), ("dnsbl-refusing", Fail, None)),
        ] {
            assert_eq!(outcomes(&lists, client).await, [of_a, of_b, ("dnsbl", Unknown, None)], "{client}");
        }
        let health: Vec<_> = lists.self_test().await.iter().map(|test| (test.is_on(), test.health())).collect();
        let works = (true, ListHealth::Works);
        assert_eq!(health, [works, works, (false, ListHealth::Dead)]);
        let asked = dns.asked().len();
        for client in ["10.0.0.1", "127.0.0.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"] {
            assert_eq!(outcomes(&lists, client).await, [], "{client}");
        }
        assert_eq!(dns.asked().len(), asked, "nobody is told of them");
    }

    #[tokio::test] // RFC 5782 §2.1, SECURITY D-26
    async fn d26_the_words_of_a_list_are_asked_for_where_it_refuses_and_are_harmless() {
        let words = format!("Spam\r\n250 ok \x1b[1m{}", "x".repeat(10_000));
        let dns = working(ResolverTable::new(), &["a.example", "b.example", "c.example"])
            .with_address("1.2.0.192.a.example", "127.0.0.2")
            .with_address("1.2.0.192.b.example", "127.0.0.2")
            .with_address("1.2.0.192.c.example", "127.0.0.2")
            .with_txt("1.2.0.192.a.example", &words)
            .with_txt("1.2.0.192.b.example", &words);
        let lists = Dnsbl::new(dns.clone())
            .with(list("a.example"))
            .with(list("b.example").refusing())
            .with(list("c.example").refusing().with_text("see https://c.example/"));
        let seen = lists.examine_address("192.0.2.1".parse().expect("an address")).await;
        let told: Vec<_> = seen.findings().iter().filter_map(Finding::explanation).map(ToString::to_string).collect();
        let [a, b, c] = &told[..] else { panic!("{told:?}") };
        assert_eq!(a, "192.0.2.1 is on a.example");
        assert!(b.starts_with("192.0.2.1 is on b.example: Spam??250 ok ?[1mxxx") && b.len() < 300, "{b}");
        assert_eq!(c, "192.0.2.1 is on c.example: see https://c.example/");
        let asked: Vec<_> = dns.asked().into_iter().filter(|(_, kind)| *kind == RecordType::Txt).collect();
        assert_eq!(asked.len(), 1, "{asked:?}");
    }

    #[tokio::test] // RFC 5782 §3, §5
    async fn s27_domains_have_lists_of_their_own() {
        use Outcome::{Fail, Pass};
        let dns = ResolverTable::new()
            .with_address("test.d.example", "127.0.0.2")
            .with_address("bad.example.d.example", "127.0.1.2")
            .with_address("xn--bcher-kva.example.d.example", "127.0.1.2");
        let lists = DomainDnsbl::new(dns).with(list("d.example"));
        assert!(lists.self_test().await.iter().all(ListTest::is_on));
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        let long =
            [["x".repeat(60), "x".repeat(60), "x".repeat(60), "x".repeat(60)].join("."), "example".into()].join(".");
        for (domains, expected) in [
            (vec![domain("good.example")], vec![Pass]),
            (vec![domain("BAD.example"), domain("bad.example")], vec![Fail]),
            (vec![domain("good.example"), domain("b\u{fc}cher.example")], vec![Pass, Fail]),
            (vec![domain(&long)], vec![Pass]),
            (vec![domain("test"), domain("192.0.2.1")], vec![]),
            (vec![], vec![]),
        ] {
            let seen = lists.examine_domains(&domains).await;
            let found: Vec<_> = seen.findings().iter().map(Finding::outcome).collect();
            assert_eq!(found, expected, "{domains:?}");
        }
    }
}
