//! RFC 8314, 8689, 9422 and 2033: what little of them a mail server shows to a stranger.

use crate::row::Level::Must;
use crate::row::{Ending, Need, Row};
use crate::session::Session;
use crate::target::Target;

const TLS_PORT: &[Need] = &[Need::TlsPort];

pub(crate) const RFC_8314: &[Row] = &[
    Row::target("3", Must, "the greeting comes under TLS", |target| implicit(target).map(drop)).needs(TLS_PORT),
    Row::target("3", Must, "there is no STARTTLS under TLS", |target| {
        match implicit(target)?.keywords()?.iter().find(|line| *line == "STARTTLS") {
            None => Ok(()),
            Some(_) => Err(Ending::differs("no STARTTLS in the reply to EHLO", "STARTTLS")),
        }
    })
    .needs(TLS_PORT),
    Row::target("3", Must, "the session ends like any other", |target| {
        implicit(target)?.expect_all(&[("EHLO {ehlo}", "250"), ("RSET", "250"), ("QUIT", "221")])
    })
    .needs(TLS_PORT),
];

pub(crate) const RFC_8689: &[Row] = &[
    Row::target("2", Must, "REQUIRETLS is not offered in clear", |target| match target.parameters("REQUIRETLS") {
        None => Ok(()),
        Some(_) => Err(Ending::differs("no REQUIRETLS in the reply to EHLO", "REQUIRETLS")),
    }),
    Row::lines(
        "2",
        Must,
        "REQUIRETLS is refused in clear",
        &[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}> REQUIRETLS", "5")],
    ),
];

pub(crate) const RFC_9422: &[Row] = &[
    Row::target("4", Must, "each limit is a name and a number", |target| {
        for limit in target.parameters("LIMITS").unwrap_or_default().split_whitespace() {
            let value = limit.split_once('=').map(|(_, value)| value).unwrap_or_default();
            if value.is_empty() || value.starts_with('0') || !value.bytes().all(|octet| octet.is_ascii_digit()) {
                return Err(Ending::differs("NAME=NUMBER", limit));
            }
        }
        Ok(())
    })
    .needs(&[Need::Keyword("LIMITS")]),
    Row::target("4", Must, "no limit stands twice", |target| {
        let limits = target.parameters("LIMITS").unwrap_or_default();
        let mut names: Vec<_> = limits.split_whitespace().filter_map(|limit| limit.split('=').next()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => Err(Ending::differs("each name once", pair[0])),
        }
    })
    .needs(&[Need::Keyword("LIMITS")]),
];

pub(crate) const RFC_2033: &[Row] =
    &[Row::lines("4.1", Must, "a server of SMTP does not know LHLO", &[("LHLO {ehlo}", "5"), ("EHLO {ehlo}", "250")])];

fn implicit(target: &Target) -> Result<Session<'_>, Ending> {
    let address = target.tls_address().ok_or_else(|| Ending::Skipped("it needs --tls-port".into()))?;
    Session::open_tls(target, address)
}
