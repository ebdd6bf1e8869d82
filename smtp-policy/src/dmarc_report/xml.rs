//! A report as XML (RFC 9990 appendix A).

use std::str::FromStr;

use mail_auth::report::{
    AuthResult, DKIMAuthResult, DateRange, Discovery, DmarcResult, Identifier, PolicyEvaluated, PolicyOverrideReason,
    PolicyPublished, Record, Report, ReportMetadata, SPFAuthResult, SPFDomainScope,
};

use super::Day;
use super::ledger::Head;
use super::row::{Row, clean};

/// Who reports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter<'a> {
    /// The name of the organisation.
    pub(super) organization: &'a str,
    /// Whom to ask.
    pub(super) email: &'a str,
}

/// The report of a domain and day.
pub(super) fn xml(reporter: Reporter<'_>, id: &str, day: Day, head: &Head, rows: &[(Row, u64)]) -> String {
    report(reporter, id, day, head, rows).to_xml()
}

fn report(reporter: Reporter<'_>, id: &str, day: Day, head: &Head, rows: &[(Row, u64)]) -> Report {
    let published = &head.published;
    let alignment = |is_strict| mail_auth::report::Alignment::from_str(if is_strict { "s" } else { "r" });
    let error = (head.left_out > 0)
        .then(|| format!("{} more messages were counted for which there was no room", head.left_out));
    Report {
        version: 1.0,
        report_metadata: ReportMetadata {
            org_name: words(reporter.organization),
            email: clean(reporter.email),
            report_id: id.to_owned(),
            date_range: DateRange { begin: day.begin(), end: day.begin() + Day::SECONDS - 1 },
            error: error.into_iter().collect(),
            generator: Some(concat!("smtp-policy/", env!("CARGO_PKG_VERSION")).to_owned()),
            ..ReportMetadata::default()
        },
        policy_published: PolicyPublished {
            domain: clean(&published.domain),
            adkim: alignment(published.is_strict_dkim).unwrap_or_default(),
            aspf: alignment(published.is_strict_spf).unwrap_or_default(),
            p: word(&published.policy),
            sp: word(&published.subdomain_policy),
            np: word(&published.missing_domain_policy),
            testing: published.is_test,
            discovery_method: Discovery::Treewalk,
            fo: Some(clean(&published.failure_options)),
            ..PolicyPublished::default()
        },
        record: rows.iter().map(|(row, count)| record(row, *count)).collect(),
        ..Report::default()
    }
}

fn record(row: &Row, count: u64) -> Record {
    let of = |is_aligned| if is_aligned { DmarcResult::Pass } else { DmarcResult::Fail };
    let reason = row.reason.iter().map(|reason| PolicyOverrideReason { type_: word(reason), comment: None });
    let dkim = row.signatures.iter().map(|signature| DKIMAuthResult {
        domain: clean(&signature.domain),
        selector: clean(&signature.selector),
        result: word(&signature.result),
        human_result: None,
    });
    let spf = row.sender.iter().map(|(domain, result)| SPFAuthResult {
        domain: clean(domain),
        scope: SPFDomainScope::MailFrom,
        result: word(result),
        human_result: None,
    });
    Record {
        row: mail_auth::report::Row {
            source_ip: Some(row.source),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            policy_evaluated: PolicyEvaluated {
                disposition: word(&row.disposition),
                dkim: of(row.dkim),
                spf: of(row.spf),
                reason: reason.collect(),
            },
        },
        identifiers: Identifier {
            envelope_to: None,
            envelope_from: clean(&row.envelope_from),
            header_from: clean(&row.header_from),
        },
        auth_results: AuthResult { dkim: dkim.collect(), spf: spf.collect() },
        extensions: Vec::new(),
    }
}

/// The value of a word that we wrote ourselves.
fn word<T: FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

/// The name of an organisation: what XML can hold, in one line.
fn words(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' { ' ' } else { c });
    visible.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::ledger::Phase;
    use super::super::row::SignatureRow;
    use super::*;
    use crate::dmarc::Published;

    const REPORTER: Reporter<'_> = Reporter { organization: "Example & Sons", email: "dmarc@example.org" };

    fn head() -> Head {
        let published = Published {
            domain: "client.example".to_owned(),
            policy: "reject".to_owned(),
            subdomain_policy: "quarantine".to_owned(),
            missing_domain_policy: "none".to_owned(),
            is_strict_dkim: true,
            is_strict_spf: false,
            is_test: false,
            failure_options: "d:s".to_owned(),
            addresses: Vec::new(),
        };
        Head { published, phase: Phase::Closed, rows: 1, left_out: 2 }
    }

    fn row() -> Row {
        let text = |text: &str| text.to_owned();
        Row {
            source: "192.0.2.1".parse().expect("an address"),
            disposition: text("none"),
            dkim: false,
            spf: false,
            reason: Some(text("local_policy")),
            header_from: text("client.example"),
            envelope_from: text("bounce.example"),
            signatures: vec![SignatureRow { domain: text("d.example"), selector: text("s<1"), result: text("fail") }],
            sender: Some((text("bounce.example"), text("pass"))),
        }
    }

    /// RFC 9990 appendix A: namespace, order and words of the schema.
    const EXPECTED: &str = "\
<?xml version=\"1.0\" encoding=\"UTF-8\" ?>
<feedback xmlns=\"urn:ietf:params:xml:ns:dmarc-2.0\">
<version>1.0</version>
<report_metadata>
<org_name>Example &amp; Sons</org_name>
<email>dmarc@example.org</email>
<report_id>abc</report_id>
<date_range>
<begin>86400</begin>
<end>172799</end>
</date_range>
<error>2 more messages were counted for which there was no room</error>
<generator>smtp-policy/VERSION</generator>
</report_metadata>
<policy_published>
<domain>client.example</domain>
<p>reject</p>
<sp>quarantine</sp>
<np>none</np>
<adkim>s</adkim>
<aspf>r</aspf>
<discovery_method>treewalk</discovery_method>
<fo>d:s</fo>
<testing>n</testing>
</policy_published>
<record>
<row>
<source_ip>192.0.2.1</source_ip>
<count>7</count>
<policy_evaluated>
<disposition>none</disposition>
<dkim>fail</dkim>
<spf>fail</spf>
<reason>
<type>local_policy</type>
</reason>
</policy_evaluated>
</row>
<identifiers>
<envelope_from>bounce.example</envelope_from>
<header_from>client.example</header_from>
</identifiers>
<auth_results>
<dkim>
<domain>d.example</domain>
<selector>s&lt;1</selector>
<result>fail</result>
</dkim>
<spf>
<domain>bounce.example</domain>
<scope>mfrom</scope>
<result>pass</result>
</spf>
</auth_results>
</record>
</feedback>
";

    #[test] // RFC 9990 appendix A
    fn r9990_the_words_of_the_schema_in_its_order() {
        let written = xml(REPORTER, "abc", Day(1), &head(), &[(row(), 7)]).replace('\t', "");
        assert_eq!(written.replace(env!("CARGO_PKG_VERSION"), "VERSION"), EXPECTED);
    }

    proptest! {
        #[test] // SECURITY D-11: parse(generate(x)) = x
        fn d11_reading_undoes_writing(texts in proptest::collection::vec("\\PC{0,20}|[<>&\"';\r\n\\x00 \\]]{0,12}", 8),
                                      source: [u8; 16], counts in proptest::collection::vec(1..u32::MAX, 0..3)) {
            let row = Row {
                source: IpAddr::from(source).to_canonical(),
                header_from: texts[0].clone(),
                envelope_from: texts[1].clone(),
                signatures: vec![SignatureRow {
                    domain: texts[2].clone(), selector: texts[3].clone(), result: texts[4].clone(),
                }],
                sender: Some((texts[5].clone(), texts[6].clone())),
                ..row()
            };
            let rows: Vec<_> = counts.iter().map(|count| (row.clone(), u64::from(*count))).collect();
            let reporter = Reporter { organization: &texts[7], ..REPORTER };
            let mut expected = report(reporter, "abc", Day(1), &head(), &rows);
            let mut read = Report::parse_xml(expected.to_xml().as_bytes()).expect("well formed");
            // This reader leaves out spaces beside what was escaped.
            for report in [&mut expected, &mut read] {
                report.report_metadata.org_name.retain(|c| !c.is_whitespace());
            }
            prop_assert_eq!(read, expected);
        }
    }
}
