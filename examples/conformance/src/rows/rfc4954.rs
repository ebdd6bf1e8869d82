//! RFC 4954: AUTH. No password is guessed but one, of a user that does not exist.

use crate::row::Level::{Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;
use crate::target::{Target, parameters};

const AUTH: &[Need] = &[Need::Keyword("AUTH")];

pub(crate) const ROWS: &[Row] = &[
    Row::target("4", Must, "PLAIN and LOGIN are not offered in clear", not_in_clear),
    Row::talk("4", Must, "PLAIN in clear is refused", plain_in_clear),
    Row::talk("3", Must, "AUTH says its mechanisms", mechanisms).needs(AUTH),
    Row::talk("4", Must, "AUTH needs a mechanism", |s| protected(s, &[("AUTH", "501")])).needs(AUTH),
    Row::talk("4", Must, "an unknown mechanism is 504", |s| protected(s, &[("AUTH FROBNICATE", "504")])).needs(AUTH),
    Row::talk("4", Must, "a client may cancel", |s| plain(s, &[("AUTH PLAIN", "334"), ("*", "501"), ("NOOP", "250")]))
        .needs(AUTH),
    Row::talk("4", Must, "what is not base64 is 501", |s| {
        plain(s, &[("AUTH PLAIN", "334"), ("!!!", "501"), ("NOOP", "250")])
    })
    .needs(AUTH),
    Row::talk("4", Must, "an initial response that is not base64 is 501", |s| plain(s, &[("AUTH PLAIN !!!", "501")]))
        .needs(AUTH),
    Row::talk("4", Must, "no AUTH within a transaction", |s| {
        protected(s, &[("MAIL FROM:<{from}>", "250|530"), ("AUTH PLAIN", "503")])
    })
    .needs(AUTH),
    // "\0nobody\0wrong"
    Row::talk("6", Must, "a wrong password is 535, and the session goes on", |s| {
        plain(s, &[("AUTH PLAIN AG5vYm9keQB3cm9uZw==", "535|454"), ("NOOP", "250")])
    })
    .needs(AUTH),
    Row::talk("6", Should, "a stranger is told 530 or may send", |s| {
        protected(s, &[("MAIL FROM:<{from}>", "530|250")])
    })
    .needs(AUTH),
];

fn offered(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| parameters(line, "AUTH")).flat_map(str::split_whitespace).collect()
}

fn not_in_clear(target: &Target) -> Result<(), Ending> {
    match offered(&target.clear).iter().find(|name| ["PLAIN", "LOGIN"].contains(name)) {
        Some(name) => Err(Ending::differs("no mechanism that sends passwords", *name)),
        None => Ok(()),
    }
}

fn plain_in_clear(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[("EHLO {ehlo}", "250"), ("AUTH PLAIN", "5")])
}

fn mechanisms(session: &mut Session<'_>) -> Result<(), Ending> {
    let names = [offered(&session.target.clear), offered(&session.target.protected)].concat();
    if names.is_empty() { Err(Ending::differs("a mechanism behind AUTH", "none")) } else { Ok(()) }
}

/// Where AUTH is offered: under TLS if there is any.
fn protected(session: &mut Session<'_>, lines: &[(&str, &str)]) -> Result<(), Ending> {
    if !session.target.protected.is_empty() {
        session.start_after_ehlo()?;
    }
    session.expect("EHLO {ehlo}", "250")?;
    session.expect_all(lines)
}

fn plain(session: &mut Session<'_>, lines: &[(&str, &str)]) -> Result<(), Ending> {
    let target = session.target;
    let here = if target.protected.is_empty() { &target.clear } else { &target.protected };
    if !offered(here).contains(&"PLAIN") {
        return Err(Ending::Skipped("PLAIN is not offered".into()));
    }
    protected(session, lines)
}
