//! RFC 5321: the greeting, and each command alone.

use crate::row::Level::{May, Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

pub(crate) const ROWS: &[Row] = &[
    Row::talk("4.2", Must, "the greeting names the server behind 220", greeting),
    Row::talk("4.1.1.1", Must, "EHLO is answered with the name of the server", ehlo_names),
    Row::talk("4.1.1.1", Must, "keywords are letters, digits and hyphens", keywords),
    Row::talk("4.1.1.1", Must, "HELO has no list of extensions", helo),
    Row::lines("4.1.1.1", Must, "EHLO needs a name", &[("EHLO", "501|5")]),
    Row::lines("4.1.3", Must, "EHLO may say an address literal", &[("EHLO [127.0.0.1]", "250")]),
    Row::lines("4.1.3", Must, "EHLO may say an IPv6 address literal", &[("EHLO [IPv6:::1]", "250")]),
    Row::lines(
        "4.1.4",
        Must,
        "a name that does not resolve is no reason to refuse",
        &[("EHLO nowhere.invalid", "250")],
    ),
    Row::lines(
        "2.4",
        Must,
        "verbs and keywords have no case",
        &[("eHlO {ehlo}", "250"), ("mAiL fRoM:<{from}>", "250"), ("rSeT", "250"), ("quit", "221")],
    ),
    Row::lines(
        "4.1.4",
        Must,
        "NOOP, HELP, RSET, VRFY and QUIT need no EHLO",
        &[("NOOP", "250"), ("HELP", "2|500|502|504"), ("RSET", "250"), ("VRFY postmaster", "2|50|55"), ("QUIT", "221")],
    ),
    Row::lines("4.1.1.9", Should, "what stands behind NOOP is ignored", &[("NOOP anything", "250")]),
    Row::lines(
        "4.1.1.5",
        Must,
        "RSET is 250, whatever was before",
        &[("RSET", "250"), ("EHLO {ehlo}", "250"), ("RSET", "250")],
    ),
    Row::lines("4.1.1", Should, "RSET takes no argument", &[("EHLO {ehlo}", "250"), ("RSET now", "501")]),
    Row::lines("4.1.1", Should, "DATA takes no argument", &[("EHLO {ehlo}", "250"), ("DATA now", "501|503")]),
    Row::lines(
        "4.1.1",
        Should,
        "white space before the line end does no harm",
        &[("EHLO {ehlo} ", "250"), ("NOOP ", "250"), ("RSET ", "250")],
    ),
    Row::talk("4.1.1.10", Must, "QUIT is 221, and only then the session ends", quit),
    Row::lines("4.5.1", Must, "VRFY is known", &[("EHLO {ehlo}", "250"), ("VRFY {to}", "250|251|252|502|504|55")]),
    Row::lines(
        "7.3",
        Must,
        "VRFY does not verify what it has not looked up",
        &[("EHLO {ehlo}", "250"), ("VRFY nobody.of.that.name@nowhere.invalid", "252|5")],
    ),
    Row::lines(
        "3.5.2",
        Must,
        "EXPN expands no list, or a list",
        &[("EHLO {ehlo}", "250"), ("EXPN staff", "250|252|50|55")],
    ),
    Row::lines("4.1.1.8", Should, "HELP helps", &[("EHLO {ehlo}", "250"), ("HELP", "211|214")]),
    Row::lines(
        "4.2.4",
        Must,
        "an unknown command is a permanent error, and the session goes on",
        &[("EHLO {ehlo}", "250"), ("FROBNICATE", "5"), ("NOOP", "250")],
    ),
    Row::lines("4.2.4", Should, "an unknown command is 500", &[("EHLO {ehlo}", "250"), ("FROBNICATE", "500")]),
    Row::lines(
        "4.1.1",
        Must,
        "an empty line is an error, and the session goes on",
        &[("EHLO {ehlo}", "250"), ("", "5"), ("NOOP", "250")],
    ),
    Row::lines("F.1", Should, "TURN is refused", &[("EHLO {ehlo}", "250"), ("TURN", "5")]),
    Row::lines(
        "F.6",
        May,
        "SEND, SOML and SAML are refused",
        &[("EHLO {ehlo}", "250"), ("SEND FROM:<>", "5"), ("SOML FROM:<>", "5"), ("SAML FROM:<>", "5")],
    ),
    Row::lines(
        "4.1.1.11",
        Must,
        "an unknown parameter is 555",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}> FROB=1", "555"), ("NOOP", "250")],
    ),
    Row::lines(
        "4.1.1.11",
        Must,
        "an unknown parameter of RCPT is 555",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("RCPT TO:<{to}> FROB=1", "555")],
    ),
    Row::talk("4.5.3.1.4", Must, "a command line of 512 octets is read", long_line),
    Row::talk("4.5.3.1.9", Should, "a command line of 5,000 octets has one reply", longer_line),
    Row::talk("2.3.8", Must, "a bare LF ends no command", bare_lf),
    Row::talk("2.3.8", Must, "a bare CR ends no command", bare_cr),
    Row::lines(
        "4.2.4",
        May,
        "BDAT is an error where it is not offered",
        &[("EHLO {ehlo}", "250"), ("BDAT 0 LAST", "5")],
    )
    .needs(&[Need::No("CHUNKING")]),
    Row::lines(
        "4.2.4",
        Must,
        "STARTTLS is an error where it is not offered",
        &[("EHLO {ehlo}", "250"), ("STARTTLS", "5|454")],
    )
    .needs(&[Need::No("STARTTLS")]),
];

fn greeting(session: &mut Session<'_>) -> Result<(), Ending> {
    must_begin_with_a_name("the greeting", &session.greeting.lines())
}

fn ehlo_names(session: &mut Session<'_>) -> Result<(), Ending> {
    must_begin_with_a_name("the reply to EHLO", &session.expect("EHLO {ehlo}", "250")?.lines())
}

fn must_begin_with_a_name(what: &str, lines: &[String]) -> Result<(), Ending> {
    let first = lines.first().map(String::as_str).unwrap_or_default();
    let name = first.split(' ').next().unwrap_or_default();
    let is_name = name.starts_with('[') && name.ends_with(']')
        || !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if is_name { Ok(()) } else { Err(Ending::differs(format!("a domain at the start of {what}"), first)) }
}

fn keywords(session: &mut Session<'_>) -> Result<(), Ending> {
    for line in session.keywords()? {
        let keyword = line.split(' ').next().unwrap_or_default();
        let mut rest = keyword.chars();
        let is_keyword = rest.next().is_some_and(|c| c.is_ascii_alphanumeric())
            && rest.all(|c| c.is_ascii_alphanumeric() || c == '-');
        // `AUTH=` is what clients of the last century look for; it hurts nobody.
        if !is_keyword && !line.starts_with("AUTH=") {
            return Err(Ending::differs("a keyword", line));
        }
    }
    Ok(())
}

fn helo(session: &mut Session<'_>) -> Result<(), Ending> {
    let reply = session.expect("HELO {ehlo}", "250")?;
    if reply.lines().len() == 1 { Ok(()) } else { Err(Ending::differs("one line", reply.lines().join(" / "))) }
}

fn quit(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[("EHLO {ehlo}", "250"), ("QUIT", "221")])?;
    session.must_be_closed()
}

fn long_line(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.expect(&format!("NOOP {}", "x".repeat(512 - "NOOP \r\n".len())), "250").map(drop)
}

fn longer_line(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.expect(&format!("NOOP {}", "x".repeat(5000)), "250|500|501")?;
    session.expect("RSET", "250").map(drop)
}

/// Two commands that a line feed alone separates are not two: whatever is said, it is said once.
fn bare_lf(session: &mut Session<'_>) -> Result<(), Ending> {
    one_reply_to(session, b"NOOP\nNOOP\r\n")
}

fn bare_cr(session: &mut Session<'_>) -> Result<(), Ending> {
    one_reply_to(session, b"NOOP\rNOOP\r\n")
}

fn one_reply_to(session: &mut Session<'_>, octets: &[u8]) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.send(octets)?;
    let reply = session.expect_reply(&String::from_utf8_lossy(octets), "2|5|421")?;
    if session.is_silent()? {
        return Ok(());
    }
    // An end of the session behind the reply is as good.
    match session.reply() {
        Ok(second) => Err(Ending::differs("one reply", format!("{} and {}", reply.first_line(), second.first_line()))),
        Err(_nothing) => Ok(()),
    }
}
