//! RFC 3461: who wants to be told what.

use crate::row::Level::Must;
use crate::row::{Need, Row};

const DSN: &[Need] = &[Need::Keyword("DSN")];
const NO_DSN: &[Need] = &[Need::No("DSN")];
const EHLO: (&str, &str) = ("EHLO {ehlo}", "250");
const MAIL: (&str, &str) = ("MAIL FROM:<{from}>", "250");

pub(crate) const ROWS: &[Row] = &[
    Row::lines(
        "4.3",
        Must,
        "RET is FULL or HDRS",
        &[EHLO, ("MAIL FROM:<{from}> RET=HDRS", "250"), ("RSET", "250"), ("MAIL FROM:<{from}> RET=full", "250")],
    )
    .needs(DSN),
    Row::lines("4.3", Must, "RET is nothing else", &[EHLO, ("MAIL FROM:<{from}> RET=SOME", "501")]).needs(DSN),
    Row::lines("4.4", Must, "ENVID is xtext", &[EHLO, ("MAIL FROM:<{from}> ENVID=a+2Bb", "250")]).needs(DSN),
    Row::lines(
        "4.1",
        Must,
        "NOTIFY is NEVER or a list",
        &[
            EHLO,
            MAIL,
            ("RCPT TO:<postmaster> NOTIFY=NEVER", "25"),
            ("RCPT TO:<postmaster> NOTIFY=SUCCESS,FAILURE,DELAY", "25"),
        ],
    )
    .needs(DSN),
    Row::lines("4.1", Must, "NEVER stands alone", &[EHLO, MAIL, ("RCPT TO:<postmaster> NOTIFY=NEVER,FAILURE", "501")])
        .needs(DSN),
    Row::lines("4.1", Must, "NOTIFY has no other words", &[EHLO, MAIL, ("RCPT TO:<postmaster> NOTIFY=OFTEN", "501")])
        .needs(DSN),
    Row::lines(
        "4.2",
        Must,
        "ORCPT is a type and xtext",
        &[EHLO, MAIL, ("RCPT TO:<postmaster> ORCPT=rfc822;a+2Bb@client.example", "25")],
    )
    .needs(DSN),
    Row::lines("4.2", Must, "ORCPT has a type", &[EHLO, MAIL, ("RCPT TO:<postmaster> ORCPT=nothing", "501")])
        .needs(DSN),
    Row::lines(
        "4",
        Must,
        "where it is not offered, its parameters are unknown",
        &[EHLO, ("MAIL FROM:<{from}> RET=HDRS", "555")],
    )
    .needs(NO_DSN),
];
