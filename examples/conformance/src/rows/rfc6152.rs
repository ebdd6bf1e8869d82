//! RFC 6152: content of eight bits.

use crate::row::Level::Must;
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const EIGHT: &[Need] = &[Need::Keyword("8BITMIME")];
const EHLO: (&str, &str) = ("EHLO {ehlo}", "250");

pub(crate) const ROWS: &[Row] = &[
    Row::lines("2", Must, "BODY=8BITMIME is taken", &[EHLO, ("MAIL FROM:<{from}> BODY=8BITMIME", "250")]).needs(EIGHT),
    Row::lines("2", Must, "BODY=7BIT is taken, in any case", &[EHLO, ("MAIL FROM:<{from}> body=7bit", "250")])
        .needs(EIGHT),
    Row::lines("2", Must, "BODY has no other value", &[EHLO, ("MAIL FROM:<{from}> BODY=9BIT", "5")]).needs(EIGHT),
    Row::talk("3", Must, "octets above 127 are taken", eight_bits).needs(&[Need::Keyword("8BITMIME"), Need::Recipient]),
];

fn eight_bits(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[
        EHLO,
        ("MAIL FROM:<{from}> BODY=8BITMIME", "250"),
        ("RCPT TO:<{to}>", "25"),
        ("DATA", "354"),
    ])?;
    session.send(
        b"Subject: conformance\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\xff\r\n.\r\n",
    )?;
    session.expect_reply("content", "250").map(drop)
}
