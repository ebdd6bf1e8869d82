//! RFC 3207: TLS in the middle of a session.

use crate::row::Level::{Must, Should};
use crate::row::{Ending, Need, Row};
use crate::session::Session;

const STARTTLS: &[Need] = &[Need::Keyword("STARTTLS")];

pub(crate) const ROWS: &[Row] = &[
    Row::talk("4", Must, "STARTTLS is 220, and a handshake follows", start).needs(STARTTLS),
    Row::lines(
        "4",
        Must,
        "STARTTLS takes no argument",
        &[("EHLO {ehlo}", "250"), ("STARTTLS now", "501"), ("NOOP", "250")],
    )
    .needs(STARTTLS),
    Row::talk("4.2", Must, "under TLS it is not offered again", not_again).needs(STARTTLS),
    Row::talk("4.2", Must, "under TLS it is refused", refused_again).needs(STARTTLS),
    Row::talk("4.2", Must, "EHLO is said again under TLS", ehlo_again).needs(STARTTLS),
    Row::talk("4.2", Must, "what the client said in clear is forgotten", forgotten).needs(STARTTLS),
    Row::talk("4.2", Must, "commands in clear behind STARTTLS are not executed under TLS", injected).needs(STARTTLS),
    Row::talk("4.2", Should, "a transaction goes through under TLS", transaction).needs(STARTTLS),
    Row::talk("4.1", Must, "a session under TLS ends with QUIT like any other", quit).needs(STARTTLS),
];

impl Session<'_> {
    pub(crate) fn start_after_ehlo(&mut self) -> Result<(), Ending> {
        self.expect("EHLO {ehlo}", "250")?;
        self.start_tls()
    }
}

fn start(session: &mut Session<'_>) -> Result<(), Ending> {
    session.start_after_ehlo()
}

fn not_again(session: &mut Session<'_>) -> Result<(), Ending> {
    session.start_after_ehlo()?;
    match session.keywords()?.iter().find(|line| *line == "STARTTLS") {
        None => Ok(()),
        Some(_) => Err(Ending::differs("no STARTTLS in the reply to EHLO", "STARTTLS")),
    }
}

fn refused_again(session: &mut Session<'_>) -> Result<(), Ending> {
    session.start_after_ehlo()?;
    session.expect_all(&[("EHLO {ehlo}", "250"), ("STARTTLS", "5"), ("NOOP", "250")])
}

fn ehlo_again(session: &mut Session<'_>) -> Result<(), Ending> {
    session.start_after_ehlo()?;
    session.expect_all(&[("EHLO {ehlo}", "250"), ("NOOP", "250")])
}

/// Neither does the transaction go on, whether `STARTTLS` is refused within it or ends it.
fn forgotten(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect_all(&[("EHLO {ehlo}", "250"), ("MAIL FROM:<{from}>", "250")])?;
    if session.command("STARTTLS")?.matches("5") {
        return Ok(());
    }
    session.handshake()?;
    session.expect("RCPT TO:<postmaster>", "5").map(drop)
}

fn injected(session: &mut Session<'_>) -> Result<(), Ending> {
    session.expect("EHLO {ehlo}", "250")?;
    session.send(b"STARTTLS\r\nNOOP injected\r\n")?;
    if !session.expect_reply("STARTTLS", "220|4|5")?.matches("220") || session.handshake().is_err() {
        return Ok(());
    }
    match session.is_silent() {
        Ok(true) | Err(_) => Ok(()),
        // The end of the session is as good.
        Ok(false) => match session.reply() {
            Ok(reply) if reply.matches("2") => Err(Ending::differs("silence", reply.first_line())),
            _ => Ok(()),
        },
    }
}

fn transaction(session: &mut Session<'_>) -> Result<(), Ending> {
    session.start_after_ehlo()?;
    session.expect_all(&[
        ("EHLO {ehlo}", "250"),
        ("MAIL FROM:<{from}>", "250"),
        ("RCPT TO:<postmaster>", "25"),
        ("RSET", "250"),
    ])
}

fn quit(session: &mut Session<'_>) -> Result<(), Ending> {
    session.start_after_ehlo()?;
    session.expect_all(&[("EHLO {ehlo}", "250"), ("QUIT", "221")])?;
    session.must_be_closed()
}
