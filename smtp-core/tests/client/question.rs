//! A client that only asks whether a recipient would be taken, as callouts do: what it says, and what it never says.

use crate::scripted::{envelope, transcript};

const OPENING: &str = "
    S: 220 mx.example.org ESMTP
    C: EHLO client.example
    S: 250-mx.example.org
    S: 250-SIZE 1000
    S: 250-CHUNKING
    S: 250 PIPELINING
    -- ask
    C: MAIL FROM:<>
";

fn asks(script: &str) {
    transcript(&envelope(&["jones"]), "", &format!("{OPENING}{script}"));
}

#[test] // PRACTICES S40: `MAIL FROM:<>`, never `DATA`
fn s40_a_question_is_mail_rcpt_and_rset_one_at_a_time() {
    for (reply, result) in [
        ("250 2.1.5 Ok", "delivered 250"),
        ("251 2.1.5 Will forward", "delivered 251"),
        ("550 5.1.1 No such mailbox", "failed 5.1.1"),
        ("452 4.2.2 Full", "deferred 4.2.2"),
        ("451 4.7.1 Greylisted", "deferred 4.7.1"),
    ] {
        asks(&format!(
            "
            S: 250 2.1.0 Ok
            C: RCPT TO:<jones@example.org>
            S: {reply}
            C: RSET
            S: 250 2.0.0 Ok
            -- result: {result}
            -- ready
            -- ask
            C: MAIL FROM:<>
            S: 250 2.1.0 Ok
            C: RCPT TO:<jones@example.org>
            S: 250 2.1.5 Ok
            C: RSET
            S: 250 2.0.0 Ok
            -- result: delivered 250
            -- quit
            C: QUIT
            S: 221 2.0.0 Bye
            -- closed
        "
        ));
    }
}

#[test] // RFC 5321 §4.5.5: a server that refuses `<>` has not been asked about the recipient
fn s40_where_the_null_reverse_path_is_refused_nothing_is_said_of_the_recipient() {
    asks(
        "
        S: 550 5.7.1 No null senders
        C: RSET
        S: 250 2.0.0 Ok
        -- result: failed 5.7.1
        -- ready
    ",
    );
}

#[test] // SECURITY D-35: what is no answer to the question is none
fn d35_a_question_ends_whatever_the_server_does() {
    for (script, result) in [
        ("S: 421 4.3.2 Bye\n", "deferred 4.3.2"),
        ("-- the server leaves\n", "deferred 4.4.2"),
        ("-- 1 hour pass\n", "deferred 4.4.2"),
        ("S: 354 Go on\n", "deferred 4.5.0"),
        ("S: 250 2.1.0 Ok\nC: RCPT TO:<jones@example.org>\nS: 354 Go on\n", "deferred 4.5.0"),
        ("S: 250 2.1.0 Ok\nC: RCPT TO:<jones@example.org>\nS: 421 4.3.2 Bye\n", "deferred 4.3.2"),
        // The answer to the question came before the trouble.
        (
            "S: 250 2.1.0 Ok\nC: RCPT TO:<jones@example.org>\nS: 550 5.1.1 No\nC: RSET\n-- the server leaves\n",
            "failed 5.1.1",
        ),
        (
            "S: 250 2.1.0 Ok\nC: RCPT TO:<jones@example.org>\nS: 250 2.1.5 Ok\nC: RSET\n-- the server leaves\n",
            "delivered 250",
        ),
        // Answers to nothing: which of them is to what, nobody knows.
        ("S: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\n", "deferred 4.5.0"),
    ] {
        asks(&format!("{script}-- result: {result}\n-- closed\n"));
    }
}
