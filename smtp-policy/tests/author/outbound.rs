//! What leaves us is signed or sealed, as a queue asks for it.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use smtp_core::{
    Accepted, Connection, Content, Domain, Listener, Mailbox, Message, Outbound, OutboundContent, OutboundPolicy,
    OutboundRecipient, ResolverTable, ReversePath, Server, SessionId, Treatment,
};
use smtp_policy::{
    ArcChain, ArcResult, ArcSealing, Dkim, DkimKey, DkimResult, DkimSigner, DkimSigning, OutboundChain, Sealed,
    Submission,
};
use tokio::io::{AsyncWriteExt, duplex};

use crate::support::Anybody;

const RSA: &[u8] = include_bytes!("../data/rsa2048.pem");
const ED25519: &[u8] = include_bytes!("../data/ed25519.pem");

fn domain(text: &str) -> Domain {
    text.parse().expect("a domain")
}

fn key(selector: &str) -> DkimKey {
    DkimKey::from_pem(selector, if selector.starts_with('r') { RSA } else { ED25519 }).expect("a key")
}

/// The records of all signers here: each domain has an RSA and an Ed25519 key.
fn dns() -> ResolverTable {
    let domains = ["client.example", "sub.client.example", "one.example", "two.example", "three.example"];
    domains.iter().fold(ResolverTable::new(), |dns, domain| {
        ["r1", "e1"]
            .iter()
            .fold(dns, |dns, selector| dns.with_txt(&format!("{selector}._domainkey.{domain}"), key(selector).record()))
    })
}

fn signer(name: &str) -> DkimSigner {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_375);
    DkimSigner::new(&domain(name), key("e1")).with_key(key("r1")).with_clock(move || time)
}

/// What a policy puts in front of a message for that recipient.
async fn fields(
    policy: &impl OutboundPolicy,
    treatment: Option<Treatment>,
    to: &str,
    content: &OutboundContent,
) -> String {
    let address = |text: &str| text.parse().expect("an address");
    let client = treatment.map(|treatment| {
        Connection::new(SessionId::new(1), address("192.0.2.1:1"), address("192.0.2.25:25")).with_treatment(treatment)
    });
    let path: ReversePath = "<me@client.example>".parse().expect("a path");
    let message = client.as_ref().map_or(Outbound::generated(&path), |client| Outbound::received(&path, client));
    let recipient = OutboundRecipient::new(Mailbox::parse(to).expect("a mailbox"), path.clone());
    let fields = policy.sign(&message, &[recipient], content).await.expect("it is in memory");
    fields.iter().map(|field| String::from_utf8_lossy(field.as_bytes())).collect()
}

fn content(text: &str) -> OutboundContent {
    OutboundContent::new(&b"Received: from x\r\n"[..], Content::new(text.to_owned()), 0)
}

/// Whose signatures are in front, one behind the other.
fn signers(fields: &str) -> Vec<&str> {
    let all = fields.split("DKIM-Signature:").skip(1);
    all.map(|field| field.split("d=").nth(1).and_then(|rest| rest.split(';').next()).expect("a domain")).collect()
}

#[tokio::test] // PRACTICES S39: what is signed, and by whom
async fn s39_our_own_mail_is_signed_by_the_domain_of_its_author() {
    let policy = OutboundChain::new().with(
        DkimSigning::new()
            .with(signer("client.example"))
            .with(signer("sub.client.example"))
            .with(signer("one.example")),
    );
    let both = |name| vec![name; 2];
    for (treatment, from, expected) in [
        (Some(Treatment::RelayClient), "me@client.example", both("client.example")),
        (None, "me@client.example", both("client.example")),
        // A stranger may say what he likes.
        (Some(Treatment::Mx), "me@client.example", vec![]),
        (None, "Me <me@CLIENT.example>, you@client.example", both("client.example")),
        (None, "me@other.client.example", both("client.example")),
        (None, "me@sub.client.example", both("sub.client.example")),
        (None, "me@below.sub.client.example", both("sub.client.example")),
        (None, "me@notclient.example", vec![]),
        (None, "me@example", vec![]),
        (None, "me@client.example, you@one.example", vec![]),
        (None, "nobody", vec![]),
    ] {
        let text = format!("From: {from}\r\nSubject: x\r\n\r\nHello\r\n");
        let signed = fields(&policy, treatment, "you@third.example", &content(&text)).await;
        assert_eq!(signers(&signed), expected, "{treatment:?} {from}: {signed}");
        let whole = Content::new(format!("{signed}Received: from x\r\n{text}"));
        let verified = Dkim::new(dns()).verify(&whole).await.expect("it is in memory");
        assert!(verified.0.iter().all(|signature| signature.result == DkimResult::Pass), "{verified:?}");
        assert_eq!(verified.0.len(), expected.len());
    }
}

/// What a server that asks to sign whatever it is given has put in front of this message, and all of it.
async fn delivered(authenticates: bool, text: &str) -> (String, String) {
    let inbox = Arc::new(Mutex::new(None));
    let kept = inbox.clone();
    let policy = Arc::new(DkimSigning::new().with(signer("client.example")));
    let deliver = move |message: Message| {
        let (kept, policy) = (kept.clone(), policy.clone());
        async move {
            let (head, skipped) = message.head().expect("it is in memory");
            let content = OutboundContent::new(head, message.content().clone(), skipped);
            let outbound = Outbound::received(message.reverse_path(), message.connection());
            let fields = policy.sign(&outbound, &[], &content).await.expect("it is in memory");
            let fields: String = fields.iter().map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
            let mut whole = fields.clone();
            content.reader().and_then(|mut reader| reader.read_to_string(&mut whole)).expect("it can be read");
            *kept.lock().expect("no panic") = Some((fields, whole));
            Ok(Accepted::all())
        }
    };
    let server = Server::builder("mx.client.example")
        .local_domain("example.org")
        .policy(Submission::new(&domain("mx.client.example")))
        .authenticate(Anybody)
        .listener(Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear().refuse_early_talkers(false))
        .deliver(deliver)
        .bind()
        .await
        .expect("a valid configuration");
    let (mut client, stream) = duplex(1 << 20);
    let auth = if authenticates { "AUTH PLAIN AGFsaWNlAHg=\r\n" } else { "" };
    let said = format!(
        "EHLO x.example\r\n{auth}MAIL FROM:<me@client.example>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n{text}.\r\nQUIT\r\n"
    );
    client.write_all(said.as_bytes()).await.expect("it reads");
    client.shutdown().await.expect("a pipe");
    let address = "192.0.2.1:1".parse().expect("an address");
    server.serve_connection(stream, address, address).await;
    let found = inbox.lock().expect("no panic").take();
    found.expect("it was taken")
}

#[tokio::test] // PRACTICES S39: who has authenticated, and the fields that a submission server adds
async fn s39_what_users_submit_is_signed_with_what_was_added() {
    let text = "From: me@client.example\r\nSubject: x\r\n\r\nHello\r\n";
    let (fields, whole) = delivered(true, text).await;
    assert_eq!(signers(&fields), ["client.example"; 2]);
    assert!(fields.contains("date : date") && fields.contains("message-id : message-id"), "{fields}");
    let verified = Dkim::new(dns()).verify(&Content::new(whole.clone())).await.expect("it is in memory");
    assert!(verified.0.iter().all(|signature| signature.result == DkimResult::Pass), "{verified:?} {whole}");
    assert_eq!(delivered(false, text).await.0, "", "a stranger may say what he likes");
}

#[tokio::test] // RFC 6376 §3.1: a selector for each key, so that keys can be changed
async fn s39_a_key_signs_while_it_is_valid() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let clock = Arc::new(AtomicU64::new(0));
    let now = clock.clone();
    let signer = DkimSigner::new(&domain("client.example"), key("r1").valid_until(at(20)))
        .with_key(key("e1").valid_from(at(10)))
        .with_clock(move || at(now.load(Ordering::Relaxed)));
    let policy = DkimSigning::new().with(signer);
    let text = content("From: me@client.example\r\n\r\n");
    for (time, expected) in [(0, "r1"), (9, "r1"), (10, "r1 e1"), (19, "r1 e1"), (20, "e1"), (100, "e1")] {
        clock.store(time, Ordering::Relaxed);
        let added = fields(&policy, None, "you@third.example", &text).await;
        let selectors: Vec<_> = ["r1", "e1"].into_iter().filter(|name| added.contains(&format!("s={name};"))).collect();
        assert_eq!(selectors.join(" "), expected, "at {time}: {added}");
        assert!(added.contains(&format!("t={time};")), "{added}");
    }
}

fn sealing(name: &str, dns: ResolverTable) -> ArcSealing {
    ArcSealing::new(ArcChain::new(dns), signer(name), [domain(name)])
}

/// A message as it leaves the sealer of that name, which has seen this of it.
async fn sealed(name: &str, dns: ResolverTable, seen: &str, text: &str) -> String {
    let head = format!("Authentication-Results: {name}; {seen}\r\nReceived: by {name}\r\n");
    let content = OutboundContent::new(head.clone(), Content::new(text.to_owned()), 0);
    let set = fields(&sealing(name, dns), Some(Treatment::Mx), "you@third.example", &content).await;
    format!("{set}{head}{text}")
}

async fn verify(text: &str) -> Sealed {
    ArcChain::new(dns()).verify(&Content::new(text.to_owned())).await.expect("it is in memory")
}

const MESSAGE: &str = "From: Me <me@client.example>\r\nSubject: x\r\nDKIM-Signature: a\r\n\r\nHello\r\n";

#[tokio::test] // RFC 8617 §5.1
async fn r8617_5_1_what_is_handed_on_is_sealed_and_every_seal_verifies() {
    let mut text = MESSAGE.to_owned();
    for (number, name) in (1..).zip(["one.example", "two.example", "three.example"]) {
        text = sealed(name, dns(), "spf=pass; dmarc=pass header.from=client.example", &text).await;
        let seen = verify(&text).await;
        assert_eq!((seen.result, seen.sealers.len()), (ArcResult::Pass, number), "{seen:?}\n{text}");
        assert_eq!(seen.sealers.last(), Some(&domain(name)));
        assert!(text.starts_with(&format!("ARC-Seal: i={number}; a=rsa-sha256; cv=")), "the known key, on top: {text}");
        let set = text.split("\nAuthentication-Results:").next().unwrap_or_default();
        assert!(set.lines().all(|line| line.len() <= 78), "{set}");
        let arc = if number == 1 { "none" } else { "pass" };
        let results = format!("i={number}; {name}; spf=pass; dmarc=pass header.from=client.example; arc={arc}");
        let unfolded = text.replace("\r\n ", " ");
        assert!(unfolded.contains(&results), "{results}: {unfolded}");
    }
    for (from, to) in [
        ("Hello", "Hullo"),
        ("Subject: x", "Subject: y"),
        ("DKIM-Signature: a", "DKIM-Signature: b"),
        ("spf=pass", "spf=fail"),
    ] {
        assert!(text.contains(from));
        assert_eq!(verify(&text.replacen(from, to, 1)).await.result, ArcResult::Fail, "{to}");
    }
}

/// Two sets by dkimpy 1.1, with the RSA key of these tests.
#[tokio::test] // SECURITY T18
async fn t18_the_chain_of_another_implementation_verifies_and_goes_on() {
    let theirs = include_str!("../data/dkimpy-arc.eml");
    assert_eq!(verify(theirs).await.sealers, [domain("one.example"), domain("two.example")]);
    let whole = sealed("three.example", dns(), "spf=pass", theirs).await;
    assert_eq!(verify(&whole).await.sealers.len(), 3);
    let changed = theirs.replacen("smtp.mailfrom=me@", "smtp.mailfrom=you@", 1);
    assert_eq!(verify(&changed).await.result, ArcResult::Fail);
}

#[tokio::test] // RFC 8617 §5.1, §5.1.2: a chain that does not hold is sealed once
async fn r8617_5_1_2_a_broken_chain_is_sealed_as_failed_and_then_no_more() {
    let good = sealed("one.example", dns(), "spf=pass", MESSAGE).await;
    let broken = sealed("two.example", dns(), "spf=pass; arc=fail", &good.replace("Hello", "Hullo")).await;
    assert!(broken.starts_with("ARC-Seal: i=2; a=rsa-sha256; cv=fail;"), "{broken}");
    assert_eq!(verify(&broken).await.result, ArcResult::Fail);
    // The seal covers its own set alone, so what the others say makes no difference.
    let other = good.replace("Hello", "Hullo").replacen("one.example; spf=pass", "one.example; spf=none", 1);
    let other = sealed("two.example", dns(), "spf=pass; arc=fail", &other).await;
    let seal = |text: &str| text.split("ARC-Message-Signature").next().map(ToOwned::to_owned);
    assert_eq!(seal(&other), seal(&broken));
    let after = sealed("three.example", dns(), "arc=fail", &broken).await;
    assert!(after.starts_with("Authentication-Results: three.example"), "{after}");
    // Numbers that do not fit are followed by the next.
    let gap = MESSAGE.replace("Subject", "ARC-Seal: i=7; cv=pass\r\nSubject");
    assert!(sealed("two.example", dns(), "arc=fail", &gap).await.starts_with("ARC-Seal: i=8; a=rsa-sha256; cv=fail;"));
    let full = MESSAGE.replace("Subject", "ARC-Seal: i=50; cv=pass\r\nSubject");
    assert!(sealed("two.example", dns(), "arc=fail", &full).await.starts_with("Authentication-Results"));
}

#[tokio::test] // RFC 8617 §5.1: the chain is judged as it arrived, also where a filter has written another body since
async fn r8617_5_1_what_we_saw_counts_and_not_what_a_filter_left() {
    let good = sealed("one.example", dns(), "spf=pass", MESSAGE).await;
    let rewritten = good.replace("Hello", "Hello, says a filter");
    let passed = sealed("two.example", dns(), "spf=pass; arc=pass", &rewritten).await;
    assert!(passed.starts_with("ARC-Seal: i=2; a=rsa-sha256; cv=pass;"), "{passed}");
    assert_eq!(verify(&passed).await.result, ArcResult::Pass);
    // Where nothing is said of the chain it is verified as it is.
    let unsaid = sealed("two.example", dns(), "spf=pass", &rewritten).await;
    assert!(unsaid.starts_with("ARC-Seal: i=2; a=rsa-sha256; cv=fail;"), "{unsaid}");
    let unknown = sealed("two.example", dns(), "arc=temperror", &good).await;
    assert!(unknown.starts_with("Authentication-Results"), "{unknown}");
}

#[tokio::test] // RFC 8617 §5.1, §5.2: `i=1` is `cv=none` and nothing else
async fn r8617_5_2_a_chain_without_a_number_gets_no_seal() {
    for number in ["0", "51", "x", ""] {
        let text = MESSAGE.replace("Subject", &format!("ARC-Seal: i={number}; cv=pass\r\nSubject"));
        for seen in ["arc=fail", "arc=none", "spf=pass"] {
            let left = sealed("two.example", dns(), seen, &text).await;
            assert!(left.starts_with("Authentication-Results"), "i={number}, {seen}: {left}");
        }
    }
}

#[tokio::test] // SECURITY D-24: a filter may write fields above our `Received`
async fn d24_what_a_filter_wrote_is_not_sealed_as_ours() {
    let (ours, received) = ("Authentication-Results: one.example; spf=fail\r\n", "Received: by one.example\r\n");
    let of_filter = |name: &str| format!("Authentication-Results: {name}; dkim=pass header.d=client.example\r\n");
    let policy = sealing("mail.example", dns()).reporting_as(&domain("one.example"));
    for (head, expected) in [
        (format!("{ours}{received}"), "one.example; spf=fail; arc=none"),
        (format!("{}{ours}{received}", of_filter("filter.example")), "one.example; spf=fail; arc=none"),
        (format!("{ours}{}{received}", of_filter("filter.example")), "one.example; spf=fail; arc=none"),
        (format!("{}{received}", of_filter("filter.example")), "one.example; arc=none"),
        // One of them is not ours, and nobody can say which.
        (format!("{}{ours}{received}", of_filter("one.example")), "one.example; arc=none"),
        (format!("{ours}{}{received}", of_filter("ONE.example 1")), "one.example; arc=none"),
    ] {
        let content = OutboundContent::new(head.clone(), Content::new(MESSAGE), 0);
        let set = fields(&policy, Some(Treatment::Mx), "you@third.example", &content).await;
        let expected = format!("ARC-Authentication-Results: i=1; {expected}\r\n");
        assert!(set.contains(&expected), "{head}{set}");
    }
}

#[tokio::test] // RFC 8617 §5.1; SECURITY G5
async fn what_is_not_sealed() {
    let good = sealed("one.example", dns(), "spf=pass", MESSAGE).await;
    let silent = ResolverTable::new().with_unknown("one.example");
    let unknown = sealed("two.example", silent, "arc=temperror", &good).await;
    assert!(unknown.starts_with("Authentication-Results"), "a key may be known tomorrow: {unknown}");
    let policy = sealing("one.example", dns());
    for (treatment, to, expected) in [
        (Some(Treatment::Mx), "you@third.example", true),
        (Some(Treatment::Mx), "you@one.example", false),
        (Some(Treatment::RelayClient), "you@third.example", false),
        (None, "you@third.example", false),
    ] {
        let set = fields(&policy, treatment, to, &content(MESSAGE)).await;
        assert_eq!(set.starts_with("ARC-Seal"), expected, "{treatment:?} {to}: {set}");
    }
}

#[tokio::test] // SECURITY D-24: results that claim to be ours and came with the message
async fn d24_only_what_we_wrote_ourselves_is_sealed_as_ours() {
    let forged = "Authentication-Results: one.example; dmarc=pass header.from=client.example\r\n";
    // In the content, and in a head that has its header section because other fields were removed.
    let removed = OutboundContent::new(format!("Received: from x\r\n{forged}"), Content::new(MESSAGE), 0);
    for content in [content(&format!("{forged}{MESSAGE}")), removed] {
        let set = fields(&sealing("one.example", dns()), Some(Treatment::Mx), "you@third.example", &content).await;
        assert!(set.contains("ARC-Authentication-Results: i=1; one.example; arc=none\r\n"), "{set}");
    }
}
