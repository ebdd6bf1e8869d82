//! RFC 5321: paths, and how much of everything a server takes at least.

use crate::row::Level::{May, Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const EHLO: (&str, &str) = ("EHLO {ehlo}", "250");
const MAIL: (&str, &str) = ("MAIL FROM:<{from}>", "250");

pub(crate) const ROWS: &[Row] = &[
    Row::lines("4.5.5", Must, "the null reverse-path is taken", &[EHLO, ("MAIL FROM:<>", "250")]),
    Row::lines(
        "4.1.1.3",
        Must,
        "<postmaster> without a domain is a recipient",
        &[EHLO, MAIL, ("RCPT TO:<postmaster>", "250|251")],
    ),
    Row::lines("4.5.1", Must, "postmaster has no case", &[EHLO, MAIL, ("RCPT TO:<PostMaster>", "250|251")]),
    Row::lines("4.1.1.3", Must, "the null path is no recipient", &[EHLO, MAIL, ("RCPT TO:<>", "5")]),
    Row::lines("4.1.2", Must, "a path that does not end is refused", &[EHLO, ("MAIL FROM:<{from}", "5")]),
    Row::lines("4.1.2", May, "a path without angle brackets is refused", &[EHLO, ("MAIL FROM:{from}", "5")]),
    Row::lines("4.1.2", Must, "MAIL without FROM: is refused", &[EHLO, ("MAIL <{from}>", "5"), ("MAIL", "5")]),
    Row::lines("4.1.2", Must, "RCPT without TO: is refused", &[EHLO, MAIL, ("RCPT <postmaster>", "5"), ("RCPT", "5")]),
    Row::lines("4.1.2", Must, "a local-part may be quoted", &[EHLO, ("MAIL FROM:<\"a b\"@client.example>", "250")]),
    Row::lines(
        "4.1.2",
        Must,
        "a quoted local-part may hold an at sign and escapes",
        &[EHLO, ("MAIL FROM:<\"a@\\\"b\"@client.example>", "250")],
    ),
    Row::lines(
        "4.1.2",
        Must,
        "a local-part may hold any atext",
        &[EHLO, ("MAIL FROM:<!#$&'*+-/=?^_`{|}~@client.example>", "250")],
    ),
    Row::lines("4.1.2", May, "two dots in a row are no dot-string", &[EHLO, ("MAIL FROM:<a..b@client.example>", "5")]),
    Row::lines("4.1.3", Must, "a domain may be an address literal", &[EHLO, ("MAIL FROM:<a@[127.0.0.1]>", "250")]),
    Row::lines(
        "4.1.3",
        Must,
        "a domain may be an IPv6 address literal",
        &[EHLO, ("MAIL FROM:<a@[IPv6:2001:db8::1]>", "250")],
    ),
    Row::lines(
        "4.1.3",
        Should,
        "what is no address is no address literal",
        &[EHLO, ("MAIL FROM:<a@[300.1.2.3]>", "5")],
    ),
    Row::lines(
        "C",
        Must,
        "a source route of MAIL is understood",
        &[EHLO, ("MAIL FROM:<@a.example,@b.example:{from}>", "250")],
    ),
    Row::lines(
        "C",
        Must,
        "a source route of RCPT is understood",
        &[EHLO, MAIL, ("RCPT TO:<@a.example,@b.example:{to}>", "250|251|55")],
    )
    .needs(&[Need::Recipient]),
    Row::lines(
        "C",
        Should,
        "a source route of RCPT is ignored",
        &[EHLO, MAIL, ("RCPT TO:<@a.example:{to}>", "250|251")],
    )
    .needs(&[Need::Recipient]),
    Row::talk("2.4", Must, "domains have no case", domain_case).needs(&[Need::Recipient]),
    Row::talk("4.5.3.1.1", Must, "a local-part may have 64 octets", local_part_of_64),
    Row::talk("4.5.3.1.2", Must, "a domain may have 255 octets", domain_of_255),
    Row::talk("4.5.3.1.8", Must, "100 recipients are taken", recipients_100).needs(&[Need::Recipient]),
    Row::lines(
        "3.6.2",
        Should,
        "mail of strangers for strangers is refused",
        &[EHLO, MAIL, ("RCPT TO:<somebody@elsewhere.example>", "5|4")],
    ),
    Row::lines(
        "3.6.2",
        Should,
        "a percent sign is no way around that",
        &[EHLO, MAIL, ("RCPT TO:<somebody%elsewhere.example@other.example>", "5|4")],
    ),
    Row::lines("4.1.1.2", May, "a space before the path is let pass", &[EHLO, ("MAIL FROM: <{from}>", "250")]),
];

fn domain_case(session: &mut Session<'_>) -> Result<(), Ending> {
    let to = session.target.fill_in("{to}");
    let upper = match to.rsplit_once('@') {
        Some((local_part, domain)) => format!("{local_part}@{}", domain.to_uppercase()),
        None => return Err(Ending::Skipped("the recipient has no domain".into())),
    };
    session.expect_all(&[EHLO, MAIL])?;
    session.expect(&format!("RCPT TO:<{upper}>"), "250|251").map(drop)
}

fn local_part_of_64(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.expect(&format!("MAIL FROM:<{}@client.example>", "x".repeat(64)), "250").map(drop)
}

/// As much of 255 octets as a path of 256 can hold: `<a@` and `>` need four.
fn domain_of_255(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    let label = "x".repeat(60);
    let domain = format!("{label}.{label}.{label}.{}.example", "x".repeat(61));
    session.expect(&format!("MAIL FROM:<a@{domain}>"), "250").map(drop)
}

fn recipients_100(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[EHLO, MAIL])?;
    for _ in 0..100 {
        session.expect("RCPT TO:<{to}>", "250|251")?;
    }
    session.expect("RSET", "250").map(drop)
}
