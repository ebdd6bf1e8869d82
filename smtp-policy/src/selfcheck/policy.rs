//! What the domain asks of those who get forgeries: DMARC, and whether our own mail is aligned (PRACTICES S39; RFC 9989).

use futures_util::future::join_all;
use smtp_core::{Answer, DnsName, Resolver};

use crate::dmarc::own::{OwnPolicy, Published, ReportTo, is_record, published};

use super::facts::OwnDomain;
use super::report::{SelfFinding, SelfItem, Severity, text_record};

const RECORD: SelfItem = SelfItem::new("dmarc", "S39", "the domain says by DMARC what becomes of forgeries");
const NAME: SelfItem = SelfItem::new("dmarc-name", "S39", "the policy is at `_dmarc` beneath the domain");
const SINGLE: SelfItem = SelfItem::new("dmarc-single", "S39", "there is one policy");
const READABLE: SelfItem = SelfItem::new("dmarc-readable", "S39", "the policy can be read");
const POLICY: SelfItem = SelfItem::new("dmarc-policy", "S39", "the policy asks for more than reports");
const REPORTS: SelfItem = SelfItem::new("dmarc-reports", "S39", "somebody gets reports");
const CONSENT: SelfItem =
    SelfItem::new("dmarc-consent", "S39", "who gets reports for another domain says that it wants them");
const ALIGNED: SelfItem = SelfItem::new("alignment", "S39", "SPF or DKIM confirms the domain of the author");

pub(super) async fn check(dns: &dyn Resolver, domain: &OwnDomain) -> Vec<SelfFinding> {
    let name = &domain.name;
    let Some(at) = name.child("_dmarc") else {
        return vec![RECORD.error(name, "the name is too long for a policy")];
    };
    let proposal = format!("v=DMARC1; p=quarantine; rua=mailto:postmaster@{name}");
    let publish = |finding: SelfFinding, at: &DnsName, advice: &str| {
        finding.advising(advice).publishing(text_record(at, &proposal))
    };
    let policy = match published(dns, name).await {
        Published::Unknown => return vec![RECORD.unknown(name, "DNS does not answer")],
        Published::Several(at, count) => {
            return vec![publish(SINGLE.error(&at, format!("{count} policies: none counts")), &at, "leave one")];
        }
        Published::Unreadable(at) => {
            return vec![publish(READABLE.error(&at, "it cannot be read, and does not count"), &at, "correct it")];
        }
        Published::None => {
            let misplaced = dns.txt(name).await.found().is_some_and(|texts| texts.iter().any(|text| is_record(text)));
            let finding = if misplaced {
                NAME.error(name, format!("the policy is at {name}, where nobody looks"))
            } else {
                RECORD.warning(name, format!("no policy at {at}"))
            };
            return vec![publish(finding, &at, "publish a policy; `p=none` to begin with, and look at the reports")];
        }
        Published::Record(policy) => policy,
    };
    let OwnPolicy { at, asked, is_test, reports } = &policy;
    let mut found = vec![RECORD.ok(name, format!("a policy at {at}"))];
    let weak = "ask for `quarantine` or `reject` once the reports show that all your mail is aligned";
    found.push(match asked {
        None => publish(POLICY.warning(at, "it has no `p`"), at, "say what is asked for"),
        Some("none") => POLICY.note(at, "`none`").advising(weak),
        Some(asked) if *is_test => POLICY.note(at, format!("`{asked}`, and `t=y`: it is a test")).advising(weak),
        Some(asked) => POLICY.ok(at, format!("`{asked}`")),
    });
    if reports.is_empty() {
        found.push(publish(
            REPORTS.note(at, "`rua` names no mailbox"),
            at,
            "name one: reports show who sends in your name",
        ));
    } else {
        let mailboxes: Vec<_> = reports.iter().map(|report| report.mailbox.clone()).collect();
        found.push(REPORTS.ok(at, mailboxes.join(", ")));
    }
    found.extend(join_all(reports.iter().map(|report| consent(dns, report))).await.into_iter().flatten());
    found
}

async fn consent(dns: &dyn Resolver, report: &ReportTo) -> Option<SelfFinding> {
    let at = report.consent.as_ref()?;
    let mailbox = &report.mailbox;
    Some(match dns.txt(at).await {
        Answer::Unknown => CONSENT.unknown(mailbox, format!("DNS does not answer for {at}")),
        Answer::Found { data, .. } if data.iter().any(|text| is_record(text)) => CONSENT.ok(mailbox, at.to_string()),
        _ => CONSENT
            .warning(mailbox, format!("{at} does not say so: no report is sent there (RFC 9990 section 4)"))
            .advising("ask who keeps that domain to publish this, or name a mailbox of your own")
            .publishing(text_record(at, "v=DMARC1")),
    })
}

/// Whether what was found of SPF and DKIM confirms mail of the domain. Reverse-path and signature are of the domain itself, so that
/// strict alignment holds where relaxed does.
pub(super) fn alignment(domain: &OwnDomain, findings: &[SelfFinding]) -> SelfFinding {
    let is = |id: &str, severity: Severity| {
        findings.iter().any(|finding| finding.id() == id && finding.severity() == severity)
    };
    let by_dkim = is("dkim-key", Severity::Ok) && !is("dkim-testing", Severity::Warning);
    let by_spf = is("spf-pass", Severity::Ok) && !is("spf-pass", Severity::Error);
    let name = &domain.name;
    match (by_dkim, by_spf) {
        (true, true) => ALIGNED.ok(name, "both"),
        (true, false) => ALIGNED.ok(name, "DKIM"),
        (false, true) => ALIGNED
            .note(name, "SPF alone, which does not survive forwarding")
            .advising("sign with a key that is in DNS as well"),
        (false, false) if findings.iter().any(|finding| finding.severity() == Severity::Unknown) => {
            ALIGNED.unknown(name, "DNS does not answer")
        }
        (false, false) => ALIGNED
            .error(name, "neither")
            .advising("publish who sends for the domain, and sign: else mail is taken for forged"),
    }
}
