//! What the owner of a policy wants to know of it: whether it is where others look, and who gets its reports.

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dmarc::{Dmarc as Record, Policy};
use smtp_core::{Answer, DnsName, Mailbox, Resolver};

use super::policy::{Trees, Unknown};

/// What a domain publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Published {
    Unknown,
    None,
    /// At that name.
    Several(DnsName, usize),
    Unreadable(DnsName),
    Record(OwnPolicy),
}

/// A policy that others find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnPolicy {
    /// The name of the record.
    pub(crate) at: DnsName,
    /// `none`, `quarantine` or `reject`; `None` where the record does not say.
    pub(crate) asked: Option<&'static str>,
    pub(crate) is_test: bool,
    pub(crate) reports: Vec<ReportTo>,
}

/// Who gets reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportTo {
    pub(crate) mailbox: String,
    /// Where others say that they want them (RFC 9990 §4); `None` where they go to the domain's own organization.
    pub(crate) consent: Option<DnsName>,
}

/// Whether a text is meant to be a policy.
pub(crate) fn is_record(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"v=DMARC1"))
        && matches!(text.get(8), None | Some(b';' | b' '))
}

/// Looks where others look: at the name of the domain, then at that of its organization (RFC 9989 §4.10.1).
pub(crate) async fn published(dns: &dyn Resolver, domain: &DnsName) -> Published {
    match at(dns, domain, domain).await {
        Published::None => {}
        found => return found,
    }
    match Trees::new(dns).organizational(domain).await {
        Err(Unknown) => Published::Unknown,
        Ok(organizational) if organizational == *domain => Published::None,
        Ok(organizational) => at(dns, &organizational, domain).await,
    }
}

async fn at(dns: &dyn Resolver, name: &DnsName, domain: &DnsName) -> Published {
    let Some(at) = name.child("_dmarc") else { return Published::None };
    let texts = match dns.txt(&at).await {
        Answer::Found { data, .. } => data,
        Answer::Absent => return Published::None,
        Answer::Unknown => return Published::Unknown,
    };
    let records: Vec<_> = texts.iter().filter(|text| is_record(text)).collect();
    let [text] = records[..] else {
        return if records.is_empty() { Published::None } else { Published::Several(at, records.len()) };
    };
    let Ok(record) = Record::parse(text) else { return Published::Unreadable(at) };
    let asked = match if name == domain { record.p } else { record.sp } {
        Policy::None => Some("none"),
        Policy::Quarantine => Some("quarantine"),
        Policy::Reject => Some("reject"),
        Policy::Unspecified => None,
    };
    let Ok(reports) = reports(dns, name, &record).await else { return Published::Unknown };
    Published::Record(OwnPolicy { at, asked, is_test: record.t, reports })
}

/// Mailboxes alone; nobody sends reports elsewhere.
async fn reports(dns: &dyn Resolver, domain: &DnsName, record: &Record) -> Result<Vec<ReportTo>, Unknown> {
    let mut trees = Trees::new(dns);
    let organizational = trees.organizational(domain).await?;
    let mut reports = Vec::new();
    for uri in record.rua.iter().take(REPORTS_LIMIT) {
        let Ok(mailbox) = Mailbox::parse(uri.uri()) else { continue };
        let Some(Ok(receiver)) = mailbox.domain().map(DnsName::try_from) else { continue };
        let is_own = receiver == *domain || trees.organizational(&receiver).await? == organizational;
        let consent = if is_own { None } else { receiver.child(&format!("{domain}._report._dmarc")) };
        reports.push(ReportTo { mailbox: mailbox.to_string(), consent });
    }
    Ok(reports)
}

/// Of more addresses the rest gets perhaps nothing (RFC 9990 §4).
const REPORTS_LIMIT: usize = 10;
