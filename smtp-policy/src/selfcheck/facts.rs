//! What a server knows of itself: its host, and the domains whose mail it takes and sends.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use smtp_core::DnsName;

use crate::dkim_signer::DkimKey;
use crate::dns_list::DnsList;

/// How a listener protects its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwnTls {
    /// Not at all.
    None,
    /// Where the client asks for it.
    StartTls,
    /// From the start.
    Implicit,
}

/// The host that is checked: its name, where it is, and what it shows to others.
///
/// What is not told is not looked at; the report says so where that leaves a gap.
#[derive(Debug, Clone)]
pub struct OwnHost {
    pub(super) name: DnsName,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ehlo_names: Vec<DnsName>,
    pub(super) certificates: Vec<Vec<CertificateDer<'static>>>,
    pub(super) blocklists: Vec<DnsList>,
    pub(super) listeners: Vec<(u16, OwnTls, bool)>,
    pub(super) reverse_path_domains: BTreeSet<DnsName>,
    pub(super) now: SystemTime,
}

impl OwnHost {
    /// With the name by which it introduces itself, and now as the time.
    pub fn new(name: DnsName) -> Self {
        Self {
            name,
            addresses: Vec::new(),
            ehlo_names: Vec::new(),
            certificates: Vec::new(),
            blocklists: Vec::new(),
            listeners: Vec::new(),
            reverse_path_domains: BTreeSet::new(),
            now: SystemTime::now(),
        }
    }

    /// With an address from which it sends and on which it takes mail.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        let address = address.to_canonical();
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        self
    }

    /// With another name by which it introduces itself.
    #[must_use]
    pub fn with_ehlo_name(mut self, name: DnsName) -> Self {
        if name != self.name {
            self.ehlo_names.push(name);
        }
        self
    }

    /// With a certificate that it shows, its own first, and those of the authorities behind it.
    #[must_use]
    pub fn with_certificate(mut self, chain: Vec<CertificateDer<'static>>) -> Self {
        self.certificates.push(chain);
        self
    }

    /// The same from a file in PEM. One without a certificate counts as a certificate that cannot be read.
    #[must_use]
    pub fn with_certificate_pem(self, pem: &[u8]) -> Self {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
        self.with_certificate(chain.unwrap_or_default())
    }

    /// With a list of bad clients, on which it should not be.
    #[must_use]
    pub fn with_blocklist(mut self, list: DnsList) -> Self {
        self.blocklists.push(list);
        self
    }

    /// With a port on which it listens, and whether it asks every client there for a password.
    #[must_use]
    pub fn with_listener(mut self, port: u16, tls: OwnTls, needs_password: bool) -> Self {
        self.listeners.push((port, tls, needs_password));
        self
    }

    /// With a domain that stands in reverse-paths of mail that it sends.
    #[must_use]
    pub fn with_reverse_path_domain(mut self, domain: DnsName) -> Self {
        self.reverse_path_domains.insert(domain);
        self
    }

    /// As if it were that time.
    #[must_use]
    pub fn at(self, now: SystemTime) -> Self {
        Self { now, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &DnsName {
        &self.name
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Those that can be reached from everywhere.
    pub(super) fn public_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied().filter(|address| is_public(*address))
    }
}

/// A domain whose mail the host takes and sends.
#[derive(Debug, Clone)]
pub struct OwnDomain {
    pub(super) name: DnsName,
    pub(super) keys: Vec<(DnsName, String)>,
    pub(super) mailboxes: Option<BTreeSet<String>>,
}

impl OwnDomain {
    /// Without keys, and of whose mailboxes nothing is known.
    pub fn new(name: DnsName) -> Self {
        Self { name, keys: Vec::new(), mailboxes: None }
    }

    /// With a key by which its mail is signed.
    #[must_use]
    pub fn with_dkim_key(self, key: &DkimKey) -> Self {
        match DnsName::parse(key.selector()) {
            Ok(selector) => self.with_dkim_record(selector, key.record()),
            // A selector is part of a name from the start.
            Err(_) => self,
        }
    }

    /// The same where only the record is known, which `TXT` of the selector must say (RFC 6376 §3.6.1).
    #[must_use]
    pub fn with_dkim_record(mut self, selector: DnsName, record: impl Into<String>) -> Self {
        self.keys.push((selector, record.into()));
        self
    }

    /// With exactly these mailboxes for roles, by their local-part: mail for them reaches somebody (RFC 2142).
    #[must_use]
    pub fn with_role_mailboxes<T: AsRef<str>>(self, local_parts: impl IntoIterator<Item = T>) -> Self {
        let local_parts = local_parts.into_iter().map(|part| part.as_ref().to_ascii_lowercase()).collect();
        Self { mailboxes: Some(local_parts), ..self }
    }

    /// Its name.
    pub fn name(&self) -> &DnsName {
        &self.name
    }
}

/// Whether an address means the same host everywhere. Those of documentation are taken for such (RFC 5737, RFC 3849).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            !(address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                // RFC 6598
                || (first == 100 && second & 0xc0 == 64))
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local())
        }
    }
}
