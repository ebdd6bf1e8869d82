//! Requests for receipts, leaving and relayed (PRACTICES S22); arriving is `MaildirTransport`'s in `smtp-queue`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use smtp_core::{Content, Domain, DsnOffer, ResolverTable};
use smtp_policy::{Dkim, DkimKey, DkimResult, DkimSigner, Preset, RECEIPT_FIELDS, Receipts};

use crate::support::converse;

const AUTH: &str = "AUTH PLAIN AGFsaWNlAHg=";

async fn delivered(is_user: bool, content: &str) -> String {
    delivered_from("192.0.2.1", is_user, content).await
}

/// What a relay client sends.
async fn relayed(content: &str) -> String {
    delivered_from("10.201.0.1", false, content).await
}

async fn delivered_from(peer: &str, is_user: bool, content: &str) -> String {
    let auth = if is_user { AUTH } else { "NOOP" };
    let lines = ["EHLO client.example", auth, "MAIL FROM:<alice@client.example>", "RCPT TO:<user@example.org>", "DATA"];
    let said = converse(vec![Arc::new(Receipts)], peer, &[&lines[..], &[content, "."]].concat()).await;
    let text = said.delivered[0].text.clone();
    text.split_once("Subject: ").map(|(_, behind)| format!("Subject: {behind}")).expect("it is there")
}

#[tokio::test] // PRACTICES S22: each field, leaving; and nothing but these fields.
async fn s22_requests_for_receipts_do_not_leave() {
    for name in RECEIPT_FIELDS {
        for name in [name.to_owned(), name.to_uppercase(), format!("{name} ")] {
            let content = format!(
                "Subject: x\r\n{name}: <alice@client.example>,\r\n <b@client.example>\r\nX-{name}: y\r\nTo: z\r\n\r\n{name}: body"
            );
            let expected = format!("Subject: x\r\nX-{name}: y\r\nTo: z\r\n\r\n{name}: body\r\n");
            assert_eq!(delivered(true, &content).await, expected);
            assert_eq!(relayed(&content).await, expected, "what relay clients send");
            let signed = content.replacen("\r\n", "\r\nDKIM-Signature: v=1\r\n", 1);
            assert_eq!(relayed(&signed).await, format!("{signed}\r\n"), "what somebody has signed");
            assert_eq!(delivered(false, &content).await, format!("{content}\r\n"), "what strangers wrote");
        }
    }
}

#[tokio::test] // PRACTICES S22: "DKIM still verifies on what is relayed"
async fn s22_a_signature_over_such_a_field_holds_on_what_is_relayed() {
    let key = DkimKey::from_pem("e1", include_bytes!("../data/ed25519.pem")).expect("a key");
    let dns = ResolverTable::new().with_txt("e1._domainkey.client.example", key.record());
    let domain: Domain = "client.example".parse().expect("a domain");
    let message =
        "Subject: x\r\nFrom: <alice@client.example>\r\nReturn-Receipt-To: <alice@client.example>\r\n\r\nx\r\n";
    let fields = DkimSigner::new(&domain, key).sign(message.as_bytes()).expect("it has an author");
    let fields: String = fields.iter().map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
    let relayed = delivered(false, message.trim_end()).await;
    let verified = Dkim::new(dns).verify(&Content::new(fields + &relayed)).await.expect("it is in memory");
    assert_eq!(verified.0.iter().map(|signature| signature.result).collect::<Vec<_>>(), [DkimResult::Pass]);
}

#[test] // PRACTICES S22: off / strip / strip; `DSN` to all / known clients / known clients
fn s22_what_each_preset_makes_of_it() {
    let found = Preset::ALL.map(|preset| (Receipts::are_stripped(preset), Receipts::dsn_offer(preset)));
    let (all, known) = (DsnOffer::Everybody, DsnOffer::KnownClients);
    assert_eq!(found, [(false, all), (true, known), (true, known)]);
}

#[test] // PRACTICES S22, STANDARDS R8098: no code path creates an MDN.
fn s22_no_source_can_write_a_receipt() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let (mut directories, mut files): (Vec<PathBuf>, usize) = (
        ["smtp-core/src", "smtp-policy/src", "smtp-queue/src", "examples/mta/src"].map(|place| root.join(place)).into(),
        0,
    );
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                directories.push(entry);
            } else {
                let text = std::fs::read_to_string(&entry).expect("UTF-8").to_ascii_lowercase();
                assert!(!text.contains("message/disposition-notification"), "{}", entry.display());
                files += 1;
            }
        }
    }
    assert!(files > 100, "{files}");
}
