//! Addresses that we make and know again, as a queue and a client meet them.

use std::time::{Duration, SystemTime};

use smtp_core::{
    Connection, Domain, Mailbox, Outbound, OutboundPolicy, OutboundRecipient, ReversePath, SessionId, Transient,
    Treatment,
};
use smtp_policy::{Batv, BatvLookup, BatvSigning, OutboundChain, RewritingKey, Srs, SrsForwarding, SrsLookup, Verp};

use crate::support::{converse_about, table};

const DAY: u64 = 24 * 60 * 60;

/// So many days after some day.
fn at(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_375 + days * DAY)
}

fn key() -> RewritingKey {
    RewritingKey::new("tops3cr3tkey").expect("long enough")
}

fn domain(text: &str) -> Domain {
    text.parse().expect("a domain")
}

fn srs() -> Srs {
    Srs::new(domain("example.org"), key())
}

fn client(treatment: Treatment) -> Connection {
    let (peer, local) = ("192.0.2.1:1", "192.0.2.25:25");
    let address = |text: &str| text.parse().expect("an address");
    Connection::new(SessionId::new(1), address(peer), address(local)).with_treatment(treatment)
}

/// The reverse-paths under which a message leaves for these recipients.
async fn leaves(
    policy: &impl OutboundPolicy,
    from: &str,
    connection: Option<&Connection>,
    recipients: &[&str],
) -> Result<Vec<String>, Transient> {
    let from: ReversePath = from.parse().expect("a path");
    let message = connection.map_or(Outbound::generated(&from), |client| Outbound::received(&from, client));
    let mailbox = |text: &&str| Mailbox::parse(text).expect("a mailbox");
    let mut recipients: Vec<_> =
        recipients.iter().map(|text| OutboundRecipient::new(mailbox(text), from.clone())).collect();
    policy.enqueue(&message, &mut recipients).await?;
    Ok(recipients.iter().map(|recipient| recipient.reverse_path().to_string()).collect())
}

#[tokio::test] // PRACTICES S30: where a forward leaves our domains
async fn s30_the_reverse_path_of_what_is_forwarded_for_others_is_rewritten() -> Result<(), Transient> {
    let policy = SrsForwarding::new(srs(), [domain("example.net")]).with_clock(|| at(0));
    let [mx, submission, relay] = [Treatment::Mx, Treatment::Submission, Treatment::RelayClient].map(client);
    let rewritten =
        format!("<{}>", srs().forward(&"alice@client.example".parse().expect("a mailbox"), at(0)).expect("short"));
    let (alice, outside) = ("<alice@client.example>", "bob@third.example");
    let long = format!("<{}@client.example>", "x".repeat(60));
    for (from, connection, to, expected) in [
        (alice, Some(&mx), outside, rewritten.as_str()),
        (alice, Some(&mx), "bob@example.org", alice),
        (alice, Some(&mx), "bob@EXAMPLE.net", alice),
        (alice, Some(&submission), outside, alice),
        (alice, Some(&relay), outside, alice),
        (alice, None, outside, alice),
        ("<user@example.org>", Some(&mx), outside, "<user@example.org>"),
        ("<user@example.net>", Some(&mx), outside, "<user@example.net>"),
        ("<>", Some(&mx), outside, "<>"),
        ("<>", None, outside, "<>"),
        (&long, Some(&mx), outside, &long),
    ] {
        assert_eq!(leaves(&policy, from, connection, &[to]).await?, [expected], "{from} to {to}");
    }
    let mixed = leaves(&policy, alice, Some(&mx), &["bob@example.org", outside, "carol@fourth.example"]).await?;
    assert_eq!(mixed, [alice, rewritten.as_str(), rewritten.as_str()]);
    Ok(())
}

#[tokio::test] // PRACTICES S30: bad hash 550 5.7.1; expired 550 5.1.1; SECURITY D-15
async fn s30_mail_to_a_rewritten_address_goes_where_it_came_from() {
    let forward = |text: &str| srs().forward(&text.parse().expect("a mailbox"), at(0)).expect("short").to_string();
    let rewritten = forward("alice@client.example");
    for (to, days, reply, delivered) in [
        (rewritten.clone(), 0, "250 ", "alice@client.example"),
        (rewritten.to_ascii_lowercase(), 21, "250 ", "alice@client.example"),
        (rewritten.clone(), 22, "550 5.1.1 ", ""),
        (rewritten.replace("alice", "bob"), 0, "550 5.7.1 ", ""),
        (rewritten.replace("@example.org", "@third.example"), 0, "550 5.7.1 ", ""),
        // Not of that form: a mailbox as any other.
        ("SRS0=x@example.org".to_owned(), 0, "550 5.1.1 ", ""),
        ("user@example.org".to_owned(), 0, "250 ", "user@example.org"),
        ("postmaster".to_owned(), 0, "250 ", "user@example.org"),
        // A domain of ours has its rules for what is found behind it.
        (foreign("user@example.org"), 0, "250 ", "user@example.org"),
        (foreign("nobody@example.org"), 0, "550 5.1.1 ", ""),
    ] {
        let other = Srs::new(domain("srs.example.org"), key());
        let lookup = SrsLookup::new(SrsLookup::new(table(), srs()).with_clock(move || at(days)), other);
        let lookup = lookup.with_clock(move || at(days));
        let rcpt = format!("RCPT TO:<{to}>");
        let lines = ["EHLO client.example", "MAIL FROM:<>", &rcpt, "DATA", "\r\nx", "."];
        let seen = converse_about(lookup, Vec::new(), "192.0.2.1", &lines).await;
        assert!(seen.replies[1].starts_with(reply), "{to} after {days} days: {:?}", seen.replies);
        let found: Vec<_> = seen.delivered.iter().flat_map(|message| &message.mailboxes).collect();
        let expected: Vec<_> = Some(delivered.to_owned()).filter(|to| !to.is_empty()).into_iter().collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{to}");
    }
}

/// An address of ours under another domain of ours.
fn foreign(text: &str) -> String {
    let other = Srs::new(domain("srs.example.org"), key());
    other.forward(&text.parse().expect("a mailbox"), at(0)).expect("short").to_string()
}

fn batv() -> Batv {
    Batv::new(3, key())
}

fn tagged(text: &str) -> String {
    batv().tag(&text.parse().expect("a mailbox"), at(0)).expect("short").to_string()
}

#[tokio::test] // STANDARDS Rbatv: on submission
async fn rbatv_mail_of_ours_leaves_with_a_tag() -> Result<(), Transient> {
    let policy = BatvSigning::new(batv(), [domain("example.org")]).with_clock(|| at(0));
    let [mx, submission, relay] = [Treatment::Mx, Treatment::Submission, Treatment::RelayClient].map(client);
    let (user, signed) = ("<user@example.org>", format!("<{}>", tagged("user@example.org")));
    let outside = "bob@third.example";
    let long = format!("<{}@example.org>", "x".repeat(49));
    for (from, connection, to, expected) in [
        (user, Some(&submission), outside, signed.as_str()),
        (user, Some(&relay), outside, &signed),
        (&signed, Some(&submission), outside, &signed),
        (user, Some(&submission), "other@example.org", user),
        (user, Some(&mx), outside, user),
        (user, None, outside, &signed),
        ("<>", None, outside, "<>"),
        ("<user@example.net>", Some(&submission), outside, "<user@example.net>"),
        ("<>", Some(&submission), outside, "<>"),
        (&long, Some(&submission), outside, &long),
    ] {
        assert_eq!(leaves(&policy, from, connection, &[to]).await?, [expected], "{from} to {to}");
    }
    Ok(())
}

#[tokio::test] // STANDARDS Rbatv: a notification without the tag 550 5.7.1
async fn rbatv_a_notification_needs_a_tag_of_ours() {
    let user = "user@example.org";
    let long = format!("{}@example.org", "x".repeat(49));
    for (from, to, days, reply, delivered) in [
        ("<>", tagged(user), 0, "250 ", user),
        ("<>", tagged(user).to_ascii_lowercase(), 7, "250 ", user),
        ("<>", tagged(user), 8, "550 5.7.1 ", ""),
        ("<>", tagged(user).replace("user", "other"), 0, "550 5.7.1 ", ""),
        ("<>", user.to_owned(), 0, "550 5.7.1 ", ""),
        ("<>", "nobody@example.org".to_owned(), 0, "550 5.1.1 ", ""),
        ("<>", tagged("nobody@example.org"), 0, "550 5.1.1 ", ""),
        ("<>", "user@third.example".to_owned(), 0, "550 5.7.1 ", ""),
        ("<>", "postmaster".to_owned(), 0, "250 ", user),
        ("<>", "abuse@example.org".to_owned(), 0, "250 ", user),
        ("<>", long.clone(), 0, "250 ", long.as_str()),
        ("<bob@third.example>", user.to_owned(), 0, "250 ", user),
        ("<bob@third.example>", tagged(user), 0, "250 ", user),
        ("<bob@third.example>", tagged(user), 8, "550 5.7.1 ", ""),
    ] {
        let table = table().with_mailbox(&long.parse().expect("a mailbox"));
        let lookup = BatvLookup::new(table, batv(), [domain("example.org")]).with_clock(move || at(days));
        let (mail, rcpt) = (format!("MAIL FROM:{from}"), format!("RCPT TO:<{to}>"));
        let lines = ["EHLO client.example", &mail, &rcpt, "DATA", "\r\nx", "."];
        let seen = converse_about(lookup, Vec::new(), "192.0.2.1", &lines).await;
        assert!(seen.replies[1].starts_with(reply), "{from} to {to} after {days} days: {:?}", seen.replies);
        let found: Vec<_> = seen.delivered.iter().flat_map(|message| &message.mailboxes).collect();
        let expected: Vec<_> = Some(delivered.to_owned()).filter(|to| !to.is_empty()).into_iter().collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{to}");
    }
}

#[tokio::test] // PRACTICES S32: whatever there is, each recipient has one reverse-path
async fn s32_srs_verp_and_batv_go_together() -> Result<(), Transient> {
    let ours = || [domain("example.org")];
    let policy = OutboundChain::new()
        .with(SrsForwarding::new(srs(), ours()).with_clock(|| at(0)))
        .with(Verp::new("news@example.org".parse().expect("a mailbox")))
        .with(BatvSigning::new(batv(), ours()).with_clock(|| at(0)));
    let [mx, submission] = [Treatment::Mx, Treatment::Submission].map(client);
    let to = ["bob@third.example", "carol@fourth.example"];
    let forwarded = leaves(&policy, "<alice@client.example>", Some(&mx), &to).await?;
    assert!(forwarded.iter().all(|path| path.starts_with("<SRS0=")), "{forwarded:?}");
    let list = leaves(&policy, "<news@example.org>", Some(&submission), &to).await?;
    let expected = ["news+bob=third.example@example.org", "news+carol=fourth.example@example.org"];
    assert_eq!(list, expected.map(|path| format!("<{}>", tagged(path))));
    let own = leaves(&policy, "<user@example.org>", Some(&submission), &to).await?;
    assert_eq!(own, [format!("<{}>", tagged("user@example.org")), format!("<{}>", tagged("user@example.org"))]);
    Ok(())
}
