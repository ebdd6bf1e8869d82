//! Lists in DNS: what is asked, which answers count, and whether a list can be believed (RFC 5782).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use smtp_core::{Answer, DnsName, Resolver, SafeText};
use tokio::time::Instant;

/// A test of a list holds for this long (ours): 1 hour; one without an answer for 1 minute.
const TEST_HOLDS: Duration = Duration::from_secs(3_600);
const FAILED_TEST_HOLDS: Duration = Duration::from_secs(60);
/// How much of a list's words is told (ours).
const WORDS_LIMIT_OCTETS: usize = 200;

/// One list in DNS, of addresses or of domains: its zone and what is made of its answers.
///
/// ```
/// use smtp_policy::DnsList;
///
/// let list = DnsList::new("list.example".parse()?)
///     .counting("127.0.0.2".parse()?..="127.0.0.11".parse()?)
///     .with_weight(4)
///     .with_text("see https://list.example/");
/// assert_eq!(list.zone().as_str(), "list.example");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct DnsList {
    zone: DnsName,
    codes: Vec<RangeInclusive<Ipv4Addr>>,
    weight: Option<u16>,
    refuses: bool,
    text: Option<SafeText>,
}

impl DnsList {
    /// The list of that zone. Every answer in 127.0.0.0/8 counts that is no error message: see [`DnsList::read`].
    pub fn new(zone: DnsName) -> Self {
        Self { zone, codes: Vec::new(), weight: None, refuses: false, text: None }
    }

    /// Only these answers count, and those of other calls (RFC 5782 §2.3).
    #[must_use]
    pub fn counting(mut self, codes: RangeInclusive<Ipv4Addr>) -> Self {
        self.codes.push(codes);
        self
    }

    /// What it adds to the score where it scores. Default: that of the practice.
    #[must_use]
    pub fn with_weight(self, weight: u16) -> Self {
        Self { weight: Some(weight), ..self }
    }

    /// Who is on it is refused, where others only score; its own words tell why: the `TXT` record (RFC 5782 §2.1).
    #[must_use]
    pub fn refusing(self) -> Self {
        Self { refuses: true, ..self }
    }

    /// What a refused client is told, in the place of the list's own words.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: Some(SafeText::new(text.into())), ..self }
    }

    /// Its zone.
    pub fn zone(&self) -> &DnsName {
        &self.zone
    }

    /// What it adds to the score.
    pub fn weight(&self) -> Option<u16> {
        self.weight
    }

    /// Whether it refuses.
    pub fn refuses(&self) -> bool {
        self.refuses
    }

    /// What an answer of the list says.
    ///
    /// An answer outside 127.0.0.0/8 comes from somebody else: the list is gone, or its name is taken. 127.255.255.0/24 and
    /// 127.0.0.1 say that the question was not welcome. One such makes the whole answer unknown.
    pub fn read(&self, answer: &Answer<Vec<Ipv4Addr>>) -> Listing {
        match read_codes(answer) {
            Listing::Listed(mut codes) => {
                codes.retain(|code| self.codes.is_empty() || self.codes.iter().any(|range| range.contains(code)));
                if codes.is_empty() { Listing::NotListed } else { Listing::Listed(codes) }
            }
            other => other,
        }
    }
}

fn read_codes(answer: &Answer<Vec<Ipv4Addr>>) -> Listing {
    let is_error = |code: &Ipv4Addr| !code.is_loopback() || matches!(code.octets(), [_, 255, 255, _] | [_, 0, 0, 1]);
    match answer {
        Answer::Found { data, .. } if data.is_empty() || data.iter().any(is_error) => Listing::Unknown,
        Answer::Found { data, .. } => {
            let mut codes = data.clone();
            codes.sort_unstable();
            codes.dedup();
            Listing::Listed(codes)
        }
        Answer::Absent => Listing::NotListed,
        Answer::Unknown => Listing::Unknown,
    }
}

/// What a list says of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listing {
    /// On the list, with these codes, of which each means what the list says it means.
    Listed(Vec<Ipv4Addr>),
    /// Not on it, or for reasons that do not count.
    NotListed,
    /// No answer, or one that cannot be believed.
    Unknown,
}

/// What came of the test of a list: of addresses, 127.0.0.2 is on it and 127.0.0.1 is not, or `::ffff:127.0.0.2` and
/// `::ffff:127.0.0.1` where it has IPv6 addresses alone; of domains, `TEST` is on it and `INVALID` is not (RFC 5782 §5). Only a
/// list that works is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListTest {
    zone: DnsName,
    health: ListHealth,
}

/// Whether a list can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListHealth {
    /// It lists what it must, and not what it must not.
    Works,
    /// It does not list what it must: it is empty, or gone.
    Dead,
    /// It lists what it must not: perhaps everybody.
    ListsAnybody,
    /// It answers as lists do not, or not at all.
    Unknown,
}

impl ListTest {
    /// The zone of the list.
    pub fn zone(&self) -> &DnsName {
        &self.zone
    }

    /// What came of it.
    pub fn health(&self) -> ListHealth {
        self.health
    }

    /// Whether the list is used.
    pub fn is_on(&self) -> bool {
        self.health == ListHealth::Works
    }
}

impl fmt::Display for ListTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = match self.health {
            ListHealth::Works => "works",
            ListHealth::Dead => "is off: it does not list what every list must",
            ListHealth::ListsAnybody => "is off: it lists what no list may",
            ListHealth::Unknown => "is off: it gives no answer that can be believed",
        };
        write!(f, "{} {health}", self.zone)
    }
}

/// What a list is asked about.
#[derive(Debug, Clone)]
pub(crate) enum Listed<'a> {
    Address(IpAddr),
    Domain(&'a DnsName),
}

impl Listed<'_> {
    /// The name to ask for; `None` where it would be too long.
    fn name_in(&self, zone: &DnsName) -> Option<DnsName> {
        match self {
            Self::Address(address) => DnsName::of_address(*address, zone),
            Self::Domain(domain) => zone.child(domain.as_str()),
        }
    }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

/// A list, and what its last test says of it.
#[derive(Debug)]
pub(crate) struct TestedList {
    pub(crate) list: DnsList,
    tested: Mutex<Option<(ListHealth, Instant)>>,
}

impl TestedList {
    pub(crate) fn new(list: DnsList) -> Self {
        Self { list, tested: Mutex::new(None) }
    }

    /// Tests it now: one of these must be listed, the other must not.
    pub(crate) async fn test(&self, resolver: &dyn Resolver, listed: &Listed<'_>, unlisted: &Listed<'_>) -> ListTest {
        let (listed, unlisted) = tokio::join!(self.ask(resolver, listed), self.ask(resolver, unlisted));
        let health = match (read_codes(&listed), read_codes(&unlisted)) {
            (_, Listing::Listed(_)) => ListHealth::ListsAnybody,
            (Listing::Unknown, _) | (_, Listing::Unknown) => ListHealth::Unknown,
            (Listing::NotListed, Listing::NotListed) => ListHealth::Dead,
            (Listing::Listed(_), Listing::NotListed) => ListHealth::Works,
        };
        let holds = if health == ListHealth::Unknown { FAILED_TEST_HOLDS } else { TEST_HOLDS };
        *self.tested.lock().unwrap_or_else(PoisonError::into_inner) = Some((health, Instant::now() + holds));
        ListTest { zone: self.list.zone.clone(), health }
    }

    /// What it says of somebody. It is tested before, where the last test is too old; a list that is off says nothing.
    pub(crate) async fn look_up(&self, resolver: &dyn Resolver, who: &Listed<'_>) -> Listing {
        let last = *self.tested.lock().unwrap_or_else(PoisonError::into_inner);
        let health = match last {
            Some((health, until)) if Instant::now() < until => health,
            _ => match who {
                Listed::Address(_) => self.test_addresses(resolver).await.health,
                Listed::Domain(_) => self.test_domains(resolver).await.health,
            },
        };
        if health == ListHealth::Works { self.list.read(&self.ask(resolver, who).await) } else { Listing::Unknown }
    }

    pub(crate) async fn test_addresses(&self, resolver: &dyn Resolver) -> ListTest {
        let [listed, unlisted] = [2, 1].map(|last| Listed::Address(Ipv4Addr::new(127, 0, 0, last).into()));
        let test = self.test(resolver, &listed, &unlisted).await;
        if test.health != ListHealth::Dead {
            return test;
        }
        // A list of IPv6 addresses alone has them in nibbles.
        let [listed, unlisted] = [2, 1].map(|last| {
            let zeros = ["0"; 20].join(".");
            DnsName::parse(format!("{last}.0.0.0.0.0.f.7.f.f.f.f.{zeros}")).expect("32 labels of one octet")
        });
        self.test(resolver, &Listed::Domain(&listed), &Listed::Domain(&unlisted)).await
    }

    pub(crate) async fn test_domains(&self, resolver: &dyn Resolver) -> ListTest {
        let [listed, unlisted] = ["test", "invalid"].map(|name| DnsName::parse(name).expect("one label"));
        self.test(resolver, &Listed::Domain(&listed), &Listed::Domain(&unlisted)).await
    }

    /// The list's own words about somebody, cleaned.
    pub(crate) async fn words(&self, resolver: &dyn Resolver, who: &Listed<'_>) -> Option<SafeText> {
        let texts = resolver.txt(&who.name_in(&self.list.zone)?).await.found()?;
        let text = texts.into_iter().min()?;
        Some(SafeText::from_octets(&text[..text.len().min(WORDS_LIMIT_OCTETS)]))
    }

    /// What a refused client is told.
    pub(crate) async fn explanation(&self, resolver: &dyn Resolver, who: &Listed<'_>) -> String {
        let text = match &self.list.text {
            Some(text) => Some(text.clone()),
            None if self.list.refuses => self.words(resolver, who).await,
            None => None,
        };
        match text {
            Some(text) => format!("{who} is on {}: {text}", self.list.zone),
            None => format!("{who} is on {}", self.list.zone),
        }
    }

    async fn ask(&self, resolver: &dyn Resolver, who: &Listed<'_>) -> Answer<Vec<Ipv4Addr>> {
        match who.name_in(&self.list.zone) {
            Some(name) => resolver.ipv4(&name).await,
            None => Answer::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use smtp_core::ResolverTable;

    use super::*;

    fn found(codes: &[&str]) -> Answer<Vec<Ipv4Addr>> {
        let data = codes.iter().map(|code| code.parse().expect("an address")).collect();
        Answer::Found { data, secure: false, ttl: Duration::from_secs(60) }
    }

    #[test] // STANDARDS R5782: only answers in 127/8 count; RFC 5782 §2.3
    fn r5782_which_answers_count() {
        let zone: DnsName = "list.example".parse().expect("a name");
        let range = |from: &str, to: &str| from.parse().expect("an address")..=to.parse().expect("an address");
        let all = DnsList::new(zone);
        let some = all.clone().counting(range("127.0.0.2", "127.0.0.11")).counting(range("127.0.1.2", "127.0.1.2"));
        for (codes, of_all, of_some) in [
            (&["127.0.0.2"][..], 1, 1),
            (&["127.0.0.11", "127.0.0.2", "127.0.0.2"], 2, 2),
            (&["127.0.0.12"], 1, 0),
            (&["127.0.1.2", "127.0.0.12"], 2, 1),
            (&["127.1.2.3"], 1, 0),
            // Errors and strangers: unknown.
            (&["127.0.0.1"], -1, -1),
            (&["127.255.255.252"], -1, -1),
            (&["127.255.255.254", "127.0.0.2"], -1, -1),
            (&["192.0.2.1"], -1, -1),
            (&["127.0.0.2", "192.0.2.1"], -1, -1),
            (&["0.0.0.0"], -1, -1),
            (&[], -1, -1),
        ] {
            for (list, expected) in [(&all, of_all), (&some, of_some)] {
                let count = match list.read(&found(codes)) {
                    Listing::Listed(codes) => i32::try_from(codes.len()).expect("a few"),
                    Listing::NotListed => 0,
                    Listing::Unknown => -1,
                };
                assert_eq!(count, expected, "{codes:?}");
            }
        }
        assert_eq!(all.read(&Answer::Absent), Listing::NotListed);
        assert_eq!(all.read(&Answer::Unknown), Listing::Unknown);
    }

    #[tokio::test(start_paused = true)] // STANDARDS R5782, RFC 5782 §5
    async fn r5782_a_list_that_fails_its_test_is_off_and_comes_back() {
        let of = |dns: ResolverTable| async move {
            let list = TestedList::new(DnsList::new("list.example".parse().expect("a name")));
            let test = list.test_addresses(&dns).await;
            let client = Listed::Address("192.0.2.1".parse().expect("an address"));
            (test.health(), list.look_up(&dns, &client).await)
        };
        let client = |dns: ResolverTable| dns.with_address("1.2.0.192.list.example", "127.0.0.2");
        let works = client(ResolverTable::new().with_address("2.0.0.127.list.example", "127.0.0.2"));
        let listed = Listing::Listed(vec![Ipv4Addr::new(127, 0, 0, 2)]);
        assert_eq!(of(works.clone()).await, (ListHealth::Works, listed.clone()));
        let dead = client(ResolverTable::new());
        assert_eq!(of(dead.clone()).await, (ListHealth::Dead, Listing::Unknown));
        let anybody = works.clone().with_address("1.0.0.127.list.example", "127.0.0.2");
        assert_eq!(of(anybody).await, (ListHealth::ListsAnybody, Listing::Unknown));
        let taken = client(ResolverTable::new())
            .with_address("2.0.0.127.list.example", "192.0.2.80")
            .with_address("1.0.0.127.list.example", "192.0.2.80");
        assert_eq!(of(taken).await, (ListHealth::Unknown, Listing::Unknown));
        let silent = client(ResolverTable::new()).with_unknown("list.example");
        assert_eq!(of(silent).await, (ListHealth::Unknown, Listing::Unknown));

        let six = ResolverTable::new()
            .with_address(&format!("2.0.0.0.0.0.f.7.f.f.f.f{}.list.example", ".0".repeat(20)), "127.0.0.2");
        assert_eq!(of(six.clone()).await, (ListHealth::Works, Listing::NotListed));
        let six_of_anybody =
            six.with_address(&format!("1.0.0.0.0.0.f.7.f.f.f.f{}.list.example", ".0".repeat(20)), "127.0.0.2");
        assert_eq!(of(six_of_anybody).await, (ListHealth::ListsAnybody, Listing::Unknown));

        // Nobody has to think of the test, and it is made again.
        let list = TestedList::new(DnsList::new("list.example".parse().expect("a name")));
        let client = Listed::Address("192.0.2.1".parse().expect("an address"));
        assert_eq!(list.look_up(&dead, &client).await, Listing::Unknown);
        assert_eq!(list.look_up(&works, &client).await, Listing::Unknown, "the test holds for a while");
        tokio::time::advance(TEST_HOLDS).await;
        assert_eq!(list.look_up(&works, &client).await, listed);
        let asked = works.asked().len();
        assert_eq!(list.look_up(&works, &client).await, listed);
        assert_eq!(works.asked().len(), asked + 1, "one question");
    }
}
