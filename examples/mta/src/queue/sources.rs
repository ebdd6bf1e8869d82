//! The addresses that mail leaves from, each under the name that DNS has for it: `relay.source_addresses` (PRACTICES S7).

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use smtp_core::{Answer, DnsName, Domain, Host, Resolver};
use smtp_policy::{ConfirmedName, ReverseDns};
use smtp_queue::SourcePool;

/// How long the start waits for DNS. What did not answer by then is not known.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Looks each of the addresses up. One whose name does not lead back to it has the name of the server.
pub(crate) async fn source_pool(addresses: &[IpAddr], hostname: &Domain, dns: &Arc<dyn Resolver>) -> SourcePool {
    let names = join_all(addresses.iter().map(|address| name_of(*address, hostname, dns))).await;
    addresses.iter().zip(names).fold(SourcePool::new(), |pool, (address, name)| {
        tracing::info!(target: "mta", %address, %name, "mail leaves from there under that name");
        pool.with(*address, name)
    })
}

async fn name_of(address: IpAddr, hostname: &Domain, dns: &Arc<dyn Resolver>) -> Host {
    // Any socket shows whether the address is one of this host.
    if let Err(error) = UdpSocket::bind((address, 0)) {
        tracing::warn!(target: "mta", %address, %error, "this host has no such address; others take its place");
    }
    let seen = tokio::time::timeout(LOOKUP_LIMIT, ReverseDns::new(dns.clone()).examine_address(address)).await;
    let confirmed = seen.ok().and_then(|seen| seen.fact::<ConfirmedName>().cloned());
    if let Some(name) = confirmed.and_then(|ConfirmedName(name)| Host::parse(name.as_str()).ok()) {
        return name;
    }
    let leads_there = tokio::time::timeout(LOOKUP_LIMIT, leads_to(hostname, address, dns)).await;
    if !leads_there.unwrap_or(false) {
        tracing::warn!(target: "mta", %address, %hostname, "no name leads to that address; its greeting is of another");
    }
    Host::Domain(hostname.clone())
}

async fn leads_to(hostname: &Domain, address: IpAddr, dns: &Arc<dyn Resolver>) -> bool {
    let Ok(name) = DnsName::try_from(hostname) else { return false };
    match address {
        IpAddr::V4(address) => matches!(dns.ipv4(&name).await, Answer::Found { data, .. } if data.contains(&address)),
        IpAddr::V6(address) => matches!(dns.ipv6(&name).await, Answer::Found { data, .. } if data.contains(&address)),
    }
}
