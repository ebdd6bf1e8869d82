//! DNS over the network: what may be believed of an answer, by hickory as the transport.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::FirstAnswer;
use hickory_resolver::net::{DnsError, DnsHandle, NetError, RetryDnsHandle};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};
use smtp_core::{Answer, DnsName, MailExchanger, Mailbox, Resolver, StartOfAuthority, TlsaRecord, async_trait};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::dns_cache::DnsCache;

/// How long a question may take (STANDARDS TO11): 5 s.
const QUERY_LIMIT: Duration = Duration::from_secs(5);
/// How many aliases lead from a question to its answer at most.
const ALIASES_LIMIT: usize = 8;
/// How many questions may be on their way, each with a socket of its own (ours): 512. Others wait within their time.
const QUESTIONS_LIMIT: usize = 512;
/// An answer is believed for this long at most: 1 day.
const TTL_LIMIT: Duration = Duration::from_secs(86_400);
/// That there is no such record, for 1 hour (RFC 2308 §5 asks for one to three).
const NEGATIVE_TTL_LIMIT: Duration = Duration::from_secs(3_600);
/// How many answers are remembered. Default: 4,096.
const CACHE_LIMIT_ENTRIES: usize = 4_096;
/// An answer of more records, or more octets, is not remembered.
const CACHED_RECORDS_LIMIT: usize = 64;
const CACHED_OCTETS_LIMIT: usize = 4_096;

/// No server to ask.
#[derive(Debug, Error)]
#[error("no name server to ask: {0}")]
pub struct NoNameServer(String);

/// A [`Resolver`] that asks name servers, by UDP, and by TCP where an answer does not fit. It does not validate DNSSEC.
///
/// The servers do the recursion, and their answers are not signed: they belong on this host or on a network that is trusted.
/// Neither search domains nor the hosts file take part. Each question takes 5 s at most. Answers are remembered as long as they
/// say, a day at most, and those that say there is nothing, an hour; 4,096 of them, none larger than 4 KiB or 64 records. At most
/// 512 questions are on their way at the same time.
///
/// Nothing but a clean answer to the question counts. `SERVFAIL`, `REFUSED` and other codes, silence, what cannot be read, a
/// referral, an alias that leads in a circle, and records that nobody asked for are [`Answer::Unknown`].
///
/// ```no_run
/// use smtp_policy::{Chain, HickoryResolver, Preset, ReverseDns};
///
/// # fn main() -> Result<(), smtp_policy::NoNameServer> {
/// let dns = HickoryResolver::from_system()?;
/// let policy = Chain::new("names", Preset::Bcp).with(ReverseDns::new(dns));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HickoryResolver {
    handle: RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    cache: Arc<DnsCache<(DnsName, RecordType), Known>>,
    questions: Arc<Semaphore>,
    limit: Duration,
}

/// What is remembered of a question: `None` where there is no such record.
type Known = Option<Arc<[RData]>>;

impl HickoryResolver {
    /// With the servers of the system: those of `/etc/resolv.conf` on Unix.
    ///
    /// # Errors
    /// [`NoNameServer`] where the system has none, or says it in a way that cannot be read.
    pub fn from_system() -> Result<Self, NoNameServer> {
        let (config, _) = system_conf::read_system_conf().map_err(|error| NoNameServer(error.to_string()))?;
        Self::new(config)
    }

    /// With these servers, in any order: those that answer well are preferred.
    ///
    /// # Errors
    /// [`NoNameServer`] where there is none.
    pub fn with_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Result<Self, NoNameServer> {
        let servers = servers.into_iter().map(|server| {
            let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
                let mut connection = ConnectionConfig::new(protocol);
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        Self::new(ResolverConfig::from_name_servers(servers.collect()))
    }

    /// With another limit for each question. Default: 5 s; more is not taken.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit: limit.min(QUERY_LIMIT), ..self }
    }

    fn new(config: ResolverConfig) -> Result<Self, NoNameServer> {
        let (_domain, _search, servers) = config.into_parts();
        if servers.is_empty() {
            return Err(NoNameServer("the list is empty".to_owned()));
        }
        let mut options = ResolverOpts::default();
        // So that there is time for a second attempt, with another server where there is one.
        options.timeout = QUERY_LIMIT * 2 / 5;
        options.max_active_requests = QUESTIONS_LIMIT;
        let tls = TlsConfig::new().map_err(|error| NoNameServer(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        let cache = Arc::new(DnsCache::new(CACHE_LIMIT_ENTRIES));
        let questions = Arc::new(Semaphore::new(QUESTIONS_LIMIT));
        Ok(Self { handle: RetryDnsHandle::new(pool, 1), cache, questions, limit: QUERY_LIMIT })
    }

    /// The records of that type, of which only those that `read` understands are told.
    async fn records<T>(&self, name: &DnsName, kind: RecordType, read: impl Fn(&RData) -> Option<T>) -> Answer<Vec<T>> {
        let key = (name.clone(), kind);
        let mut known = self.cache.get(&key);
        if known.is_none() {
            let asking = async {
                let _permit = self.questions.acquire().await.ok()?;
                self.follow(name, kind).await
            };
            known = tokio::time::timeout(self.limit, asking).await.ok().flatten();
            if let Some((records, ttl)) = &known
                && is_small(records)
            {
                self.cache.insert(key, records.clone(), *ttl);
            }
        }
        match known {
            Some((Some(records), ttl)) => {
                Answer::Found { data: records.iter().filter_map(read).collect(), secure: false, ttl }
            }
            Some((None, _)) => Answer::Absent,
            None => Answer::Unknown,
        }
    }

    /// Asks, follows aliases (RFC 1034 §3.6.2), and says how long the answer holds; `None` where nothing is known.
    async fn follow(&self, name: &DnsName, kind: RecordType) -> Option<(Known, Duration)> {
        let mut name = Name::from_labels(name.as_str().split('.').map(str::as_bytes)).ok()?;
        let mut ttl = TTL_LIMIT;
        for _ in 0..ALIASES_LIMIT {
            match self.ask(&name, kind).await? {
                Said::Nothing { holds } => return Some((None, ttl.min(holds))),
                Said::Records(message) => {
                    // Who asks for the alias itself does not want to be led to its end.
                    let (owner, alias_ttl) = match kind {
                        RecordType::CNAME => (name.clone(), TTL_LIMIT),
                        _ => end_of_aliases(&message, &name)?,
                    };
                    ttl = ttl.min(alias_ttl);
                    let found =
                        || message.answers.iter().filter(|record| record.name == owner && record.record_type() == kind);
                    if let Some(shortest) = found().map(|record| lifetime(record.ttl)).min() {
                        if message.metadata.response_code == ResponseCode::NXDomain {
                            return None; // It contradicts itself.
                        }
                        let records = found().map(|record| record.data.clone()).collect();
                        return Some((Some(records), ttl.min(shortest)));
                    }
                    if owner == name {
                        return None; // An answer to another question.
                    }
                    name = owner;
                }
            }
        }
        None
    }

    /// One question to the servers.
    async fn ask(&self, name: &Name, kind: RecordType) -> Option<Said> {
        let query = Query::query(name.clone(), kind);
        let request = DnsRequest::from_query(query.clone(), DnsRequestOptions::default());
        match self.handle.send(request).first_answer().await {
            Ok(response) => {
                let message = response.into_message();
                let is_clean = matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
                    && !message.metadata.truncation
                    && message.queries == [query];
                if !is_clean {
                    return None;
                }
                // Who asks where a zone begins gets the zone above as an answer; here it says that there is none (RFC 2308 §2.2).
                let zone = message.authorities.iter().find_map(|record| match &record.data {
                    RData::SOA(zone) => Some(lifetime(record.ttl.min(zone.minimum))),
                    _ => None,
                });
                Some(match zone.filter(|_| message.answers.is_empty()) {
                    Some(holds) => Said::Nothing { holds: holds.min(NEGATIVE_TTL_LIMIT) },
                    None => Said::Records(message),
                })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
                let is_clean = matches!(nothing.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
                    && *nothing.query == query
                    // Who only names other servers has not answered (RFC 2308 §2.2).
                    && (nothing.soa.is_some() || nothing.ns.is_none());
                // Without a SOA it is not said how long it holds (RFC 2308 §5).
                let holds = nothing.negative_ttl.map(lifetime).unwrap_or_default().min(NEGATIVE_TTL_LIMIT);
                is_clean.then_some(Said::Nothing { holds })
            }
            Err(_) => None,
        }
    }
}

/// What a server said to one question.
enum Said {
    /// There is no such name, or no such record.
    Nothing {
        /// How long.
        holds: Duration,
    },
    /// Something, of whatever names.
    Records(Message),
}

/// Where the aliases of this answer lead from that name, and how long they hold. `None` where they lead in a circle.
fn end_of_aliases(message: &Message, name: &Name) -> Option<(Name, Duration)> {
    let (mut name, mut ttl) = (name, TTL_LIMIT);
    for _ in 0..=ALIASES_LIMIT {
        let alias = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *name => Some((&target.0, record.ttl)),
            _ => None,
        });
        match alias {
            Some((target, holds)) => (name, ttl) = (target, ttl.min(lifetime(holds))),
            None => return Some((name.clone(), ttl)),
        }
    }
    None
}

/// A TTL whose first bit is set is 0 (RFC 2181 §8).
fn lifetime(ttl: u32) -> Duration {
    let seconds = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
    Duration::from_secs(u64::from(seconds)).min(TTL_LIMIT)
}

/// Whether it may be remembered.
fn is_small(known: &Known) -> bool {
    let Some(records) = known else { return true };
    let octets = |data: &RData| match data {
        RData::TXT(text) => text.txt_data.iter().map(|part| part.len()).sum(),
        RData::TLSA(certificate) => certificate.cert_data.len(),
        _ => 0,
    };
    records.len() <= CACHED_RECORDS_LIMIT && records.iter().map(octets).sum::<usize>() <= CACHED_OCTETS_LIMIT
}

/// The name, where it is one that may be told to others.
fn told(name: &Name) -> Option<DnsName> {
    let labels: Vec<&[u8]> = name.iter().collect();
    // A dot within a label would look like one between two.
    let is_plain = labels.iter().all(|label| !label.contains(&b'.'));
    if is_plain { DnsName::parse(labels.join(&b'.')).ok() } else { None }
}

impl fmt::Debug for HickoryResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HickoryResolver").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[async_trait]
impl Resolver for HickoryResolver {
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        let read = |data: &RData| if let RData::A(address) = data { Some(address.0) } else { None };
        self.records(name, RecordType::A, read).await
    }

    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        let read = |data: &RData| if let RData::AAAA(address) = data { Some(address.0) } else { None };
        self.records(name, RecordType::AAAA, read).await
    }

    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>> {
        let read = |data: &RData| if let RData::PTR(name) = data { told(&name.0) } else { None };
        self.records(&DnsName::reverse(address), RecordType::PTR, read).await
    }

    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>> {
        let read = |data: &RData| {
            let RData::MX(exchanger) = data else { return None };
            let host = if exchanger.exchange.is_root() { None } else { Some(told(&exchanger.exchange)?) };
            Some(MailExchanger { preference: exchanger.preference, host })
        };
        self.records(name, RecordType::MX, read).await
    }

    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        let read = |data: &RData| if let RData::TXT(text) = data { Some(text.txt_data.concat().into()) } else { None };
        self.records(name, RecordType::TXT, read).await
    }

    async fn tlsa(&self, name: &DnsName) -> Answer<Vec<TlsaRecord>> {
        let read = |data: &RData| {
            let RData::TLSA(record) = data else { return None };
            let (usage, selector, matching) =
                (record.cert_usage.into(), record.selector.into(), record.matching.into());
            Some(TlsaRecord { usage, selector, matching, data: record.cert_data.clone() })
        };
        self.records(name, RecordType::TLSA, read).await
    }

    async fn alias(&self, name: &DnsName) -> Answer<DnsName> {
        let read = |data: &RData| if let RData::CNAME(target) = data { told(&target.0) } else { None };
        alone(self.records(name, RecordType::CNAME, read).await)
    }

    async fn soa(&self, name: &DnsName) -> Answer<StartOfAuthority> {
        let read = |data: &RData| {
            let RData::SOA(zone) = data else { return None };
            Some(StartOfAuthority::new(told(&zone.mname), mailbox(&zone.rname)))
        };
        alone(self.records(name, RecordType::SOA, read).await)
    }

    async fn ns(&self, name: &DnsName) -> Answer<Vec<DnsName>> {
        let read = |data: &RData| if let RData::NS(server) = data { told(&server.0) } else { None };
        self.records(name, RecordType::NS, read).await
    }
}

/// Of records of which a name has one: an answer with several contradicts itself.
fn alone<T>(answer: Answer<Vec<T>>) -> Answer<T> {
    match answer {
        Answer::Found { mut data, secure, ttl } => match (data.pop(), data.is_empty()) {
            (Some(data), true) => Answer::Found { data, secure, ttl },
            _ => Answer::Unknown,
        },
        Answer::Absent => Answer::Absent,
        Answer::Unknown => Answer::Unknown,
    }
}

/// The mailbox that a name stands for: its first label is the local-part (RFC 1035 §8).
fn mailbox(name: &Name) -> Option<Mailbox> {
    let mut labels = name.iter();
    let local_part = std::str::from_utf8(labels.next()?).ok()?;
    let domain = DnsName::parse(labels.collect::<Vec<_>>().join(&b'.')).ok()?;
    Mailbox::parse(format!("{local_part}@{domain}")).ok()
}
