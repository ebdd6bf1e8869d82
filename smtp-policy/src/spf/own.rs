//! What the owner of a record wants to know of it: not whether a client passes, but whether the record is right.

use std::net::{IpAddr, Ipv4Addr};

use smtp_core::{Answer, DnsName, Resolver};

use super::SpfResult;
use super::evaluation::{Evaluated, Query, check_host};
use super::record::{Mechanism, Record, is_record};

/// An address that nobody has (RFC 1112 §4).
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1));

/// What a domain publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    Unknown,
    None,
    Several(usize),
    /// With the term that is in the way.
    Unreadable(String),
    Record {
        /// It has the mechanism `ptr`, which should not be used (RFC 7208 §5.5).
        uses_ptr: bool,
    },
}

/// Looks at the record itself.
pub(crate) async fn published(dns: &dyn Resolver, domain: &DnsName) -> Published {
    let texts = match dns.txt(domain).await {
        Answer::Found { data, .. } => data,
        Answer::Absent => return Published::None,
        Answer::Unknown => return Published::Unknown,
    };
    let records: Vec<_> = texts.iter().filter(|text| is_record(text)).collect();
    match records[..] {
        [] => Published::None,
        [record] => match Record::parse(record) {
            Ok(record) => {
                let is_ptr = |mechanism: &Mechanism| matches!(mechanism, Mechanism::Pointer(_));
                Published::Record { uses_ptr: record.directives.iter().any(|it| is_ptr(&it.mechanism)) }
            }
            Err(term) => Published::Unreadable(term.0),
        },
        _ => Published::Several(records.len()),
    }
}

/// What others make of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opinion {
    pub(crate) result: SpfResult,
    pub(crate) reason: String,
    pub(crate) is_wide: bool,
}

/// What the record says of one of our addresses.
pub(crate) async fn says(dns: &dyn Resolver, domain: &DnsName, client: IpAddr, helo: &DnsName) -> Opinion {
    let query = Query {
        client,
        local_part: "postmaster".to_owned(),
        domain: domain.to_string(),
        helo: helo.to_string(),
        receiver: "unknown".to_owned(),
    };
    let Evaluated { result, reason, is_wide, .. } = check_host(dns, &query).await;
    Opinion { result, reason, is_wide }
}

/// What it says of somebody else: all its terms are evaluated then.
pub(crate) async fn says_of_strangers(dns: &dyn Resolver, domain: &DnsName) -> Opinion {
    let name = DnsName::parse("stranger.invalid").expect("two labels");
    says(dns, domain, STRANGER, &name).await
}
