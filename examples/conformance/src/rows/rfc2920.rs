//! RFC 2920: commands in groups.

use crate::row::Level::{Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const PIPELINING: &[Need] = &[Need::Keyword("PIPELINING")];

pub(crate) const ROWS: &[Row] = &[
    Row::talk("3.2", Must, "a group is answered in order", group).needs(PIPELINING),
    Row::talk("3.2", Must, "errors within a group have their place", errors).needs(PIPELINING),
    Row::talk("3.2", Must, "a line that comes in two pieces is one command", pieces),
    Row::talk("3.2", Must, "each octet may come alone", octets),
    Row::talk("3.2", Must, "a group of 100 commands loses none", hundred).needs(PIPELINING),
    Row::talk("3.2", Should, "a group without a valid recipient ends with an error to DATA", nobody).needs(PIPELINING),
    Row::talk("3.1", Must, "behind QUIT nothing is answered", behind_quit),
];

fn play(session: &mut Session<'_>, group: &str, patterns: &[&str]) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    let group = session.target.fill_in(group);
    session.send(group.as_bytes())?;
    for (command, pattern) in group.lines().zip(patterns) {
        session.expect_reply(command, pattern)?;
    }
    Ok(())
}

fn group(session: &mut Session<'_>) -> Result<(), Ending> {
    let group = "MAIL FROM:<{from}>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<>\r\nRSET\r\nNOOP\r\n";
    play(session, group, &["250", "25", "5", "250", "250"])
}

fn errors(session: &mut Session<'_>) -> Result<(), Ending> {
    play(session, "RCPT TO:<postmaster>\r\nNOOP\r\nFROBNICATE\r\nRSET\r\nQUIT\r\n", &["503", "250", "50", "250", "221"])
}

fn pieces(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.send(b"NOOP\r")?;
    if !session.is_silent()? {
        return Err(Ending::differs("silence behind a CR", session.reply()?.first_line()));
    }
    session.send(b"\n")?;
    session.expect_reply("NOOP", "250").map(drop)
}

fn octets(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    for octet in b"NOOP\r\nRSET\r\n" {
        session.send(&[*octet])?;
    }
    session.expect_reply("NOOP", "250")?;
    session.expect_reply("RSET", "250").map(drop)
}

fn hundred(session: &mut Session<'_>) -> Result<(), Ending> {
    // Many servers end a session after a number of commands that do nothing, so these are transactions.
    let group = "MAIL FROM:<{from}>\r\nRSET\r\n".repeat(25);
    play(session, &group, &["250"; 50])?;
    play(session, &group, &["250"; 50])
}

/// The server says 5yz to `DATA`; if it says 354, the client ends at once and is refused there.
fn nobody(session: &mut Session<'_>) -> Result<(), Ending> {
    play(session, "MAIL FROM:<{from}>\r\nRCPT TO:<>\r\nDATA\r\n", &["250", "5", "503|554|354"])?;
    session.expect("NOOP", "250").map(drop)
}

fn behind_quit(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.send(b"QUIT\r\nNOOP\r\n")?;
    session.expect_reply("QUIT", "221")?;
    session.must_be_closed()
}
