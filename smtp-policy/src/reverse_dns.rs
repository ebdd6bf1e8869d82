//! Does the client's address have a name, and the name that address? (PRACTICES S1 to S3, S5; RFC 8601 §2.7.3)

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use smtp_core::{Answer, DnsName, Resolver, async_trait};
use tokio::task::JoinSet;

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::Practice;

/// The client address has a `PTR` record.
const REVERSE_NAME: Practice = of_reverse_dns("reverse-name", "S1", "The client address has a name", [0, 3, 3]);
/// The name has addresses.
const REVERSE_NAME_ADDRESS: Practice =
    of_reverse_dns("reverse-name-address", "S2", "A name of the client address has addresses", [0, 3, 3]);
/// One of them is the client's.
const REVERSE_NAME_CONFIRMED: Practice =
    of_reverse_dns("reverse-name-confirmed", "S3", "A name of the client address has that address", [0, 2, 2]);
/// The name does not look like one of a pool: a guess by pattern, which never decides alone.
const REVERSE_NAME_GENERIC: Practice =
    Practice::new("reverse-name-generic", "S5", "The name of the client does not look generic")
        .fails([Action::Off, Action::Score, Action::Score], [0, 1, 2]);

const fn of_reverse_dns(name: &'static str, id: &'static str, about: &'static str, weights: [u16; 3]) -> Practice {
    Practice::new(name, id, about)
        .fails([Action::Observe, Action::Score, Action::Reject], weights)
        .unknown([Action::Observe, Action::Observe, Action::Defer])
        .refuses(7, 25, "Your address needs a reverse name that leads back to it")
        .when_unknown("The name of your address cannot be looked up now, try again later")
        .with_transient_code(450)
}

/// How many names of an address are looked at.
const NAMES_LIMIT: usize = 10;

/// The name of a client whose address has it and which has that address: what [`ReverseDns`] leaves for other checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmedName(pub DnsName);

/// Looks the client's address up in both directions: forward-confirmed reverse DNS, `iprev` in `Authentication-Results`.
///
/// Of more than ten names the first ten are looked at. A name that does not lead back appears nowhere.
#[derive(Clone)]
pub struct ReverseDns {
    resolver: Arc<dyn Resolver>,
}

impl ReverseDns {
    /// By this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver) }
    }

    /// What is to be said of this address.
    pub async fn examine_address(&self, client: IpAddr) -> Observation {
        let client = client.to_canonical();
        let result = |result| format!("iprev={result} policy.iprev={client}");
        let names = match self.resolver.ptr(client).await {
            Answer::Found { data, .. } if !data.is_empty() => data,
            Answer::Found { .. } => {
                let finding = Finding::fail(REVERSE_NAME.name(), format!("what names {client} is no name"));
                return Observation::from(finding).with_result(result("permerror"));
            }
            Answer::Absent => {
                let finding = Finding::fail(REVERSE_NAME.name(), format!("{client} has no name"));
                return Observation::from(finding).with_result(result("fail"));
            }
            Answer::Unknown => {
                let finding = Finding::unknown(REVERSE_NAME.name(), format!("no answer for the name of {client}"));
                return Observation::from(finding).with_result(result("temperror"));
            }
        };
        let seen = Observation::from(Finding::pass(REVERSE_NAME.name(), format!("{} names", names.len())));
        let (mut some_has_addresses, mut some_is_unknown) = (false, false);
        for (name, addresses) in self.forward(names, client).await {
            match addresses {
                Answer::Found { data, .. } => {
                    some_has_addresses = true;
                    if data.contains(&client) {
                        return seen
                            .with(Finding::pass(REVERSE_NAME_ADDRESS.name(), name.to_string()))
                            .with(Finding::pass(REVERSE_NAME_CONFIRMED.name(), name.to_string()))
                            .with(looks(&name, client))
                            .with_result(result("pass"))
                            .with_fact(ConfirmedName(name));
                    }
                }
                Answer::Absent => {}
                Answer::Unknown => some_is_unknown = true,
            }
        }
        let (practice, what) = if some_has_addresses {
            (REVERSE_NAME_CONFIRMED, format!("no name of {client} leads back to it"))
        } else {
            (REVERSE_NAME_ADDRESS, format!("no name of {client} has an address"))
        };
        if some_is_unknown {
            return seen.with(Finding::unknown(practice.name(), what)).with_result(result("temperror"));
        }
        seen.with(Finding::fail(practice.name(), what)).with_result(result("fail"))
    }

    /// The addresses of the family of the client, of the first names, asked for at the same time; in the order of the names.
    async fn forward(&self, names: Vec<DnsName>, client: IpAddr) -> Vec<(DnsName, Answer<Vec<IpAddr>>)> {
        let mut asked = JoinSet::new();
        for (place, name) in names.into_iter().take(NAMES_LIMIT).enumerate() {
            let resolver = self.resolver.clone();
            asked.spawn(async move {
                let addresses = addresses(&*resolver, &name, client.is_ipv6()).await;
                (place, name, addresses)
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(place, ..)| *place);
        answers.into_iter().map(|(_, name, addresses)| (name, addresses)).collect()
    }
}

/// The addresses of one family.
pub(crate) async fn addresses(resolver: &dyn Resolver, name: &DnsName, is_ipv6: bool) -> Answer<Vec<IpAddr>> {
    if is_ipv6 {
        resolver.ipv6(name).await.map(|addresses| addresses.into_iter().map(IpAddr::V6).collect())
    } else {
        resolver.ipv4(name).await.map(|addresses| addresses.into_iter().map(IpAddr::V4).collect())
    }
}

fn looks(name: &DnsName, client: IpAddr) -> Finding {
    match generic_sign(name, client) {
        Some(sign) => Finding::fail(REVERSE_NAME_GENERIC.name(), format!("{name} has {sign}")),
        None => Finding::pass(REVERSE_NAME_GENERIC.name(), name.to_string()),
    }
}

/// Words that providers put into the names of addresses which they lend, as whole parts of a label.
const GENERIC_WORDS: [&str; 16] = [
    "adsl",
    "broadband",
    "cable",
    "client",
    "customer",
    "dhcp",
    "dial",
    "dialup",
    "dsl",
    "dyn",
    "dynamic",
    "host",
    "pool",
    "ppp",
    "pppoe",
    "vdsl",
];

/// What makes a name look as if nobody had chosen it for a mail server.
pub(crate) fn generic_sign(name: &DnsName, client: IpAddr) -> Option<String> {
    let host: Vec<&str> = name.as_str().split('.').collect();
    let own = &host[..host.len().saturating_sub(2)];
    let parts: Vec<&str> = own.iter().flat_map(|label| label.split(['-', '_'])).collect();
    if let Some(word) = parts
        .iter()
        .map(|part| part.trim_end_matches(|c: char| c.is_ascii_digit()))
        .find(|part| GENERIC_WORDS.binary_search(part).is_ok())
    {
        return Some(format!("the word `{word}`"));
    }
    if let IpAddr::V4(address) = client {
        let octets = address.octets().map(|octet| octet.to_string());
        let numbers: Vec<&str> = own.iter().flat_map(|label| label.split(|c: char| !c.is_ascii_digit())).collect();
        let present =
            octets.iter().filter(|octet| numbers.iter().any(|n| n.trim_start_matches('0') == **octet)).count();
        if present >= 3 {
            return Some("the octets of its address".to_owned());
        }
        let hex = format!("{:08x}", address.to_bits());
        if own.iter().any(|label| label.contains(&hex)) {
            return Some("its address in hexadecimal".to_owned());
        }
    }
    None
}

impl fmt::Debug for ReverseDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseDns").finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for ReverseDns {
    fn practices(&self) -> &[Practice] {
        &[REVERSE_NAME, REVERSE_NAME_ADDRESS, REVERSE_NAME_CONFIRMED, REVERSE_NAME_GENERIC]
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
    use smtp_core::{RecordType, ResolverTable};

    use super::*;
    use crate::finding::Outcome;

    async fn seen(dns: &ResolverTable, client: &str) -> (Vec<(&'static str, Outcome)>, String, Option<String>) {
        let seen = ReverseDns::new(dns.clone()).examine_address(client.parse().expect("an address")).await;
        let findings = seen.findings().iter().map(|finding| (finding.practice(), finding.outcome())).collect();
        let name = seen.fact::<ConfirmedName>().map(|ConfirmedName(name)| name.to_string());
        (findings, seen.results().join("; "), name)
    }

    #[tokio::test] // PRACTICES S1, S2, S3; RFC 8601 §2.7.3
    async fn s1_s2_s3_names_and_addresses_by_every_answer_of_dns() {
        use Outcome::{Fail, Pass, Unknown};
        let dns = ResolverTable::new()
            .with_host("mx.client.example", "192.0.2.1")
            .with_host("mx6.client.example", "2001:db8::1")
            .with_ptr("192.0.2.2", "gone.example")
            .with_ptr("192.0.2.3", "mx.client.example")
            .with_ptr("192.0.2.4", "slow.example")
            .with_ptr("192.0.2.5", "gone.example")
            .with_ptr("192.0.2.5", "slow.example")
            .with_ptr("192.0.2.6", "slow.example")
            .with_ptr("192.0.2.6", "six.client.example")
            .with_address("six.client.example", "192.0.2.6")
            .with_unknown("slow.example")
            .with_unknown_ptr("192.0.2.7");
        let name = ("reverse-name", Pass);
        let confirmed = vec![
            name,
            ("reverse-name-address", Pass),
            ("reverse-name-confirmed", Pass),
            ("reverse-name-generic", Pass),
        ];
        for (client, findings, result) in [
            ("192.0.2.1", confirmed.clone(), "pass"),
            ("::ffff:192.0.2.1", confirmed.clone(), "pass"),
            ("2001:db8::1", confirmed.clone(), "pass"),
            ("192.0.2.9", vec![("reverse-name", Fail)], "fail"),
            ("192.0.2.2", vec![name, ("reverse-name-address", Fail)], "fail"),
            ("192.0.2.3", vec![name, ("reverse-name-confirmed", Fail)], "fail"),
            ("192.0.2.4", vec![name, ("reverse-name-address", Unknown)], "temperror"),
            ("192.0.2.5", vec![name, ("reverse-name-address", Unknown)], "temperror"),
            ("192.0.2.6", confirmed, "pass"),
            ("192.0.2.7", vec![("reverse-name", Unknown)], "temperror"),
        ] {
            let (found, results, name) = seen(&dns, client).await;
            let passes = result == "pass";
            assert_eq!((found, name.is_some()), (findings, passes), "{client}");
            let address = client.trim_start_matches("::ffff:");
            assert_eq!(results, format!("iprev={result} policy.iprev={address}"));
        }
    }

    #[tokio::test] // PRACTICES S1: 100 PTRs, 10 used; S3: a match on the last of ten
    async fn s1_of_a_hundred_names_ten_are_looked_at() {
        for (place, passes) in [(9, true), (10, false)] {
            let mut dns = ResolverTable::new();
            for number in 0..100 {
                dns = dns.with_ptr("192.0.2.1", &format!("n{number}.client.example"));
            }
            dns = dns.with_address(&format!("n{place}.client.example"), "192.0.2.1");
            assert_eq!(seen(&dns, "192.0.2.1").await.2.is_some(), passes);
            let forward = dns.asked().iter().filter(|(_, kind)| *kind == RecordType::A).count();
            assert_eq!(forward, 10);
        }
    }

    /// Two hundred names: of a hundred that providers made, how many are known for that, and how many of those that
    /// administrators chose are taken for one.
    #[test] // PRACTICES S5: measured precision
    fn s5_of_two_hundred_names_hardly_one_is_taken_for_generic_that_is_not() {
        let names = include_str!("../tests/data/reverse_names.txt");
        let (mut found, mut missed, mut wrong, mut right) = (0, Vec::new(), Vec::new(), 0);
        for line in names.lines().filter(|line| !line.starts_with('#')) {
            let [kind, client, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let parsed: DnsName = name.parse().expect("a name");
            match (kind, generic_sign(&parsed, client.parse().expect("an address")).is_some()) {
                ("generic", true) => found += 1,
                ("generic", false) => missed.push(name),
                (_, true) => wrong.push(name),
                (_, false) => right += 1,
            }
        }
        println!("found {found}, missed {}, wrong {}, right {right}", missed.len(), wrong.len());
        assert_eq!(found + missed.len() + wrong.len() + right, 200);
        // Of a hundred that are called generic, two are not at most; nine of ten are found.
        assert!(wrong.len() * 50 <= found && missed.len() * 9 <= found, "wrong: {wrong:?}, missed: {missed:?}");
    }

    #[test] // PRACTICES S5: the signs, one by one
    fn s5_names_that_look_generic() {
        for (name, client, is_generic) in [
            ("mail.example.org", "192.0.2.1", false),
            ("mx1.example.org", "192.0.2.1", false),
            ("mail-192.example.org", "192.0.2.1", false),
            ("hosting.example.org", "192.0.2.1", false),
            ("dsl.example", "192.0.2.1", false),
            ("192-0-2-1.example.org", "192.0.2.1", true),
            ("1.2.0.192.example.org", "192.0.2.1", true),
            ("c0000201.example.org", "192.0.2.1", true),
            ("dyn-17.provider.example", "192.0.2.1", true),
            ("pool12.provider.example", "192.0.2.1", true),
            ("x.dsl.provider.example", "2001:db8::1", true),
            ("ip192x000x002x001.example.org", "192.0.2.1", true),
        ] {
            let name: DnsName = name.parse().expect("a name");
            let sign = generic_sign(&name, client.parse().expect("an address"));
            assert_eq!(sign.is_some(), is_generic, "{name}: {sign:?}");
        }
        assert!(GENERIC_WORDS.is_sorted());
    }
}
