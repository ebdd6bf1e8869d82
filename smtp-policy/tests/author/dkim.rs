//! Signatures: vectors of the RFCs, what is done to a message on its way, and what attackers send.

use std::sync::Arc;

use smtp_core::{Content, Domain, ResolverTable};
use smtp_policy::{Chain, DKIM_SIGNATURES_LIMIT, Dkim, DkimResult, Outcome, Preset};

use crate::signing::{KEY, Signing};
use crate::support::{converse, message};

const MESSAGE: &str = "From: me@client.example\r\nSubject: a  subject\r\n\tfolded\r\nTo: you@example.org\r\n\r\n\
                       Hello  \r\n\r\nthere\r\n\r\n\r\n";

fn dns() -> ResolverTable {
    ResolverTable::new().with_txt("ed._domainkey.client.example", KEY)
}

async fn results(dns: &ResolverTable, message: impl Into<Vec<u8>>) -> Vec<(DkimResult, &'static str)> {
    let content = Content::new(message.into());
    let signatures = Dkim::new(dns.clone()).verify(&content).await.expect("it is in memory");
    signatures.0.iter().map(|signature| (signature.result, signature.reason)).collect()
}

async fn result(dns: &ResolverTable, message: &str) -> DkimResult {
    match results(dns, message).await[..] {
        [(result, _)] => result,
        ref all => panic!("{all:?}"),
    }
}

#[tokio::test] // RFC 8463 appendix A; SECURITY T18
async fn the_message_of_rfc_8463_verifies_by_both_algorithms() {
    let message = include_str!("../data/rfc8463.eml").replace('\n', "\r\n");
    let dns = ResolverTable::new().with_txt("brisbane._domainkey.football.example.com", KEY).with_txt(
        "test._domainkey.football.example.com",
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Q\
         vx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
    );
    assert_eq!(results(&dns, message.clone()).await, [(DkimResult::Pass, "verified"); 2]);
    let seen = Dkim::new(dns).examine_message(&Content::new(message), None).await;
    let expected = [
        "dkim=pass header.d=football.example.com header.s=brisbane header.a=ed25519-sha256 header.b=/gCrinpc",
        "dkim=pass header.d=football.example.com header.s=test header.a=rsa-sha256 header.b=F45dVWDf",
    ];
    assert_eq!(seen.results(), expected);
}

#[tokio::test] // RFC 6376 appendix A.2 and C; SECURITY T18
async fn the_message_of_rfc_6376_verifies() {
    let message = "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n      \
        c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n      \
        h=Received : From : To : Subject : Date : Message-ID;\r\n      \
        bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n      \
        b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n      \
        4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n      \
        KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n      \
        4bmp/YzhwvcubU4=;\r\n\
        Received: from client1.football.example.com  [192.0.2.1]\r\n      \
        by submitserver.example.com with SUBMISSION;\r\n      \
        Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n\
        From: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n\
        Hi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n";
    let dns = ResolverTable::new().with_txt(
        "brisbane._domainkey.example.com",
        "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq\
         631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB",
    );
    assert_eq!(results(&dns, message).await, [(DkimResult::Pass, "verified")]);
}

#[tokio::test] // RFC 6376 §3.4
async fn what_each_form_lets_pass() {
    for (from, to, relaxed, simple) in [
        ("", "", DkimResult::Pass, DkimResult::Pass),
        ("To: you", "To: him", DkimResult::Pass, DkimResult::Pass),
        ("From: me@", "From:  ME@", DkimResult::Fail, DkimResult::Fail),
        ("From: me", "FROM:   me", DkimResult::Pass, DkimResult::Fail),
        ("a  subject\r\n\tfolded", "a subject folded ", DkimResult::Pass, DkimResult::Fail),
        ("Hello  \r\n", "Hello\r\n", DkimResult::Pass, DkimResult::Fail),
        ("there\r\n\r\n\r\n", "there\r\n", DkimResult::Pass, DkimResult::Pass),
        ("there\r\n\r\n\r\n", "there\r\n\r\n\r\nmore\r\n", DkimResult::Fail, DkimResult::Fail),
    ] {
        for (is_simple, expected) in [(false, relaxed), (true, simple)] {
            let signed = Signing { is_simple, ..Signing::default() }.sign(MESSAGE);
            let (field, text) = signed.split_once("From: ").expect("it has that");
            let changed = format!("From: {text}").replacen(from, to, 1);
            assert_eq!(result(&dns(), &format!("{field}{changed}")).await, expected, "{from:?} {to:?} {is_simple}");
        }
    }
}

/// `mail-auth` 0.13.3 keeps trailing lines that have white space only. Our own hash of the body does not.
#[tokio::test] // RFC 6376 §3.4.4
async fn the_fault_of_mail_auth_with_trailing_lines_of_white_space_is_not_ours() {
    let signed = Signing::default().sign("From: me@client.example\r\nSubject: x\r\n\r\nbody\r\n");
    assert_eq!(result(&dns(), &format!("{signed} \t\r\n \r\n")).await, DkimResult::Pass);
}

#[tokio::test] // SECURITY D-24; RFC 8301; RFC 6376 §6.1
async fn d24_signatures_that_prove_nothing() {
    let good = Signing::default().sign(MESSAGE);
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let small = "k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAM5FoJczi5dyrtGpmNKF9VN13i26aS2x4+OKYvu/P7C3QtJq6LkqcfsDUw6N7Kj+VrqmNaVJPi+NuDr34NNbHg0CAwEAAQ==";
    for (key, message, expected, asks) in [
        (KEY, good.clone(), DkimResult::Pass, true),
        (small, with("a=ed25519-sha256", "a=rsa-sha256"), DkimResult::PermError, true),
        (
            include_str!("../data/rsa8192.txt").trim(),
            with("a=ed25519-sha256", "a=rsa-sha256"),
            DkimResult::PermError,
            true,
        ),
        (KEY, with("a=ed25519-sha256", "a=rsa-sha1"), DkimResult::PermError, false),
        (KEY, with("a=ed25519-sha256", "a=none"), DkimResult::PermError, false),
        (KEY, with("v=1;", "v=2;"), DkimResult::PermError, false),
        (KEY, with("v=1;", ""), DkimResult::PermError, false),
        (KEY, with("d=client.example", "d=client.exa\r\n mple.org"), DkimResult::PermError, true),
        (KEY, with("d=client.example", "d=client.example; i=@other.example"), DkimResult::PermError, false),
        (KEY, with("d=client.example", "d=\""), DkimResult::PermError, true),
        (KEY, with("v=1;", "v=1; x;"), DkimResult::PermError, false),
        (KEY, with("v=1;", "v=1; d=other.example;"), DkimResult::PermError, false),
        (KEY, with("v=1;", "v=1; B=x; =y;"), DkimResult::PermError, false),
        (KEY, Signing { fields: &["Subject"], ..Signing::default() }.sign(MESSAGE), DkimResult::PermError, false),
        (KEY, with("; t=", "; x="), DkimResult::Neutral, false),
        (KEY, with("v=1;", "v=1; x=10;"), DkimResult::PermError, false),
        ("v=DKIM1; k=ed25519; p=", good.clone(), DkimResult::PermError, true),
        (
            "v=DKIM1; k=ed25519; s=other; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            good.clone(),
            DkimResult::PermError,
            true,
        ),
        (
            "v=DKIM1; k=ed25519; h=sha1; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            good.clone(),
            DkimResult::PermError,
            true,
        ),
        ("v=DKIM1; k=rsa; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", good.clone(), DkimResult::Fail, true),
        ("\u{1}", good.clone(), DkimResult::PermError, true),
    ] {
        let dns = ResolverTable::new().with_txt("ed._domainkey.client.example", key);
        let field: String = message.chars().take(200).collect();
        assert_eq!(result(&dns, &message).await, expected, "{key:.40} {field}");
        assert!(asks || dns.asked().is_empty(), "no key is needed: {field}");
    }
    let unknown = ResolverTable::new().with_unknown("_domainkey.client.example");
    assert_eq!(result(&unknown, &good).await, DkimResult::TempError);
    assert_eq!(result(&ResolverTable::new(), &good).await, DkimResult::PermError);
}

#[tokio::test] // SECURITY D-24: l= append
async fn d24_what_is_appended_behind_the_length_is_not_believed() {
    let plain = "From: me@client.example\r\nSubject: x\r\n\r\nHello\r\n";
    let signed = Signing { with_length: true, ..Signing::default() }.sign(plain);
    assert_eq!(result(&dns(), &signed).await, DkimResult::Pass, "it covers all");
    let appended = format!("{signed}Buy this!\r\n");
    assert_eq!(results(&dns(), appended).await, [(DkimResult::Policy, "covers a part of the body")]);
}

#[tokio::test] // SECURITY D-24: duplicated From or Subject; RFC 6376 §5.4.2
async fn d24_a_second_field_breaks_what_was_signed_twice() {
    let once = Signing::default().sign(MESSAGE);
    let twice = Signing { fields: &["From", "From", "Subject", "Subject"], ..Signing::default() }.sign(MESSAGE);
    for added in ["From: bank@bank.example\r\n", "Subject: urgent\r\n"] {
        assert_eq!(result(&dns(), &format!("{added}{once}")).await, DkimResult::Pass, "the lower one is meant");
        assert_eq!(result(&dns(), &format!("{added}{twice}")).await, DkimResult::Fail);
    }
    assert_eq!(result(&dns(), &twice).await, DkimResult::Pass);
}

#[tokio::test] // SECURITY D-24: 1,000 signatures
async fn d24_of_a_thousand_signatures_ten_are_looked_at() {
    let many =
        "DKIM-Signature: v=1; a=rsa-sha256; d=client.example; s=x; h=from; bh=YQ==; l=1; b=YQ==\r\n".repeat(1000);
    let dns = dns();
    let found = results(&dns, format!("{many}{}", Signing::default().sign(MESSAGE))).await;
    assert_eq!(found, [(DkimResult::Fail, "body was changed"); DKIM_SIGNATURES_LIMIT]);
    assert!(dns.asked().is_empty(), "a body that does not fit needs no key");
    let forged = Signing::default().field(MESSAGE).replace("s=ed", "s=none").repeat(1000);
    results(&dns, format!("{forged}{MESSAGE}")).await;
    assert_eq!(dns.asked().len(), DKIM_SIGNATURES_LIMIT);
}

#[tokio::test] // PRACTICES S21
async fn s21_a_signature_of_its_domain_vouches_for_the_reverse_path() {
    let content = Content::new(Signing::default().sign(MESSAGE));
    for (sender, expected) in [
        (Some("client.example"), true),
        (Some("lists.CLIENT.example"), true),
        (Some("example"), false),
        (Some("notclient.example"), false),
        (None, false),
    ] {
        let sender: Option<Domain> = sender.map(|sender| sender.parse().expect("a domain"));
        let seen = Dkim::new(dns()).examine_message(&content, sender.as_ref()).await;
        assert_eq!(seen.confirms_sender(), expected, "{sender:?}");
        assert_eq!(seen.findings()[0].outcome(), Outcome::Pass);
    }
    let broken = Content::new(Signing::default().sign(MESSAGE).replace("Hello", "Hullo"));
    let sender = "client.example".parse().expect("a domain");
    assert!(!Dkim::new(dns()).examine_message(&broken, Some(&sender)).await.confirms_sender());
}

#[tokio::test] // PRACTICES S39 × presets: what is not signed is as good as it ever was (RFC 6376 §6.1)
async fn s39_a_broken_signature_refuses_nobody() {
    let own: Domain = "mx.example.org".parse().expect("a domain");
    let broken =
        Signing::default().sign("From: me@client.example\r\nSubject: x\r\n\r\nx\r\n").replace("\r\nx\r\n", "\r\ny");
    for preset in Preset::ALL {
        for dns in [dns(), ResolverTable::new(), ResolverTable::new().with_unknown("client.example")] {
            let chain = Chain::new("dkim", preset).with(Dkim::new(dns)).reporting_as(&own);
            let lines = message(&["RCPT TO:<user@example.org>"], &broken);
            let seen = converse(vec![Arc::new(chain)], "192.0.2.1", &lines).await;
            let [delivered] = &seen.delivered[..] else { panic!("{seen:?}") };
            // PRACTICES S21: by the letter of RFC 5321 §6.1 whoever sends is told.
            assert_eq!(delivered.sender_confirmed, preset == Preset::RfcStrict);
            let [results] = &delivered.fields("Authentication-Results")[..] else { panic!("{delivered:?}") };
            assert!(
                results.starts_with("mx.example.org; dkim=fail reason=\"body was changed\" header.d=client.example")
            );
        }
    }
}
