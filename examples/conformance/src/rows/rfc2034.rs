//! RFC 2034, and what RFC 5321 says of each reply: judged over all replies of the run.

use crate::journal::Entry;
use crate::row::Level::Must;
use crate::row::{Ending, Need, Row};
use crate::target::Target;

const CODES: &[Need] = &[Need::Keyword("ENHANCEDSTATUSCODES")];

pub(crate) const ROWS: &[Row] = &[
    Row::target("4", Must, "every reply but those to HELO and EHLO has a status code", has_status).needs(CODES),
    Row::target("4", Must, "its class is that of the reply code", has_class).needs(CODES),
];

pub(crate) const EVERY_REPLY: &[Row] = &[
    Row::target("4.2", Must, "every reply begins with three digits, the first from 2 to 5", digits),
    Row::target("4.2.1", Must, "all lines of a reply have one code", one_code),
    Row::target("2.3.8", Must, "every line of a reply ends with CRLF", crlf),
    Row::target("4.5.3.1.5", Must, "no line of a reply has more than 512 octets", short),
    Row::target("4.2", Must, "replies are printable ASCII", ascii),
];

/// RFC 2034 §4 leaves out 3yz, and what comes before the extension is known.
fn owes_status(entry: &Entry) -> bool {
    let command = entry.command.to_uppercase();
    entry.is_answer && entry.reply.matches("2|4|5") && !command.starts_with("EHLO") && !command.starts_with("HELO")
}

fn status(line: &str) -> Option<&str> {
    let status = line.split(' ').next()?;
    let mut parts = status.split('.');
    let mut is_number = |digits: usize| {
        parts.next().is_some_and(|part| (1..=digits).contains(&part.len()) && part.bytes().all(|o| o.is_ascii_digit()))
    };
    (is_number(1) && is_number(3) && is_number(3) && parts.next().is_none()).then_some(status)
}

fn has_status(target: &Target) -> Result<(), Ending> {
    target.journal().each("a status code on each line", |entry| {
        !owes_status(entry) || entry.reply.lines().iter().all(|line| status(line).is_some())
    })
}

fn has_class(target: &Target) -> Result<(), Ending> {
    target.journal().each("the class of the reply code", |entry| {
        let code = entry.reply.code();
        !owes_status(entry) || entry.reply.lines().iter().filter_map(|line| status(line)).all(|s| s[..1] == code[..1])
    })
}

fn digits(target: &Target) -> Result<(), Ending> {
    target.journal().each("three digits and a space or hyphen", |entry| {
        entry
            .reply
            .raw_lines()
            .all(|line| matches!(line, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'-' | b'\r', ..]))
    })
}

fn one_code(target: &Target) -> Result<(), Ending> {
    target.journal().each("one code", |entry| {
        let code = entry.reply.code();
        entry.reply.raw_lines().all(|line| line.starts_with(code.as_bytes()))
    })
}

fn crlf(target: &Target) -> Result<(), Ending> {
    target.journal().each("CRLF", |entry| {
        entry.reply.raw_lines().all(|line| line.ends_with(b"\r\n") && !line[..line.len() - 2].contains(&b'\r'))
    })
}

fn short(target: &Target) -> Result<(), Ending> {
    target.journal().each("at most 512 octets", |entry| entry.reply.raw_lines().all(|line| line.len() <= 512))
}

fn ascii(target: &Target) -> Result<(), Ending> {
    target.journal().each("printable ASCII", |entry| {
        entry.reply.raw_lines().flatten().all(|octet| matches!(octet, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
    })
}
