//! RFC 5321: where content ends, and where it does not.
//!
//! The rows about false ends break off before the true one, so that a server which knows better gets no message.

use crate::row::Level::{May, Must};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const NEEDS: &[Need] = &[Need::Recipient];
const HEADER: &str = "From: <conformance@client.example>\r\nSubject: conformance\r\n\r\n";

pub(crate) const ROWS: &[Row] = &[
    Row::talk("4.1.1.4", Must, "a message is taken, and its transaction is over", message).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "two messages go through one session", two_messages).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "CRLF . CRLF ends content when each octet comes alone", octet_by_octet).needs(NEEDS),
    Row::talk("4.5.2", Must, "a line that begins with two dots ends nothing", |s| no_end(s, "\r\n..\r\n")).needs(NEEDS),
    Row::talk("4.5.2", Must, "a line that begins with a dot ends nothing", |s| no_end(s, "\r\n.a\r\n")).needs(NEEDS),
    Row::talk("4.5.2", Must, "a dot and a space end nothing", |s| no_end(s, "\r\n. \r\n")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "LF . LF ends nothing", |s| no_end(s, "\n.\n")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "LF . CRLF ends nothing", |s| no_end(s, "\n.\r\n")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "CRLF . LF ends nothing", |s| no_end(s, "\r\n.\n")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "CR . CR ends nothing", |s| no_end(s, "\r.\r")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "CR . CRLF ends nothing", |s| no_end(s, "\r.\r\n")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "CRLF . CR CRLF ends nothing", |s| no_end(s, "\r\n.\r\r\n")).needs(NEEDS),
    Row::talk("4.1.1.4", Must, "NUL between the octets of the end ends nothing", |s| no_end(s, "\r\n.\0\r\n"))
        .needs(NEEDS),
    Row::talk("4.5.3.1.6", Must, "text lines may have 1,000 octets", long_text_line).needs(NEEDS),
    Row::talk("2.3.8", May, "a bare LF in content is refused behind its true end", bare_lf).needs(NEEDS),
    Row::talk("4.1.1.10", May, "QUIT in content is content", quit_in_content).needs(NEEDS),
];

fn message(session: &mut Session<'_>) -> Result<(), Ending> {
    session.begin_data()?;
    send_whole(session, "hello\r\n", "250")?;
    session.expect_all(&[("RCPT TO:<{to}>", "503"), ("QUIT", "221")])
}

fn two_messages(session: &mut Session<'_>) -> Result<(), Ending> {
    session.begin_data()?;
    send_whole(session, "first\r\n", "250")?;
    session.expect_all(&[("MAIL FROM:<>", "250"), ("RCPT TO:<{to}>", "250|251"), ("DATA", "354")])?;
    send_whole(session, "second\r\n", "250")
}

fn octet_by_octet(session: &mut Session<'_>) -> Result<(), Ending> {
    session.begin_data()?;
    for octet in format!("{HEADER}slowly\r\n.\r\n").bytes() {
        session.send(&[octet])?;
    }
    session.expect_reply("content", "250").map(drop)
}

/// Nothing is said, nor is the session ended, as long as the content has not ended.
fn no_end(session: &mut Session<'_>, octets: &str) -> Result<(), Ending> {
    session.begin_data()?;
    session.send(format!("{HEADER}a{octets}").as_bytes())?;
    if session.is_silent()? {
        return Ok(());
    }
    match session.reply() {
        // Who ends the session rather than read on has taken no message.
        Ok(reply) if reply.matches("5|421") => Ok(()),
        Ok(reply) => Err(Ending::differs("silence", reply.first_line())),
        Err(_closed) => Ok(()),
    }
}

fn long_text_line(session: &mut Session<'_>) -> Result<(), Ending> {
    session.begin_data()?;
    send_whole(session, &format!("{}\r\n", "x".repeat(998)), "250")
}

fn bare_lf(session: &mut Session<'_>) -> Result<(), Ending> {
    session.begin_data()?;
    send_whole(session, "a\nb\r\n", "5")
}

fn quit_in_content(session: &mut Session<'_>) -> Result<(), Ending> {
    session.begin_data()?;
    send_whole(session, "QUIT\r\nRSET\r\n", "250")?;
    session.expect("NOOP", "250").map(drop)
}

fn send_whole(session: &mut Session<'_>, body: &str, pattern: &str) -> Result<(), Ending> {
    session.send(format!("{HEADER}{body}.\r\n").as_bytes())?;
    session.expect_reply("content", pattern).map(drop)
}
