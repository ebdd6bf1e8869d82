//! draft-hall-prdr-00: PRDR, a reply for each recipient behind the content of SMTP (STANDARDS Rprdr).

use smtp_core::{Accepted, Refusal, SessionConfig, Stage, TransferProtocol};

use crate::support::machine::{Machine, config};
use crate::support::transcript::play;

fn offering() -> SessionConfig {
    SessionConfig { offers_prdr: true, ..config() }
}

/// Behind `354`, with two recipients.
fn behind_354(mail: &str) -> Machine {
    let mut machine = Machine::greeted(offering());
    let group = format!("{mail}\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n");
    assert_eq!(machine.codes(group), ["250", "250", "250", "354"]);
    machine
}

fn later() -> Refusal {
    Refusal::transient(2, 2, "full")
}

fn no() -> Refusal {
    Refusal::permanent(2, 1, "off")
}

#[test] // Only where it is offered, only with EHLO, and not in LMTP, which has its own.
fn rprdr_it_is_offered_and_asked_for() {
    let listed = |config: SessionConfig, hello: &str| {
        let mut machine = Machine::new(config);
        machine.send("");
        let is_listed = machine.send(format!("{hello} client.example\r\n")).lines().any(|line| &line[4..] == "PRDR");
        (is_listed, machine.codes("MAIL FROM:<a@client.example> PRDR\r\n").remove(0))
    };
    assert_eq!(listed(offering(), "EHLO"), (true, "250".into()));
    assert_eq!(listed(config(), "EHLO"), (false, "555".into()));
    assert_eq!(listed(offering(), "HELO"), (false, "555".into()));
    let lmtp = SessionConfig { protocol: TransferProtocol::Lmtp, ..offering() };
    assert_eq!(listed(lmtp, "LHLO"), (false, "555".into()));
    for parameter in ["PRDR=", "PRDR=yes", "PRDR PRDR", "prdr Prdr"] {
        let mut machine = Machine::greeted(offering());
        assert_eq!(machine.replies(format!("MAIL FROM:<> {parameter}\r\n")), ["501 5.5.4"], "{parameter}");
    }
}

#[test] // 353, one reply for each accepted recipient, and the reply for the message.
fn rprdr_a_typical_session() {
    let mut machine = Machine::new(offering());
    machine.delivery = Ok(Accepted::each([Ok(()), Err(later())]).with_id("q1"));
    play(
        &mut machine,
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<a@client.example> PRDR
        C: RCPT TO:<alice@example.org>
        C: RCPT TO:<jones@example.org>
        C: RCPT TO:<bob@example.org>
        C: DATA
        S: 250 2.1.0
        S: 250 2.1.5
        S: 550 5.1.1
        S: 250 2.1.5
        S: 354
        C: Blah
        C: .
        S: 353
        S: 250 2.0.0 Ok: queued as q1
        S: 451 4.2.2 full
        S: 250 2.0.0 Ok: queued as q1
        C: QUIT
        S: 221 2.0.0
        -- closed
    ",
    );
}

#[test] // The reply for the message says that nobody was taken where that is so, and that it may be otherwise later.
fn rprdr_the_last_reply_stands_for_all() {
    for (first, second, expected) in [
        (Ok(()), Ok(()), &["353", "250 2.0.0", "250 2.0.0", "250 2.0.0"]),
        (Err(no()), Ok(()), &["353", "550 5.2.1", "250 2.0.0", "250 2.0.0"]),
        (Err(no()), Err(later()), &["353", "550 5.2.1", "451 4.2.2", "451 4.2.2"]),
        (Err(no()), Err(no()), &["353", "550 5.2.1", "550 5.2.1", "550 5.2.1"]),
    ] {
        let mut machine = behind_354("MAIL FROM:<a@client.example> PRDR");
        machine.delivery = Ok(Accepted::each([first, second]));
        assert_eq!(machine.replies("x\r\n.\r\n"), expected);
        assert_eq!(machine.codes("MAIL FROM:<>\r\n"), ["250"], "in step");
    }
}

#[test] // Where one reply says all, it is said alone.
fn rprdr_what_is_wrong_with_the_message_is_one_reply() {
    let mut machine = behind_354("MAIL FROM:<a@client.example> PRDR");
    assert_eq!(machine.replies("a\nb\r\n.\r\n"), ["550 5.5.2"]);
    let mut machine = behind_354("MAIL FROM:<a@client.example> PRDR");
    machine.delivery = Err(later());
    assert_eq!(machine.replies("a\r\n.\r\n"), ["451 4.2.2"]);
    let mut machine = behind_354("MAIL FROM:<a@client.example> PRDR").refusing(Stage::Message, no());
    assert_eq!(machine.replies("a\r\n.\r\n"), ["550 5.2.1"]);
}

#[test] // Not asked for, there is one reply, as ever; and a transaction with it does not leave it to the next.
fn rprdr_not_asked_for_is_one_reply() {
    let mut machine = behind_354("MAIL FROM:<a@client.example>");
    machine.delivery = Ok(Accepted::each([Ok(()), Err(no())]));
    assert_eq!(machine.replies("x\r\n.\r\n"), ["250 2.0.0"]);
    let with = "MAIL FROM:<> PRDR\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
    assert_eq!(machine.codes(with), ["250", "250", "354"]);
    assert_eq!(machine.codes("x\r\n.\r\n"), ["353", "250", "250"]);
    let without = "MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
    assert_eq!(machine.codes(without), ["250", "250", "354"]);
    assert_eq!(machine.codes("x\r\n.\r\n"), ["250"]);
}
