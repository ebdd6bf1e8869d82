//! `Authentication-Results` as it is stored.

use std::sync::Arc;

use smtp_core::{Domain, Policy, ResolverTable, Stages};
use smtp_policy::{Chain, Preset, ReverseDns, Spf};

use crate::support::{converse, message};

fn own() -> Domain {
    "mx.example.org".parse().expect("a domain")
}

#[tokio::test] // RFC 8601 §2.2, §5; SECURITY D-24
async fn d24_one_field_of_ours_with_all_results_and_none_that_lies() {
    let dns = ResolverTable::new()
        .with_host("mx.client.example", "192.0.2.1")
        .with_txt("client.example", "v=spf1 ip4:192.0.2.1");
    let chain = Chain::new("author", Preset::Bcp).with(ReverseDns::new(dns.clone())).with(Spf::new(dns));
    let content = "Authentication-Results: other.example; dkim=pass\r\n\
                   Authentication-Results: (we)\r\n \"MX.example.org\" 1; spf=pass\r\n smtp.mailfrom=bank.example\r\n\
                   Subject: x\r\n\r\nAuthentication-Results: mx.example.org; none";
    let lines = message(&["RCPT TO:<user@example.org>"], content);
    let seen = converse(vec![Arc::new(chain.reporting_as(&own()))], "192.0.2.1", &lines).await;
    let [delivered] = &seen.delivered[..] else { panic!("{seen:?}") };
    let expected = [
        "mx.example.org; iprev=pass policy.iprev=192.0.2.1; spf=pass smtp.helo=client.example; \
         spf=pass smtp.mailfrom=client.example",
        "other.example; dkim=pass",
    ];
    assert_eq!(delivered.fields("Authentication-Results"), expected);
    assert_eq!(delivered.fields("Subject"), ["x"]);
    assert!(delivered.text.ends_with("Authentication-Results: mx.example.org; none\r\n"), "the body stays");
    assert!(delivered.text.starts_with("Authentication-Results: mx.example.org;"), "above our trace field");
    assert!(delivered.sender_confirmed);
}

#[tokio::test] // RFC 8601 §5
async fn a_chain_without_checks_reports_none_and_removes_what_lies() {
    let chain = Chain::new("author", Preset::Bcp).reporting_as(&own());
    assert_eq!(chain.stages(), Stages::MESSAGE);
    let content = "Authentication-Results: mx.example.org; spf=pass\r\n\r\nx";
    let lines = message(&["RCPT TO:<postmaster@example.org>"], content);
    let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
    assert_eq!(seen.delivered[0].fields("Authentication-Results"), ["mx.example.org; none"]);
}
