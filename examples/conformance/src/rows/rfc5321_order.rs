//! RFC 5321: the order of commands, and what ends a transaction.

use crate::row::Level::{May, Must, Should};
use crate::row::{Ending, Row};
use crate::session::Session;

pub(crate) const ROWS: &[Row] = &[
    Row::lines("4.1.4", May, "there is no MAIL before EHLO", &[("MAIL FROM:<{from}>", "503")]),
    Row::lines("3.3", Must, "RCPT without MAIL is 503", &[("EHLO {ehlo}", "250"), ("RCPT TO:<{to}>", "503")]),
    Row::lines("3.3", Must, "DATA without MAIL is 503 or 554", &[("EHLO {ehlo}", "250"), ("DATA", "503|554")]),
    Row::talk("3.3", Must, "DATA without a recipient is 503 or 554", data_for_nobody),
    Row::talk("3.3", Must, "DATA with refused recipients alone is 503 or 554", data_for_refused),
    Row::lines(
        "4.1.4",
        Must,
        "MAIL within a transaction is 503, and changes nothing",
        &[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}>", "250"),
            ("MAIL FROM:<>", "503"),
            ("RCPT TO:<postmaster>", "25"),
        ],
    ),
    Row::lines(
        "4.1.1.5",
        Must,
        "RSET empties the envelope",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("RSET", "250"), ("RCPT TO:<postmaster>", "503")],
    ),
    Row::lines(
        "4.1.4",
        Must,
        "EHLO empties the envelope",
        &[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}>", "250"),
            ("EHLO {ehlo}", "250"),
            ("RCPT TO:<postmaster>", "503"),
        ],
    ),
    Row::lines(
        "4.1.4",
        Should,
        "HELO empties the envelope",
        &[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}>", "250"),
            ("HELO {ehlo}", "250"),
            ("RCPT TO:<postmaster>", "503"),
        ],
    ),
    Row::lines(
        "4.1.4",
        Must,
        "a second EHLO is as good as the first",
        &[("EHLO {ehlo}", "250"), ("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250")],
    ),
    Row::lines(
        "4.1.1.9",
        Must,
        "NOOP within a transaction changes nothing",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("NOOP", "250"), ("RCPT TO:<postmaster>", "25")],
    ),
    Row::lines(
        "4.1.1.6",
        Must,
        "VRFY, EXPN and HELP within a transaction change nothing",
        &[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}>", "250"),
            ("VRFY postmaster", "2|5"),
            ("EXPN staff", "2|5"),
            ("HELP", "2|5"),
            ("RCPT TO:<postmaster>", "25"),
        ],
    ),
    Row::lines(
        "4.1.1.3",
        Must,
        "a refused recipient leaves the others",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("RCPT TO:<>", "5"), ("RCPT TO:<postmaster>", "25")],
    ),
    Row::lines(
        "4.1.4",
        Must,
        "a refused MAIL opens no transaction",
        &[
            ("EHLO {ehlo}", "250"),
            ("MAIL FROM:<{from}> FROB=1", "5"),
            ("RCPT TO:<postmaster>", "503"),
            ("MAIL FROM:<{from}>", "250"),
        ],
    ),
    Row::lines(
        "4.1.4",
        Must,
        "an unknown command within a transaction leaves it",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("FROBNICATE", "5"), ("RCPT TO:<postmaster>", "25")],
    ),
    Row::lines(
        "4.1.1.1",
        Must,
        "HELO alone is enough for a transaction",
        &[("HELO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("RCPT TO:<postmaster>", "25"), ("RSET", "250")],
    ),
];

fn data_for_nobody(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250")])?;
    session.expect("DATA", "503|554").map(drop)
}

fn data_for_refused(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250"), ("RCPT TO:<>", "5")])?;
    session.expect("DATA", "503|554").map(drop)
}
