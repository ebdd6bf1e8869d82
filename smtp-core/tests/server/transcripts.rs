//! Whole conversations, as a reader of RFC 5321 would write them down (Appendix D of it is the model).

use smtp_core::{Refusal, Stage};

use crate::support::machine::Machine;
use crate::support::transcript::{play, transcript};

#[test] // RFC 5321 §3.3: each recipient has its own reply. §4.5.3.2.7: the server waits five minutes.
fn r5321j_recipients_are_answered_one_by_one() {
    transcript(
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<alice@client.example>
        S: 250 2.1.0
        C: RCPT TO:<nobody@example.org>
        S: 550 5.1.1
        C: RCPT TO:<error@example.org>
        S: 451 4.3.0
        C: RCPT TO:<someone@elsewhere.example>
        S: 550 5.7.1
        C: RCPT TO:<bob@example.org>
        S: 250 2.1.5
        -- 5 minutes pass
        S: 421 4.4.2
        -- closed
    ",
    );
}

#[test] // RFC 5321 §D.1: a typical session, with PIPELINING (RFC 2920 §3.1).
fn a_typical_session_in_groups() {
    let mut machine = Machine::default();
    play(
        &mut machine,
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250-mx.example.org
        S: 250-PIPELINING
        S: 250-SIZE 52428800
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250 LIMITS MAILMAX=1000 RCPTMAX=1000
        C: MAIL FROM:<smith@client.example> SIZE=100 BODY=8BITMIME
        C: RCPT TO:<alice@example.org>
        C: RCPT TO:<green@example.org>
        C: RCPT TO:<bob@example.org>
        C: DATA
        S: 250 2.1.0
        S: 250 2.1.5
        S: 550 5.1.1
        S: 250 2.1.5
        S: 354
        C: Subject: blah
        C:
        C: ..and so on
        C: .
        S: 250 2.0.0
        C: QUIT
        S: 221 2.0.0
        -- closed
    ",
    );
    assert_eq!(machine.delivered.len(), 1);
    assert_eq!(machine.delivered[0].recipients, ["<alice@example.org>", "<bob@example.org>"]);
    assert_eq!(machine.delivered[0].content, b"Subject: blah\r\n\r\n.and so on\r\n");
}

#[test] // RFC 5321 §D.2: an aborted transaction.
fn an_aborted_transaction_leaves_nothing() {
    let mut machine = Machine::default();
    play(
        &mut machine,
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<smith@client.example>
        S: 250 2.1.0
        C: RCPT TO:<alice@example.org>
        S: 250 2.1.5
        C: RSET
        S: 250 2.0.0
        C: RCPT TO:<alice@example.org>
        S: 503 5.5.1
        C: DATA
        S: 503 5.5.1
        C: QUIT
        S: 221 2.0.0
        -- closed
    ",
    );
    assert!(machine.delivered.is_empty());
}

#[test] // RFC 5321 §4.5.5: notifications come with the null reverse-path; §4.5.1: and go to <postmaster>.
fn s13_s20_null_reverse_path_to_postmaster_without_domain() {
    let mut machine = Machine::default();
    play(
        &mut machine,
        "
        S: 220 mx.example.org ESMTP
        C: HELO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<>
        S: 250 2.1.0
        C: RCPT TO:<PostMaster>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: .
        S: 250 2.0.0
        -- open
    ",
    );
    assert_eq!((machine.delivered[0].reverse_path.as_str(), machine.delivered[0].content.len()), ("<>", 0));
}

#[test] // PRACTICES P3: a client that everything speaks against reaches the role mailboxes, and nobody else.
fn p3_role_mailboxes_stay_reachable() {
    let mut machine = Machine::default()
        .refusing(Stage::Connect, Refusal::permanent(7, 25, "No reverse DNS"))
        .refusing(Stage::Helo, Refusal::permanent(7, 1, "Bad name"))
        .refusing(Stage::Mail, Refusal::permanent(7, 23, "SPF fail"));
    play(
        &mut machine,
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<smith@client.example>
        S: 250 2.1.0
        C: RCPT TO:<alice@example.org>
        S: 550 5.7.25
        C: DATA
        S: 554 5.5.1
        C: RCPT TO:<postmaster@example.org>
        S: 250 2.1.5
        C: RCPT TO:<nobody@example.org>
        S: 550 5.1.1
        C: RCPT TO:<x@elsewhere.example>
        S: 550 5.7.1
        C: RCPT TO:<abuse@example.org>
        S: 250 2.1.5
        C: RCPT TO:<PostMaster>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: Help
        C: .
        S: 250 2.0.0
    ",
    );
    assert_eq!(machine.delivered[0].recipients, ["<postmaster@example.org>", "<abuse@example.org>", "<postmaster>"]);
}

#[test] // RFC 5321 §3.8: a server that stops says 421, after the transaction.
fn r5321g_a_transaction_is_finished_before_a_shutdown() {
    let mut machine = Machine::default();
    play(
        &mut machine,
        "
        S: 220 mx.example.org ESMTP
        C: EHLO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<smith@client.example>
        S: 250 2.1.0
        -- shutdown
        -- open
        C: RCPT TO:<alice@example.org>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: text
        C: .
        S: 250 2.0.0
        S: 421 4.3.2
        -- closed
    ",
    );
    assert_eq!(machine.delivered.len(), 1);
}
