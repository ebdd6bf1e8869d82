//! Mail for other hosts goes through the smart host, survives everything on the way, and who sent it learns of failures.

use std::fs;
use std::net::SocketAddr;

use crate::common::smart_host::{SmartHost, nobody};
use crate::common::{Mta, mta, text, wait_until};
use crate::name_server::NameServer;

/// Tries again soon.
fn through(smart_host: SocketAddr) -> Mta {
    Mta::with_config(&format!(
        "[queue]\nfirst_retry_seconds = 1\nlongest_wait_seconds = 2\n\
         [relay]\nsmart_host = \"{smart_host}\"\nclients = [\"127.0.0.0/8\"]\n"
    ))
}

/// Tries again when it is told to.
fn patiently_through(smart_host: SocketAddr) -> Mta {
    Mta::with_config(&format!("[relay]\nsmart_host = \"{smart_host}\"\nclients = [\"127.0.0.0/8\"]\n"))
}

fn send(mta: &Mta, from: &str, to: &[&str], content: &[u8]) {
    let output = mta.send(from, to, content);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test] // RFC 5321 §4.5.2, RFC 6152: through two hosts, from memory and from files.
fn a_message_passes_octet_for_octet() {
    let back = Mta::with_config("domains = [\"example.org\"]\nmailboxes = \"any\"\n");
    let front = patiently_through(back.address);
    let lines = (0..40_000).flat_map(|n| format!("{n:070}.\r\n").into_bytes());
    let large: Vec<u8> = b"Subject: large\r\n\r\n".iter().copied().chain(lines).collect();
    for content in [
        &b"Subject: plain\r\n\r\nHello\r\n"[..],
        b"Subject: dots\r\n\r\n.\r\n..\r\n...a\r\n.b.\r\n\r\n.\r\n",
        b"Subject: J\xc3\xbcrgen\r\n\r\n\x80\xff\xfe and Latin-1: \xfc\x01\x7f\r\n",
        b"Subject: empty body\r\n\r\n",
        b"\r\nno header section\r\n",
        b"",
        &large,
    ] {
        send(&front, "bob@client.example", &["carol@example.org", "dave@example.org"], content);
        front.until_idle();
        for user in ["carol", "dave"] {
            let copies = back.delivered(&format!("example.org/{user}"));
            let file = fs::read(&copies[0]).expect("a copy");
            let header = text(&file[..file.len() - content.len()]);
            assert!(copies.len() == 1 && file.ends_with(content), "{header}");
            let start = format!("Return-Path: <bob@client.example>\r\nDelivered-To: {user}@example.org\r\nReceived: ");
            assert!(header.starts_with(&start) && header.matches("Received: ").count() == 2, "{header}");
            fs::remove_file(&copies[0]).expect("removed");
        }
    }
    let totals = back.queue_says(&["totals"]);
    assert!(totals.contains("0 + 14 = 14 + 0 + 0 + 0 + 0 + 0, none is missing"), "{totals}");
}

#[test] // RFC 5321 §3.6.2, RFC 3464: one is taken, one is tried again, of one the sender is told.
fn each_recipient_has_its_own_outcome() {
    let smart_host = SmartHost::start();
    smart_host.says("never@example.org", "550 5.1.1 Nobody of that name");
    smart_host.says("later@example.org", "451 4.2.1 Come back");
    let mut mta = patiently_through(smart_host.address);
    let to = ["now@example.org", "never@example.org", "later@example.org", "alice@localhost"];
    send(&mta, "alice@localhost", &to, b"Subject: to three\r\n\r\nHello\r\n");
    let id = mta.deferred();
    let taken = smart_host.taken();
    assert_eq!(
        (taken.len(), &taken[0].from[..], &taken[0].to[..]),
        (1, "alice@localhost", &["now@example.org".into()][..])
    );
    assert!(taken[0].content.ends_with(b"Subject: to three\r\n\r\nHello\r\n"), "{taken:?}");
    let shown = mta.queue_says(&["show", &id]);
    assert!(shown.contains("<later@example.org>: 127.0.0.1 [127.0.0.1] said 451 4.2.1 Come back\n"), "{shown}");
    assert!(!shown.contains("never@") && shown.contains("4 recipients, 1 without an outcome"), "{shown}");

    // The copy for alice, and the notification.
    wait_until("the notification is there", || mta.new_files("localhost/alice").len() == 2);
    let files = mta.new_files("localhost/alice").into_iter().map(|file| fs::read_to_string(file).expect("a copy"));
    let notification =
        files.into_iter().find(|file| file.contains("report-type=delivery-status")).expect("a notification");
    for line in [
        "Return-Path: <>",
        "Delivered-To: alice@localhost",
        "To: <alice@localhost>",
        "Auto-Submitted: auto-generated",
        "Content-Type: message/delivery-status",
        "Reporting-MTA: dns; localhost",
        "Final-Recipient: rfc822; never@example.org",
        "Action: failed",
        "Status: 5.1.1",
        "Diagnostic-Code: smtp; 550 5.1.1 Nobody of that name",
        "Subject: to three",
    ] {
        assert!(notification.lines().any(|found| found == line), "{line} in {notification}");
    }
    for innocent in ["now@example.org", "later@example.org"] {
        assert!(!notification.contains(innocent), "{notification}");
    }

    smart_host.says("later@example.org", "250 2.1.5 Now");
    mta.queue_says(&["retry", &id]);
    mta.until_idle();
    let totals = mta.queue_says(&["totals"]);
    assert!(totals.contains("0 + 5 = 4 + 1 + 0 + 0 + 0 + 0, none is missing"), "{totals}");
    mta.terminate();
    let log = mta.log();
    for (event, words) in [
        ("delivered", "now@example.org"),
        ("failed", "never@example.org"),
        ("deferred", "later@example.org"),
        ("notification queued", "alice@localhost"),
    ] {
        let lines = log.lines().filter(|line| line.contains(&format!(" queue: {event} ")) && line.contains(words));
        assert_eq!(lines.count(), 1, "{event} {words}: {log}");
    }
}

#[test] // RFC 5321 §4.5.5: a notification is never answered.
fn a_null_sender_is_not_notified() {
    let smart_host = SmartHost::start();
    smart_host.says("never@example.org", "550 5.1.1 Nobody of that name");
    let mta = patiently_through(smart_host.address);
    send(&mta, "<>", &["never@example.org"], b"Subject: x\r\n");
    mta.until_idle();
    assert_eq!(mta.new_files("localhost/alice").len(), 0);
    mta.logged("the reverse-path is null");
}

#[test] // RFC 2505, PRACTICES.md S21: who may not relay is refused, and no failure of theirs writes to a third party.
fn others_may_not_relay_and_get_no_notification() {
    let smart_host = SmartHost::start();
    // A copy that comes back fails, whoever sends it (RFC 9228).
    let loops = b"Delivered-To: alice@localhost\r\nSubject: x\r\n";
    for (clients, may_relay) in [("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let mut mta = Mta::with_config(&format!(
            "users = [\"alice@localhost\", \"bob@localhost\"]\n\
             [relay]\nsmart_host = \"{}\"\nclients = [\"{clients}\"]\n",
            smart_host.address
        ));
        let output = mta.send("bob@localhost", &["x@example.org"], b"\r\n");
        let refused = text(&output.stderr).contains("x@example.org: 550 5.7.1 Relaying denied");
        assert_eq!((output.status.success(), refused), (may_relay, !may_relay), "{}", text(&output.stderr));
        send(&mta, "bob@localhost", &["alice@localhost"], loops);
        mta.until_idle();
        assert_eq!(mta.new_files("localhost/bob").len(), usize::from(may_relay), "{clients}: {}", mta.log());
        mta.terminate();
        assert_eq!(mta.log().contains("the sender is not confirmed"), !may_relay, "{}", mta.log());
    }
    assert_eq!(smart_host.taken().len(), 1);
}

#[test] // RFC 8689 §4.2.2: what the next hop asks of senders holds, unless this one would rather have it delivered.
fn r8689_a_tls_policy_is_kept_and_tls_required_no_sets_it_aside() {
    let smart_host = SmartHost::start();
    let to = smart_host.address;
    let entry = format!("[[tls_policy]]\nname = \"{}\"\ntls = \"required\"\n", to.ip());
    let relay = |tls: &str| format!("[relay]\nsmart_host = \"{to}\"\ntls = \"{tls}\"\nclients = [\"127.0.0.0/8\"]\n");
    for (config, goes_with_no) in [(relay("none") + &entry, true), (relay("required"), false)] {
        let before = smart_host.taken().len();
        let mta = Mta::with_config(&config);
        send(&mta, "bob@client.example", &["carol@example.org"], b"TLS-Required: No\r\n\r\n");
        if goes_with_no {
            mta.until_idle();
            send(&mta, "bob@client.example", &["carol@example.org"], b"Subject: protected\r\n\r\n");
        }
        let id = mta.deferred();
        let shown = mta.queue_says(&["show", &id]);
        assert!(shown.contains("4.7.10") && shown.contains("TLS is demanded"), "{shown}");
        let taken = smart_host.taken();
        assert_eq!(taken.len() - before, usize::from(goes_with_no), "{config}");
        assert!(taken.iter().all(|taken| taken.content.ends_with(b"TLS-Required: No\r\n\r\n")), "{taken:?}");
    }
}

#[test] // RFC 5321 §4.5.4.1: it is tried again, by itself.
fn a_smart_host_that_is_down_gets_its_mail_when_it_is_back() {
    let address = nobody();
    let mta = through(address);
    send(&mta, "bob@client.example", &["carol@example.org"], b"Subject: x\r\n");
    wait_until("two attempts have failed", || mta.log().matches(" queue: deferred ").count() >= 2);
    assert!(mta.queue_says(&["list"]).contains(&format!("<carol@example.org> via smtp:{address}")));
    let smart_host = SmartHost::at(address);
    mta.until_idle();
    assert_eq!(smart_host.taken().len(), 1);
}

#[test] // An operator who has mended the next hop does not wait.
fn a_retry_is_made_at_once() {
    let address = nobody();
    let mta = patiently_through(address);
    send(&mta, "bob@client.example", &["carol@example.org"], b"Subject: x\r\n");
    let id = mta.deferred();
    let shown = mta.queue_says(&["show", &id]);
    assert!(shown.contains("next attempt in ") && shown.contains("connect: connection refused"), "{shown}");
    let smart_host = SmartHost::at(address);
    assert_eq!(mta.queue_says(&["retry", &id]), format!("{id} is due now\n"));
    mta.until_idle();
    assert_eq!(smart_host.taken().len(), 1);
}

#[test] // Promise 1: what is queued is delivered after the next start, however this one ends, and once.
fn a_restart_delivers_what_was_queued() {
    let large =
        [&b"Subject: large\r\n\r\n"[..], &b"0123456789012345678901234567890123456789\r\n".repeat(10_000)].concat();
    for is_killed in [false, true] {
        let address = nobody();
        let mut mta = through(address);
        send(&mta, "bob@client.example", &["carol@example.org"], b"Subject: small\r\n");
        send(&mta, "bob@client.example", &["carol@example.org", "dave@example.org"], &large);
        wait_until("attempts have failed", || mta.log().matches(" queue: deferred ").count() >= 3);
        if is_killed {
            mta.kill();
        } else {
            mta.terminate();
        }
        let smart_host = SmartHost::at(address);
        let mta = mta.restarted();
        assert!(mta.introduction.contains("\nqueue         2 messages  in  "), "{}", mta.introduction);
        mta.until_idle();
        let mut taken = smart_host.taken();
        taken.sort_by_key(|taken| taken.content.len());
        assert_eq!(taken.len(), 2, "killed {is_killed}: {}", mta.log());
        assert!(taken[0].content.ends_with(b"Subject: small\r\n") && taken[0].to == ["carol@example.org"]);
        assert!(taken[1].content.ends_with(&large) && taken[1].to == ["carol@example.org", "dave@example.org"]);
        let totals = mta.queue_says(&["totals"]);
        assert!(totals.contains("3 + 0 = 3 + 0 + 0 + 0 + 0 + 0, none is missing"), "{totals}");
    }
}

#[test] // Mail that was taken for a smart host waits until there is one again.
fn without_a_smart_host_nothing_is_thrown_away() {
    let mut mta = patiently_through(nobody());
    send(&mta, "bob@client.example", &["carol@example.org"], b"Subject: x\r\n");
    let id = mta.deferred();
    mta.terminate();
    fs::write(mta.directory.path().join("mta.toml"), "").expect("written");
    let mut mta = mta.restarted();
    mta.queue_says(&["retry", &id]);
    wait_until("it was tried", || mta.queue_says(&["show", &id]).contains("No smart host is configured"));
    mta.terminate();
    let smart_host = SmartHost::start();
    let config = format!("[relay]\nsmart_host = \"{}\"\n", smart_host.address);
    fs::write(mta.directory.path().join("mta.toml"), config).expect("written");
    let mta = mta.restarted();
    assert!(mta.introduction.contains("but from no client: `relay.clients` names none"), "{}", mta.introduction);
    mta.queue_says(&["retry", &id]);
    mta.until_idle();
    assert_eq!(smart_host.taken().len(), 1);
}

#[test] // One owner: what two processes write would be lost.
fn a_second_process_on_the_queue_does_not_start() {
    let first = Mta::start();
    let second =
        mta().args(["run", "--listen", "127.0.0.1:0"]).current_dir(first.directory.path()).output().expect("runs");
    let complaint = text(&second.stderr);
    assert_eq!((second.status.code(), text(&second.stdout)), (Some(1), String::new()));
    let expected = format!("mta-data/.queue is in use by process {}", first.process());
    assert!(complaint.lines().count() == 1 && complaint.contains(&expected), "{complaint}");
    send(&first, "bob@client.example", &["alice@localhost"], b"\r\n");
    assert_eq!(first.delivered("localhost/alice").len(), 1, "the first does not mind");
}

#[test] // PRACTICES S7: the name of a source address is the one that DNS has for it, and leads back.
fn s7_mail_leaves_from_the_named_addresses_under_their_names() {
    const NO_NAME: &str = "no name leads to that address";
    const NO_ADDRESS: &str = "this host has no such address";
    let dns = NameServer::start(&[
        "1.2.0.127.in-addr.arpa PTR out1.example.org",
        "out1.example.org A 127.0.2.1",
        "2.2.0.127.in-addr.arpa PTR elsewhere.example.org",
        "elsewhere.example.org A 127.0.2.9",
        "3.2.0.127.in-addr.arpa PTR elsewhere.example.org",
        "mx.example.org A 127.0.2.2",
    ]);
    for (sources, from, name, warnings) in [
        ("\"127.0.2.1\"", [127, 0, 2, 1], "out1.example.org", &[][..]),
        ("\"127.0.2.2\"", [127, 0, 2, 2], "mx.example.org", &[]),
        ("\"127.0.2.3\"", [127, 0, 2, 3], "mx.example.org", &[NO_NAME]),
        ("\"192.0.2.1\", \"127.0.2.1\"", [127, 0, 2, 1], "out1.example.org", &[NO_ADDRESS, NO_NAME]),
        ("", [127, 0, 0, 1], "mx.example.org", &[]),
    ] {
        let smart_host = SmartHost::start();
        let mta = Mta::with_config(&format!(
            "hostname = \"mx.example.org\"\n\
             [relay]\nsmart_host = \"{}\"\nclients = [\"127.0.0.0/8\"]\nsource_addresses = [{sources}]\n\
             [policy]\ndns = [\"{}\"]\n",
            smart_host.address, dns.address
        ));
        send(&mta, "alice@example.org", &["carol@example.com"], b"Subject: x\r\n\r\nx\r\n");
        mta.until_idle();
        let taken = smart_host.taken();
        assert_eq!(taken[0].client, (from.into(), name.to_owned()), "{sources}");
        let log = mta.log();
        for warning in [NO_ADDRESS, NO_NAME] {
            assert_eq!(log.contains(warning), warnings.contains(&warning), "{sources}: {log}");
        }
    }
}
