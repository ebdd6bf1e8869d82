//! A sender is told what it asks for, by a program that anybody can start (RFC 3461).

use std::fs;

use crate::common::smart_host::{SmartHost, nobody};
use crate::common::{Dialogue, Mta, text};

const CLIENTS: &str = "clients = [\"127.0.0.0/8\"]\n";

fn send(client: &mut Dialogue, mail: &str, rcpt: &str) {
    client.expect(&[(mail, "250 2.1.0"), (rcpt, "250 2.1.5"), ("DATA", "354")]);
    client.expect(&[("Subject: x\r\n\r\nbody\r\n.", "250 2.0.0")]);
}

fn greeted(mta: &Mta) -> Dialogue {
    let mut client = mta.connect();
    client.expect(&[("EHLO client.example", "250")]);
    client
}

/// The one notification in a Maildir.
fn notification(mta: &Mta, maildir: &str) -> String {
    let files = mta.delivered(maildir);
    assert_eq!(files.len(), 1, "{maildir}");
    text(&fs::read(&files[0]).expect("a file")).replace("\r\n", "\n")
}

#[test] // RFC 3461 §3; PRACTICES S22
fn s22_dsn_is_offered_to_clients_that_may_relay() {
    let stranger = Mta::start();
    let mut stranger = greeted(&stranger);
    stranger.expect(&[("MAIL FROM:<a@client.example> RET=FULL", "555 5.5.4")]);
    let mta = Mta::with_config(&format!("[relay]\nsmart_host = \"{}\"\n{CLIENTS}", nobody()));
    greeted(&mta).expect(&[("MAIL FROM:<a@client.example> RET=FULL", "250 2.1.0")]);
}

#[test] // RFC 3461 §6: delivered here, and relayed to a host that does not offer DSN.
fn r3461_a_sender_who_asked_is_told_of_success() {
    let smart_host = SmartHost::start();
    let users = "users = [\"alice@localhost\", \"bob@localhost\"]\n";
    let mta = Mta::with_config(&format!("{users}[relay]\nsmart_host = \"{}\"\n{CLIENTS}", smart_host.address));
    let mut client = greeted(&mta);
    let mail = "MAIL FROM:<bob@localhost> ENVID=my+20name RET=FULL";
    send(&mut client, mail, "RCPT TO:<alice@localhost> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;al@old.example");
    mta.until_idle();
    let told = notification(&mta, "localhost/bob");
    for line in [
        "Return-Path: <>",
        "Original-Envelope-Id: my name",
        "Original-Recipient: rfc822; al@old.example",
        "Final-Recipient: rfc822; alice@localhost",
        "Action: delivered",
        "Status: 2.0.0",
    ] {
        assert!(told.contains(&format!("{line}\n")), "{line} in {told}");
    }
    fs::remove_file(&mta.delivered("localhost/bob")[0]).expect("removed");
    send(&mut client, "MAIL FROM:<bob@localhost>", "RCPT TO:<carol@example.net> NOTIFY=SUCCESS");
    mta.until_idle();
    let told = notification(&mta, "localhost/bob");
    assert!(told.contains("Final-Recipient: rfc822; carol@example.net\nAction: relayed\n"), "{told}");
    fs::remove_file(&mta.delivered("localhost/bob")[0]).expect("removed");
    // Nobody is told who did not ask.
    send(&mut client, "MAIL FROM:<bob@localhost>", "RCPT TO:<alice@localhost> NOTIFY=NEVER");
    send(&mut client, "MAIL FROM:<bob@localhost>", "RCPT TO:<carol@example.net>");
    mta.until_idle();
    assert!(mta.delivered("localhost/bob").is_empty());
}
