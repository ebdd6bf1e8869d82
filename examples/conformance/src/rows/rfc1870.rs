//! RFC 1870: how large a message may be.

use crate::row::Level::{Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const SIZE: &[Need] = &[Need::Keyword("SIZE")];
const EHLO: (&str, &str) = ("EHLO {ehlo}", "250");

pub(crate) const ROWS: &[Row] = &[
    Row::talk("4", Must, "behind SIZE stands a number of at most 20 digits, or nothing", number).needs(SIZE),
    Row::lines("3", Must, "a small size is taken", &[EHLO, ("MAIL FROM:<{from}> SIZE=1000", "250")]).needs(SIZE),
    Row::lines("3", Must, "a size of 0 is taken", &[EHLO, ("MAIL FROM:<{from}> SIZE=0", "250")]).needs(SIZE),
    Row::talk("6.1", Should, "a size above the limit is refused with MAIL", too_large).needs(SIZE),
    Row::lines("3", Must, "a size is digits", &[EHLO, ("MAIL FROM:<{from}> SIZE=many", "5")]).needs(SIZE),
    Row::lines("3", Must, "a size is not negative", &[EHLO, ("MAIL FROM:<{from}> SIZE=-1", "5")]).needs(SIZE),
    Row::lines("3", Must, "a size has a value", &[EHLO, ("MAIL FROM:<{from}> SIZE=", "5")]).needs(SIZE),
    Row::lines(
        "3",
        Must,
        "a size of 20 digits is understood",
        &[EHLO, ("MAIL FROM:<{from}> SIZE=18446744073709551615", "250|552|452")],
    )
    .needs(SIZE),
    Row::lines(
        "6",
        Must,
        "where it is not offered, the parameter is unknown",
        &[EHLO, ("MAIL FROM:<{from}> SIZE=1000", "555")],
    )
    .needs(&[Need::No("SIZE")]),
];

fn number(session: &mut Session<'_>) -> Result<(), Ending> {
    let limit = session.target.parameters("SIZE").unwrap_or_default();
    if limit.len() <= 20 && limit.bytes().all(|octet| octet.is_ascii_digit()) {
        Ok(())
    } else {
        Err(Ending::differs("a number", limit))
    }
}

fn too_large(session: &mut Session<'_>) -> Result<(), Ending> {
    let limit: u64 = match session.target.parameters("SIZE").map(str::parse) {
        Some(Ok(limit)) if limit > 0 => limit,
        _ => return Err(Ending::Skipped("no limit is announced".into())),
    };
    session.expect("EHLO {ehlo}", "250")?;
    session.expect(&format!("MAIL FROM:<{{from}}> SIZE={}", limit.saturating_add(1)), "552|452").map(drop)
}
