//! Questions to DNS that end: whatever the resolver promises, nothing is waited for longer than the limit of a question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smtp_core::{Answer, DnsName, MailExchanger, Resolver, StartOfAuthority, TlsaRecord, async_trait};

use crate::reverse_dns::addresses;

/// How long one question may take (STANDARDS TO11): 5 s.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// A resolver whose answers come in time, or are unknown.
#[derive(Clone)]
pub(super) struct InTime<R>(pub(super) R);

async fn in_time<T>(answer: impl Future<Output = Answer<T>>) -> Answer<T> {
    tokio::time::timeout(QUESTION_LIMIT, answer).await.unwrap_or(Answer::Unknown)
}

#[async_trait]
impl<R: Resolver> Resolver for InTime<R> {
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        in_time(self.0.ipv4(name)).await
    }

    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        in_time(self.0.ipv6(name)).await
    }

    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>> {
        in_time(self.0.ptr(address)).await
    }

    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>> {
        in_time(self.0.mx(name)).await
    }

    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        in_time(self.0.txt(name)).await
    }

    async fn tlsa(&self, name: &DnsName) -> Answer<Vec<TlsaRecord>> {
        in_time(self.0.tlsa(name)).await
    }

    async fn alias(&self, name: &DnsName) -> Answer<DnsName> {
        in_time(self.0.alias(name)).await
    }

    async fn soa(&self, name: &DnsName) -> Answer<StartOfAuthority> {
        in_time(self.0.soa(name)).await
    }

    async fn ns(&self, name: &DnsName) -> Answer<Vec<DnsName>> {
        in_time(self.0.ns(name)).await
    }
}

/// The addresses of a name, of both families.
pub(super) struct Addresses {
    pub(super) found: Vec<IpAddr>,
    /// Of one family, or of both, nothing is known.
    pub(super) is_partial: bool,
}

impl Addresses {
    pub(super) async fn of(dns: &dyn Resolver, name: &DnsName) -> Self {
        let (ipv4, ipv6) = tokio::join!(addresses(dns, name, false), addresses(dns, name, true));
        let is_partial = ipv4.is_unknown() || ipv6.is_unknown();
        let found = [ipv4, ipv6].into_iter().filter_map(Answer::found).flatten().collect();
        Self { found, is_partial }
    }

    /// A few of them, for people.
    pub(super) fn shown(&self) -> String {
        listed(&self.found)
    }
}

/// A few values for people.
pub(super) fn listed<T: ToString>(values: &[T]) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<_> = values.iter().take(SHOWN).map(ToString::to_string).collect();
    if values.len() > SHOWN {
        shown.push(format!("{} more", values.len() - SHOWN));
    }
    shown.join(", ")
}
