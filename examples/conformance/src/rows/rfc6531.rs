//! RFC 6531: mailboxes that are not ASCII.

use crate::row::Level::Must;
use crate::row::{Need, Row};

const UTF8: &[Need] = &[Need::Keyword("SMTPUTF8")];
const EHLO: (&str, &str) = ("EHLO {ehlo}", "250");

pub(crate) const ROWS: &[Row] = &[
    Row::target("3.1", Must, "who offers SMTPUTF8 offers 8BITMIME", |target| target.has(Need::Keyword("8BITMIME")))
        .needs(UTF8),
    Row::lines(
        "3.4",
        Must,
        "a mailbox in UTF-8 is taken with the parameter",
        &[EHLO, ("MAIL FROM:<jürgen@client.example> SMTPUTF8", "250")],
    )
    .needs(UTF8),
    Row::lines(
        "3.4",
        Must,
        "the parameter is taken for mailboxes in ASCII",
        &[EHLO, ("MAIL FROM:<{from}> SMTPUTF8", "250")],
    )
    .needs(UTF8),
    Row::lines("3.4", Must, "the parameter has no value", &[EHLO, ("MAIL FROM:<{from}> SMTPUTF8=yes", "5")])
        .needs(UTF8),
    Row::lines(
        "3.5",
        Must,
        "a mailbox in UTF-8 is refused without it",
        &[EHLO, ("MAIL FROM:<jürgen@client.example>", "55|501")],
    )
    .needs(UTF8),
    Row::lines(
        "3.5",
        Must,
        "so is a recipient",
        &[EHLO, ("MAIL FROM:<{from}>", "250"), ("RCPT TO:<jürgen@client.example>", "55|501")],
    )
    .needs(UTF8),
    Row::lines(
        "3.4",
        Must,
        "where it is not offered, the parameter is unknown",
        &[EHLO, ("MAIL FROM:<{from}> SMTPUTF8", "5")],
    )
    .needs(&[Need::No("SMTPUTF8")]),
];
