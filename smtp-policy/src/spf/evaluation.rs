//! `check_host()`: what the record of a domain says of a client (RFC 7208 §4).
//!
//! At most ten terms ask DNS, each at most eleven times, so that nobody can use us against others (SECURITY D-23).

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use smtp_core::{Answer, DnsName, Resolver};

use crate::reverse_dns::addresses;

use super::SpfResult;
use super::macros::{MacroString, Use};
use super::record::{Directive, Mechanism, Prefixes, Record, is_record};

/// Terms that ask DNS (RFC 7208 §4.6.4): 10.
const TERMS_LIMIT: usize = 10;
/// Of these, those that get no answer: 2.
const VOIDS_LIMIT: usize = 2;
/// Hosts of an `mx`, and names of the client: 10.
const HOSTS_LIMIT: usize = 10;
/// How long it may take (RFC 7208 §4.6.4): 20 s.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Networks with fewer bits are so wide that to be in one says little (PRACTICES S37).
const NARROW: Prefixes = Prefixes { ipv4: 16, ipv6: 32 };

/// Who is asked about.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) client: IpAddr,
    pub(super) local_part: String,
    pub(super) domain: String,
    pub(super) helo: String,
    /// Who asks.
    pub(super) receiver: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Evaluated {
    pub(super) result: SpfResult,
    /// What it rests on, for the log.
    pub(super) reason: String,
    /// It passes for a reason that would let half of the world pass.
    pub(super) is_wide: bool,
    /// What the domain's owner says about a failure.
    pub(super) explanation: Option<String>,
}

impl Evaluated {
    fn of(result: SpfResult, reason: impl Into<String>) -> Self {
        Self { result, reason: reason.into(), is_wide: false, explanation: None }
    }
}

/// What the domain's own record says.
pub(super) async fn check_host(dns: &dyn Resolver, query: &Query) -> Evaluated {
    // RFC 7208 §4.3: a domain that cannot have a record.
    if DnsName::parse(&query.domain).is_err() || !query.domain.trim_end_matches('.').contains('.') {
        return Evaluated::of(SpfResult::None, "no domain name of several labels");
    }
    let mut evaluation = Evaluation::new(dns, query);
    within_time(async {
        let outcome = evaluation.domain(&query.domain).await;
        evaluation.conclude(outcome).await
    })
    .await
}

/// What this record would say if the domain had it.
pub(super) async fn suppose(dns: &dyn Resolver, query: &Query, record: &str) -> Evaluated {
    let mut evaluation = Evaluation::new(dns, query);
    within_time(async {
        let outcome = match Record::parse(record.as_bytes()) {
            Ok(record) => evaluation.record(&record, &query.domain).await,
            Err(term) => Err(Fault::Permanent(format!("cannot read `{}`", term.0))),
        };
        evaluation.conclude(outcome).await
    })
    .await
}

async fn within_time(evaluated: impl Future<Output = Evaluated>) -> Evaluated {
    let evaluated = tokio::time::timeout(TIME_LIMIT, evaluated).await;
    evaluated.unwrap_or_else(|_elapsed| Evaluated::of(SpfResult::TempError, "took too long"))
}

/// Why there is no result.
#[derive(Debug)]
enum Fault {
    Temporary(String),
    Permanent(String),
}

/// What a record says.
#[derive(Debug)]
struct Said {
    result: SpfResult,
    reason: String,
    is_wide: bool,
    /// The explanation of the record that decided, and its domain.
    explanation: Option<(MacroString, String)>,
}

type Outcome = Result<Said, Fault>;

struct Evaluation<'a> {
    dns: &'a dyn Resolver,
    query: &'a Query,
    terms: usize,
    voids: usize,
    /// The names of the client that lead back to it, once somebody asked.
    names: Option<Vec<DnsName>>,
}

impl<'a> Evaluation<'a> {
    fn new(dns: &'a dyn Resolver, query: &'a Query) -> Self {
        Self { dns, query, terms: 0, voids: 0, names: None }
    }

    /// Looks up the record of a domain, and what it says.
    fn domain<'s>(&'s mut self, domain: &'s str) -> Pin<Box<dyn Future<Output = Outcome> + Send + 's>> {
        Box::pin(async move {
            let none = |reason: &str| {
                let reason = format!("{domain} {reason}");
                Ok(Said { result: SpfResult::None, reason, is_wide: false, explanation: None })
            };
            let Ok(name) = DnsName::parse(domain) else { return none("is no name") };
            let texts = match self.dns.txt(&name).await {
                Answer::Found { data, .. } => data,
                Answer::Absent => return none("has no record"),
                Answer::Unknown => return Err(Fault::Temporary(format!("no answer for {domain}"))),
            };
            let mut records = texts.iter().filter(|text| is_record(text));
            let Some(record) = records.next() else { return none("has no record") };
            if records.next().is_some() {
                return Err(Fault::Permanent(format!("{domain} has several records")));
            }
            let record = Record::parse(record)
                .map_err(|term| Fault::Permanent(format!("{domain} has a record with `{}`", term.0)))?;
            self.record(&record, domain).await
        })
    }

    async fn record(&mut self, record: &Record, domain: &str) -> Outcome {
        for Directive { result, mechanism } in &record.directives {
            if let Some(matched) = self.matches(mechanism, domain).await? {
                let explanation = record.explanation.clone().map(|text| (text, domain.to_owned()));
                let (reason, is_wide) = (format!("{} of {domain}", matched.by), matched.is_wide);
                return Ok(Said { result: *result, reason, is_wide, explanation });
            }
        }
        let Some(redirect) = &record.redirect else {
            let reason = format!("{domain} says nothing of it");
            return Ok(Said { result: SpfResult::Neutral, reason, is_wide: false, explanation: None });
        };
        self.count_term()?;
        let target = self.name(redirect, domain).await?;
        match self.domain(&target).await? {
            Said { result: SpfResult::None, reason, .. } => Err(Fault::Permanent(reason)),
            said => Ok(said),
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<Option<Match>, Fault> {
        let client = self.query.client;
        if !matches!(mechanism, Mechanism::All | Mechanism::Network(_)) {
            self.count_term()?;
        }
        let (by, is_match, is_wide) = match mechanism {
            Mechanism::All => ("all", true, true),
            Mechanism::Network(network) => {
                ("an address", network.contains(&client), is_wide(network.prefix_len(), client))
            }
            Mechanism::Include(target) => {
                let target = self.name(target, domain).await?;
                let said = self.domain(&target).await?;
                match said.result {
                    SpfResult::None => return Err(Fault::Permanent(said.reason)),
                    result => ("include", result == SpfResult::Pass, said.is_wide),
                }
            }
            Mechanism::Address(target, prefixes) => {
                let target = self.target(target.as_ref(), domain).await?;
                let found = self.addresses(&target).await?;
                self.count_void(found.is_empty())?;
                ("a", is_among(client, &found, *prefixes), is_wide(prefixes.of(client), client))
            }
            Mechanism::Exchanger(target, prefixes) => {
                let target = self.target(target.as_ref(), domain).await?;
                let found = self.exchangers(&target).await?;
                ("mx", is_among(client, &found, *prefixes), is_wide(prefixes.of(client), client))
            }
            Mechanism::Pointer(target) => {
                let target = self.target(target.as_ref(), domain).await?;
                let Ok(target) = DnsName::parse(target) else { return Ok(None) };
                let names = self.client_names().await;
                ("ptr", names.iter().any(|name| name.is_within(&target)), true)
            }
            Mechanism::Exists(target) => {
                let target = self.name(target, domain).await?;
                let Ok(target) = DnsName::parse(target) else { return Ok(None) };
                // Always of IPv4 (RFC 7208 §5.7).
                let found = match self.dns.ipv4(&target).await {
                    Answer::Found { data, .. } => !data.is_empty(),
                    Answer::Absent => false,
                    Answer::Unknown => return Err(Fault::Temporary(format!("no answer for {target}"))),
                };
                self.count_void(!found)?;
                ("exists", found, false)
            }
        };
        Ok(is_match.then_some(Match { by, is_wide }))
    }

    fn count_term(&mut self) -> Result<(), Fault> {
        self.terms += 1;
        if self.terms > TERMS_LIMIT {
            return Err(Fault::Permanent(format!("more than {TERMS_LIMIT} terms that ask DNS")));
        }
        Ok(())
    }

    fn count_void(&mut self, is_void: bool) -> Result<(), Fault> {
        self.voids += usize::from(is_void);
        if self.voids > VOIDS_LIMIT {
            return Err(Fault::Permanent(format!("more than {VOIDS_LIMIT} terms without an answer")));
        }
        Ok(())
    }

    /// The addresses of the client's family; a target that DNS cannot be asked for has none (RFC 7208 §4.8).
    async fn addresses(&self, target: &str) -> Result<Vec<IpAddr>, Fault> {
        let Ok(name) = DnsName::parse(target) else { return Ok(Vec::new()) };
        match addresses(self.dns, &name, self.query.client.is_ipv6()).await {
            Answer::Found { data, .. } => Ok(data),
            Answer::Absent => Ok(Vec::new()),
            Answer::Unknown => Err(Fault::Temporary(format!("no answer for {name}"))),
        }
    }

    async fn exchangers(&mut self, target: &str) -> Result<Vec<IpAddr>, Fault> {
        let Ok(name) = DnsName::parse(target) else { return Ok(Vec::new()) };
        let mut hosts = match self.dns.mx(&name).await {
            Answer::Found { data, .. } => data,
            Answer::Absent => Vec::new(),
            Answer::Unknown => return Err(Fault::Temporary(format!("no answer for the hosts of {name}"))),
        };
        self.count_void(hosts.is_empty())?;
        if hosts.len() > HOSTS_LIMIT {
            return Err(Fault::Permanent(format!("{name} has more than {HOSTS_LIMIT} hosts")));
        }
        hosts.sort();
        let mut found = Vec::new();
        for host in hosts.into_iter().filter_map(|exchanger| exchanger.host) {
            found.extend(self.addresses(host.as_str()).await?);
        }
        Ok(found)
    }

    /// The names of the client that have its address. What DNS does not answer here is passed over (RFC 7208 §5.5).
    async fn client_names(&mut self) -> &[DnsName] {
        if self.names.is_none() {
            let client = self.query.client;
            let names = self.dns.ptr(client).await.found().unwrap_or_default();
            let mut confirmed = Vec::new();
            for name in names.into_iter().take(HOSTS_LIMIT) {
                if self.addresses(name.as_str()).await.is_ok_and(|found| found.contains(&client)) {
                    confirmed.push(name);
                }
            }
            self.names = Some(confirmed);
        }
        self.names.as_deref().unwrap_or_default()
    }

    /// The name of a term that may leave it out.
    async fn target(&mut self, target: Option<&MacroString>, domain: &str) -> Result<String, Fault> {
        match target {
            Some(target) => self.name(target, domain).await,
            None => Ok(domain.to_owned()),
        }
    }

    async fn name(&mut self, text: &MacroString, domain: &str) -> Result<String, Fault> {
        if text.uses('p') && self.names.is_none() {
            // It asks DNS as often as a term does, and counts as one (SECURITY D-23).
            self.count_term()?;
        }
        let validated = self.validated_name(text, domain).await;
        Ok(text.expand_name(|letter| self.value(letter, domain, &validated)))
    }

    /// The letter `p` (RFC 7208 §7.3): the domain itself, or a name below it, or another.
    async fn validated_name(&mut self, text: &MacroString, domain: &str) -> String {
        if !text.uses('p') {
            return String::new();
        }
        let domain = DnsName::parse(domain).ok();
        let names = self.client_names().await;
        let same = names.iter().find(|name| Some(*name) == domain.as_ref());
        let below = names.iter().find(|name| domain.as_ref().is_some_and(|domain| name.is_within(domain)));
        same.or(below).or(names.first()).map_or_else(|| "unknown".to_owned(), ToString::to_string)
    }

    fn value(&self, letter: char, domain: &str, validated: &str) -> String {
        let Query { client, local_part, domain: sender, helo, receiver } = self.query;
        match letter {
            's' => format!("{local_part}@{sender}"),
            'l' => local_part.clone(),
            'o' => sender.clone(),
            'd' => domain.to_owned(),
            'i' => match client {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => {
                    let nibbles = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 0xf]);
                    nibbles.map(|nibble| format!("{nibble:X}")).collect::<Vec<_>>().join(".")
                }
            },
            'c' => client.to_string(),
            'v' => if client.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            'h' => helo.clone(),
            'p' => validated.to_owned(),
            'r' => receiver.clone(),
            't' => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string(),
            _ => String::new(),
        }
    }

    async fn conclude(&mut self, outcome: Outcome) -> Evaluated {
        match outcome {
            Err(Fault::Temporary(reason)) => Evaluated::of(SpfResult::TempError, reason),
            Err(Fault::Permanent(reason)) => Evaluated::of(SpfResult::PermError, reason),
            Ok(Said { result, reason, is_wide, explanation }) => {
                let explanation = match explanation {
                    Some((text, domain)) if result == SpfResult::Fail => self.explain(&text, &domain).await,
                    _ => None,
                };
                Evaluated { result, reason, is_wide: is_wide && result == SpfResult::Pass, explanation }
            }
        }
    }

    /// The words of the domain's owner; where anything is wrong with them there are none (RFC 7208 §6.2).
    async fn explain(&mut self, text: &MacroString, domain: &str) -> Option<String> {
        let name = DnsName::parse(self.name(text, domain).await.ok()?).ok()?;
        let texts = self.dns.txt(&name).await.found()?;
        let [words] = &texts[..] else { return None };
        let words = MacroString::parse(std::str::from_utf8(words).ok()?, Use::Text)?;
        let validated = match self.names {
            None if self.terms >= TERMS_LIMIT => "unknown".to_owned(),
            _ => self.validated_name(&words, domain).await,
        };
        Some(words.expand(|letter| self.value(letter, domain, &validated)))
    }
}

/// The mechanism that means the client.
struct Match {
    by: &'static str,
    is_wide: bool,
}

impl Prefixes {
    fn of(self, client: IpAddr) -> u8 {
        if client.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

fn is_wide(bits: u8, client: IpAddr) -> bool {
    bits < NARROW.of(client)
}

fn is_among(client: IpAddr, found: &[IpAddr], prefixes: Prefixes) -> bool {
    let bits = prefixes.of(client);
    found.iter().any(|address| IpNet::new(*address, bits).is_ok_and(|network| network.contains(&client)))
}
