//! RFC 3030: content in chunks.

use crate::row::Level::{Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const CHUNKING: &[Need] = &[Need::Keyword("CHUNKING")];
const WITH_MAIL: &[Need] = &[Need::Keyword("CHUNKING"), Need::Recipient];
const ENVELOPE: &[(&str, &str)] =
    &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("RCPT TO:<{to}>", "250|251")];
const HEADER: &str = "Subject: conformance\r\n\r\n";

pub(crate) const ROWS: &[Row] = &[
    Row::talk("2", Must, "a message in one chunk is taken", one_chunk).needs(WITH_MAIL),
    Row::talk("2", Must, "each chunk has its reply, the last ends the message", chunks).needs(WITH_MAIL),
    Row::talk("2", Must, "the last chunk may be empty", empty_last).needs(WITH_MAIL),
    Row::talk("4.2", Must, "chunks may come in one group with their commands", group).needs(WITH_MAIL),
    Row::talk("2", Must, "CRLF . CRLF means nothing in a chunk", dots).needs(WITH_MAIL),
    Row::talk("2", Must, "BDAT without MAIL is 503", |s| refused_chunk(s, &[("EHLO {ehlo}", "250")], "503"))
        .needs(CHUNKING),
    Row::talk("2", Must, "BDAT without a recipient is 503 or 554", |s| {
        refused_chunk(s, &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250")], "503|554")
    })
    .needs(CHUNKING),
    Row::talk("2", Must, "DATA behind BDAT is 503", data_behind_chunk).needs(WITH_MAIL),
    Row::talk("2", Must, "MAIL behind BDAT is 503", mail_behind_chunk).needs(WITH_MAIL),
    Row::talk("2", Must, "RSET forgets the chunks", rset).needs(WITH_MAIL),
    Row::talk("2", Must, "BDAT behind the last chunk is 503", behind_last).needs(WITH_MAIL),
    Row::talk("2", Should, "the verb and LAST have no case", lower_case).needs(WITH_MAIL),
    Row::talk("2", Must, "BDAT needs a size", |s| malformed(s, "BDAT")).needs(WITH_MAIL),
    Row::talk("2", Must, "a size is digits", |s| malformed(s, "BDAT many LAST")).needs(WITH_MAIL),
    Row::talk("2", Must, "a size is not negative", |s| malformed(s, "BDAT -1 LAST")).needs(WITH_MAIL),
    Row::talk("2", Must, "a size beyond all numbers is an error", |s| {
        malformed(s, "BDAT 99999999999999999999999 LAST")
    })
    .needs(WITH_MAIL),
    Row::lines(
        "3",
        Must,
        "BODY=BINARYMIME is taken where it is offered",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}> BODY=BINARYMIME", "250")],
    )
    .needs(&[Need::Keyword("BINARYMIME")]),
    Row::lines(
        "3",
        Must,
        "binary content does not go by DATA",
        &[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}> BODY=BINARYMIME", "250"),
            ("RCPT TO:<{to}>", "25"),
            ("DATA", "503"),
        ],
    )
    .needs(&[Need::Keyword("BINARYMIME"), Need::Recipient]),
    Row::lines(
        "3",
        Must,
        "BODY=BINARYMIME is refused where it is not offered",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}> BODY=BINARYMIME", "5")],
    )
    .needs(&[Need::Keyword("CHUNKING"), Need::No("BINARYMIME")]),
    Row::target("3", Must, "BINARYMIME is not offered without CHUNKING", |target| {
        match target.has(Need::Keyword("BINARYMIME")) {
            Ok(()) => {
                target.has(Need::Keyword("CHUNKING")).map_err(|_| Ending::differs("CHUNKING", "BINARYMIME alone"))
            }
            Err(skipped) => Err(skipped),
        }
    }),
];

fn chunk(session: &mut Session<'_>, content: &str, last: &str, pattern: &str) -> Result<(), Ending> {
    let command = format!("BDAT {}{last}", content.len());
    session.send(format!("{command}\r\n{content}").as_bytes())?;
    session.expect_reply(&command, pattern).map(drop)
}

fn one_chunk(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, &format!("{HEADER}one chunk\r\n"), " LAST", "250")
}

fn chunks(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, HEADER, "", "250")?;
    // A line may be cut anywhere.
    chunk(session, "a line in two chu", "", "250")?;
    chunk(session, "nks\r\n", " LAST", "250")?;
    session.expect("RCPT TO:<{to}>", "503").map(drop)
}

fn empty_last(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, &format!("{HEADER}empty\r\n"), "", "250")?;
    chunk(session, "", " LAST", "250")
}

fn group(session: &mut Session<'_>) -> Result<(), Ending> {
    session.target.has(Need::Keyword("PIPELINING"))?;
    session.expect("EHLO {ehlo}", "250")?;
    let group = format!(
        "MAIL FROM:<{{from}}>\r\nRCPT TO:<{{to}}>\r\nBDAT {}\r\n{HEADER}BDAT 7 LAST\r\ngroup\r\nNOOP\r\n",
        HEADER.len()
    );
    session.send(session.target.fill_in(&group).as_bytes())?;
    for what in ["MAIL", "RCPT", "BDAT", "BDAT LAST", "NOOP"] {
        session.expect_reply(what, "25")?;
    }
    Ok(())
}

fn dots(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, &format!("{HEADER}a\r\n.\r\nb\r\n"), "", "250")?;
    session.expect("RSET", "250").map(drop)
}

/// The chunk is read and thrown away: what looks like a command in it is none.
fn refused_chunk(session: &mut Session<'_>, before: &[(&str, &str)], pattern: &str) -> Result<(), Ending> {
    session.expect_all(before)?;
    chunk(session, "QUIT\r\n", " LAST", pattern)?;
    session.expect("NOOP", "250").map(drop)
}

fn data_behind_chunk(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, HEADER, "", "250")?;
    session.expect_all(&[("DATA", "503"), ("RSET", "250")])
}

fn mail_behind_chunk(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, HEADER, "", "250")?;
    session.expect_all(&[("MAIL FROM:<{from}>", "503"), ("RSET", "250")])
}

fn rset(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, HEADER, "", "250")?;
    session.expect("RSET", "250")?;
    chunk(session, "x\r\n", " LAST", "503")?;
    session.expect("MAIL FROM:<{from}>", "250").map(drop)
}

fn behind_last(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    chunk(session, &format!("{HEADER}last\r\n"), " LAST", "250")?;
    chunk(session, "x\r\n", " LAST", "503")?;
    session.expect("NOOP", "250").map(drop)
}

fn lower_case(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    session.send(b"bdat 3\r\na\r\n")?;
    session.expect_reply("bdat", "250")?;
    session.expect("RSET", "250").map(drop)
}

/// How much follows is unknown then, so the session may end too.
fn malformed(session: &mut Session<'_>, command: &str) -> Result<(), Ending> {
    session.expect_all(ENVELOPE)?;
    session.expect(command, "5").map(drop)
}
