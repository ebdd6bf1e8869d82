//! What a report tells of a message, as far as DMARC knows it: what the domain publishes, and what confirms it.

use mail_auth::dmarc::{Alignment, Dmarc as Record, Policy, Report};
use serde::{Deserialize, Serialize};
use smtp_core::DnsName;

use super::{Concluded, DmarcResult};

/// Addresses of a record that are kept. More are nobody's business.
const ADDRESSES_LIMIT: usize = 10;
/// Octets of an address, with room for any.
const ADDRESS_LIMIT_OCTETS: usize = 512;

/// What DMARC found of a message whose domain wants reports (RFC 9990 §3.1): a fact for who collects them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluated {
    /// The domain of the author.
    pub(crate) author: String,
    pub(crate) published: Published,
    pub(crate) is_pass: bool,
    /// What the domain asks for: `none`, `quarantine` or `reject`.
    pub(crate) configured: &'static str,
    /// The same, one step milder where it is a test.
    pub(crate) asked: &'static str,
    /// Whether SPF confirms the author's domain.
    pub(crate) spf: bool,
    /// Whether a signature does.
    pub(crate) dkim: bool,
}

/// What a domain publishes, as far as a report repeats it, and where reports are to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Where the record stands.
    pub(crate) domain: String,
    pub(crate) policy: String,
    pub(crate) subdomain_policy: String,
    pub(crate) missing_domain_policy: String,
    pub(crate) is_strict_dkim: bool,
    pub(crate) is_strict_spf: bool,
    pub(crate) is_test: bool,
    pub(crate) failure_options: String,
    /// The addresses, and the most octets that each takes; 0 is any number.
    pub(crate) addresses: Vec<(String, u64)>,
}

impl Evaluated {
    /// `None` where the domain wants no reports, or where nothing was found out: such a message comes again.
    pub(super) fn new(author: &DnsName, concluded: &Concluded) -> Option<Self> {
        let found = concluded.found.as_ref().filter(|found| !found.record.rua.is_empty())?;
        let is_pass = match concluded.result {
            DmarcResult::Pass => true,
            DmarcResult::Fail => false,
            _ => return None,
        };
        Some(Self {
            author: author.to_string(),
            published: Published::new(&found.domain, &found.record),
            is_pass,
            configured: word(found.configured),
            asked: word(found.asked),
            spf: concluded.spf,
            dkim: concluded.dkim,
        })
    }
}

impl Published {
    fn new(domain: &DnsName, record: &Record) -> Self {
        let failure_options = match record.fo {
            Report::All => "0",
            Report::Any => "1",
            Report::Dkim => "d",
            Report::Spf => "s",
            Report::DkimSpf => "d:s",
        };
        Self {
            domain: domain.to_string(),
            policy: word(record.p).to_owned(),
            subdomain_policy: word(record.sp).to_owned(),
            missing_domain_policy: word(record.np).to_owned(),
            is_strict_dkim: record.adkim == Alignment::Strict,
            is_strict_spf: record.aspf == Alignment::Strict,
            is_test: record.t,
            failure_options: failure_options.to_owned(),
            addresses: addresses(record),
        }
    }
}

/// The addresses of `rua`, without `mailto:`, and the most octets that each takes; 0 is any number. Other schemes are left out.
pub(crate) fn addresses(record: &Record) -> Vec<(String, u64)> {
    let of = |uri: &mail_auth::dmarc::URI| (uri.uri().to_owned(), u64::try_from(uri.max_size()).unwrap_or(u64::MAX));
    let short = record.rua.iter().filter(|uri| uri.uri().len() <= ADDRESS_LIMIT_OCTETS);
    short.take(ADDRESSES_LIMIT).map(of).collect()
}

fn word(policy: Policy) -> &'static str {
    match policy {
        Policy::Reject => "reject",
        Policy::Quarantine => "quarantine",
        Policy::None | Policy::Unspecified => "none",
    }
}
