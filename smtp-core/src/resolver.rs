//! DNS as a trait: found, absent, or temporarily unknown; and a table for tests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::client::verify::TlsaRecord;
use crate::syntax::address::Mailbox;
use crate::syntax::dns_name::DnsName;

/// What DNS says (PRACTICES P5). *Unknown* is no answer: it leads to nothing permanent, and to the acceptance of nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer<T> {
    /// There is such a record.
    Found {
        /// What it says.
        data: T,
        /// Whether DNSSEC vouches for it (RFC 4033 §5). Never, with a resolver that does not validate.
        secure: bool,
        /// How long the answer holds.
        ttl: Duration,
    },
    /// The name does not exist, or has no record of that type.
    Absent,
    /// Not now: no server answered in time, or one failed, refused, or sent what cannot be read, or DNSSEC proves it false.
    Unknown,
}

impl<T> Answer<T> {
    /// What the record says, where there is one.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found { data, .. } => Some(data),
            Self::Absent | Self::Unknown => None,
        }
    }

    /// The same answer, borrowed.
    pub fn as_ref(&self) -> Answer<&T> {
        match self {
            Self::Found { data, secure, ttl } => Answer::Found { data, secure: *secure, ttl: *ttl },
            Self::Absent => Answer::Absent,
            Self::Unknown => Answer::Unknown,
        }
    }

    /// The same answer with other data.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Found { data, secure, ttl } => Answer::Found { data: change(data), secure, ttl },
            Self::Absent => Answer::Absent,
            Self::Unknown => Answer::Unknown,
        }
    }

    /// Whether there is such a record.
    pub fn is_found(&self) -> bool {
        matches!(self, Self::Found { .. })
    }

    /// Whether it is not known.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// One `MX` record (RFC 5321 §5.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailExchanger {
    /// The smallest is the first to be tried.
    pub preference: u16,
    /// The host; `None` says that the domain takes no mail (RFC 7505).
    pub host: Option<DnsName>,
}

/// The `SOA` record of a zone (RFC 1035 §3.3.13).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StartOfAuthority {
    /// The name server where the zone is kept; `None` where that is no [`DnsName`].
    pub primary: Option<DnsName>,
    /// Who is responsible for the zone; `None` where that is no mailbox.
    pub contact: Option<Mailbox>,
}

impl StartOfAuthority {
    /// With what the record says.
    pub fn new(primary: Option<DnsName>, contact: Option<Mailbox>) -> Self {
        Self { primary, contact }
    }
}

/// Asks DNS. Names in answers that are no [`DnsName`] are left out of them.
///
/// Each question is answered within a time of the resolver's own, 5 s or less; then the answer is [`Answer::Unknown`]. An alias
/// (`CNAME`) is followed, and one that leads nowhere or in a circle is unknown or absent.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The `A` records of a name.
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>>;
    /// The `AAAA` records of a name.
    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>>;
    /// The names of an address: the `PTR` records of [`DnsName::reverse`].
    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>>;
    /// The `MX` records of a name, in any order.
    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>>;
    /// The `TXT` records of a name, the strings of each put together (RFC 7208 §3.3).
    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>>;
    /// The `TLSA` records of a name (RFC 6698 §2.1).
    async fn tlsa(&self, name: &DnsName) -> Answer<Vec<TlsaRecord>>;
    /// Where a name is an alias: the `CNAME` record, which is not followed here. Unknown, unless the resolver says otherwise.
    async fn alias(&self, _name: &DnsName) -> Answer<DnsName> {
        Answer::Unknown
    }
    /// Where a zone begins: the `SOA` record of its name. Unknown, unless the resolver says otherwise.
    async fn soa(&self, _name: &DnsName) -> Answer<StartOfAuthority> {
        Answer::Unknown
    }
    /// The name servers of a zone: the `NS` records of its name. Unknown, unless the resolver says otherwise.
    async fn ns(&self, _name: &DnsName) -> Answer<Vec<DnsName>> {
        Answer::Unknown
    }
}

#[async_trait]
impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        (**self).ipv4(name).await
    }

    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        (**self).ipv6(name).await
    }

    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>> {
        (**self).ptr(address).await
    }

    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>> {
        (**self).mx(name).await
    }

    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        (**self).txt(name).await
    }

    async fn tlsa(&self, name: &DnsName) -> Answer<Vec<TlsaRecord>> {
        (**self).tlsa(name).await
    }

    async fn alias(&self, name: &DnsName) -> Answer<DnsName> {
        (**self).alias(name).await
    }

    async fn soa(&self, name: &DnsName) -> Answer<StartOfAuthority> {
        (**self).soa(name).await
    }

    async fn ns(&self, name: &DnsName) -> Answer<Vec<DnsName>> {
        (**self).ns(name).await
    }
}

/// The types of record that [`Resolver`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// A host that takes mail.
    Mx,
    /// Text.
    Txt,
    /// A certificate.
    Tlsa,
    /// Another name for a name.
    Cname,
    /// The beginning of a zone.
    Soa,
    /// A name server.
    Ns,
}

/// A resolver that knows a few names by heart, for tests. All others are absent.
///
/// ```
/// use smtp_core::{Answer, DnsName, Resolver, ResolverTable};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dns = ResolverTable::new().with_host("mx.example.org", "192.0.2.1").with_unknown("slow.example");
/// assert_eq!(dns.ptr("192.0.2.1".parse()?).await.found(), Some(vec!["mx.example.org".parse()?]));
/// assert_eq!(dns.ipv4(&"slow.example".parse()?).await, Answer::Unknown);
/// assert_eq!(dns.ipv4(&"other.example".parse()?).await, Answer::Absent);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ResolverTable {
    names: HashMap<DnsName, Entry>,
    /// Nothing below these is known.
    unknown: Vec<DnsName>,
    unknown_records: Vec<(DnsName, RecordType)>,
    /// What DNSSEC vouches for, with all below.
    secure: Vec<DnsName>,
    asked: Arc<Mutex<Vec<(DnsName, RecordType)>>>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    ipv4: Vec<Ipv4Addr>,
    ipv6: Vec<Ipv6Addr>,
    ptr: Vec<DnsName>,
    mx: Vec<MailExchanger>,
    txt: Vec<Box<[u8]>>,
    tlsa: Vec<TlsaRecord>,
    alias: Vec<DnsName>,
    soa: Vec<StartOfAuthority>,
    ns: Vec<DnsName>,
}

/// What the table says of how long an answer holds.
const TABLE_TTL: Duration = Duration::from_secs(300);

impl ResolverTable {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.names.entry(written(name)).or_default()
    }

    /// A host with an address, in both directions.
    ///
    /// # Panics
    /// Where the name or the address is none.
    #[must_use]
    pub fn with_host(self, name: &str, address: &str) -> Self {
        self.with_address(name, address).with_ptr(address, name)
    }

    /// An address of a name.
    ///
    /// # Panics
    /// Where the name or the address is none.
    #[must_use]
    pub fn with_address(mut self, name: &str, address: &str) -> Self {
        match written_address(address) {
            IpAddr::V4(address) => self.entry(name).ipv4.push(address),
            IpAddr::V6(address) => self.entry(name).ipv6.push(address),
        }
        self
    }

    /// A name of an address.
    ///
    /// # Panics
    /// Where the name or the address is none.
    #[must_use]
    pub fn with_ptr(mut self, address: &str, name: &str) -> Self {
        let reverse = DnsName::reverse(written_address(address));
        self.names.entry(reverse).or_default().ptr.push(written(name));
        self
    }

    /// A host that takes the mail of a name; `.` says that none does (RFC 7505).
    ///
    /// # Panics
    /// Where one of the names is none.
    #[must_use]
    pub fn with_mx(mut self, name: &str, preference: u16, host: &str) -> Self {
        let host = (host != ".").then(|| written(host));
        self.entry(name).mx.push(MailExchanger { preference, host });
        self
    }

    /// A text of a name.
    ///
    /// # Panics
    /// Where the name is none.
    #[must_use]
    pub fn with_txt(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.entry(name).txt.push(text.as_ref().into());
        self
    }

    /// A certificate of a name.
    ///
    /// # Panics
    /// Where the name is none.
    #[must_use]
    pub fn with_tlsa(mut self, name: &str, record: TlsaRecord) -> Self {
        self.entry(name).tlsa.push(record);
        self
    }

    /// A name that is another name for a host. The table does not follow it: give the name the records of the host as well.
    ///
    /// # Panics
    /// Where one of the names is none.
    #[must_use]
    pub fn with_alias(mut self, name: &str, host: &str) -> Self {
        let host = written(host);
        self.entry(name).alias = vec![host];
        self
    }

    /// The beginning of a zone, with the mailbox of who is responsible; `None` where the record has none that can be read.
    ///
    /// # Panics
    /// Where the name or the mailbox is none.
    #[must_use]
    pub fn with_soa(mut self, zone: &str, contact: Option<&str>) -> Self {
        let mailbox = |text| Mailbox::parse(text).unwrap_or_else(|error| panic!("`{text}` is no mailbox: {error}"));
        let soa = StartOfAuthority::new(None, contact.map(mailbox));
        self.entry(zone).soa = vec![soa];
        self
    }

    /// A name server of a zone.
    ///
    /// # Panics
    /// Where one of the names is none.
    #[must_use]
    pub fn with_ns(mut self, zone: &str, server: &str) -> Self {
        let server = written(server);
        self.entry(zone).ns.push(server);
        self
    }

    /// DNSSEC vouches for what the table says of this name, and of any below it.
    ///
    /// # Panics
    /// Where the name is none.
    #[must_use]
    pub fn with_secure(mut self, name: &str) -> Self {
        self.secure.push(written(name));
        self
    }

    /// Nothing is known of this name, nor of any below it.
    ///
    /// # Panics
    /// Where the name is none.
    #[must_use]
    pub fn with_unknown(mut self, name: &str) -> Self {
        self.unknown.push(written(name));
        self
    }

    /// Nothing is known of the records of that type of this name.
    ///
    /// # Panics
    /// Where the name is none.
    #[must_use]
    pub fn with_unknown_record(mut self, name: &str, kind: RecordType) -> Self {
        self.unknown_records.push((written(name), kind));
        self
    }

    /// Nothing is known of the names of this address.
    ///
    /// # Panics
    /// Where the address is none.
    #[must_use]
    pub fn with_unknown_ptr(mut self, address: &str) -> Self {
        self.unknown.push(DnsName::reverse(written_address(address)));
        self
    }

    /// What it was asked, by all its clones, in order.
    pub fn asked(&self) -> Vec<(DnsName, RecordType)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer<T: Clone>(&self, name: &DnsName, kind: RecordType, select: impl Fn(&Entry) -> &Vec<T>) -> Answer<Vec<T>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), kind));
        let is_of_this = |(unknown, of): &(DnsName, RecordType)| unknown == name && *of == kind;
        if self.unknown.iter().any(|unknown| name.is_within(unknown)) || self.unknown_records.iter().any(is_of_this) {
            return Answer::Unknown;
        }
        match self.names.get(name).map(select).filter(|records| !records.is_empty()) {
            Some(records) => {
                let secure = self.secure.iter().any(|vouched| name.is_within(vouched));
                Answer::Found { data: records.clone(), secure, ttl: TABLE_TTL }
            }
            None => Answer::Absent,
        }
    }
}

fn written(name: &str) -> DnsName {
    DnsName::parse(name).unwrap_or_else(|error| panic!("`{name}` is no name: {error}"))
}

fn written_address(address: &str) -> IpAddr {
    address.parse().unwrap_or_else(|error| panic!("`{address}` is no address: {error}"))
}

#[async_trait]
impl Resolver for ResolverTable {
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        self.answer(name, RecordType::A, |entry| &entry.ipv4)
    }

    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        self.answer(name, RecordType::Aaaa, |entry| &entry.ipv6)
    }

    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>> {
        self.answer(&DnsName::reverse(address), RecordType::Ptr, |entry| &entry.ptr)
    }

    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>> {
        self.answer(name, RecordType::Mx, |entry| &entry.mx)
    }

    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        self.answer(name, RecordType::Txt, |entry| &entry.txt)
    }

    async fn tlsa(&self, name: &DnsName) -> Answer<Vec<TlsaRecord>> {
        self.answer(name, RecordType::Tlsa, |entry| &entry.tlsa)
    }

    async fn alias(&self, name: &DnsName) -> Answer<DnsName> {
        first(self.answer(name, RecordType::Cname, |entry| &entry.alias))
    }

    async fn soa(&self, name: &DnsName) -> Answer<StartOfAuthority> {
        first(self.answer(name, RecordType::Soa, |entry| &entry.soa))
    }

    async fn ns(&self, name: &DnsName) -> Answer<Vec<DnsName>> {
        self.answer(name, RecordType::Ns, |entry| &entry.ns)
    }
}

/// Of records that can be there once only.
fn first<T>(answer: Answer<Vec<T>>) -> Answer<T> {
    match answer {
        Answer::Found { data, secure, ttl } => match data.into_iter().next() {
            Some(data) => Answer::Found { data, secure, ttl },
            None => Answer::Absent,
        },
        Answer::Absent => Answer::Absent,
        Answer::Unknown => Answer::Unknown,
    }
}
