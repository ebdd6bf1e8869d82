//! The law of a whole session: replies, events and deliveries depend on what the client sent, not on how it was cut
//! (RFC 2920 §3.2).
//!
//! The same octets are fed at once, octet by octet, in pieces and line by line, with the same answers to the same
//! questions and the same pauses at the same places. Choice 0 holds switches, choice 1 says after how many octets the
//! client pauses, and those from 2 on are answers, by the number of the question, and lengths of pauses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{
    CloseReason, Connection, Domain, Limits, ServerSession, SessionConfig, SessionId, Stages, TransferProtocol,
    Treatment,
};

use crate::client::{Client, Record};
use crate::control::{Control, split};
use crate::text::is_reply_line;

/// Switches of choice 0.
const SMALL_LIMITS: u8 = 1;
const NO_STAGES: u8 = 2;
const UNDER_STRESS: u8 = 4;
const RELAY_CLIENT: u8 = 8;
const CONTENT_LOST: u8 = 16;
const CLIENT_LEAVES: u8 = 32;
/// `BINARYMIME` and `PRDR` are offered.
const MORE_EXTENSIONS: u8 = 64;
const LMTP: u8 = 128;

/// How the octets between two pauses are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    AtOnce,
    Single,
    Pieces,
    /// Line by line, each after the reply to the one before.
    Lines,
}

/// Runs the session cut in several ways, then once with early talkers refused.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (wire, control) = split(data);
    let start = Instant::now();
    let expected = run(wire, control, start, Cut::AtOnce, false);
    // Who waits for replies is later where one is late, so pauses and leaving would mean something else.
    let may_wait = control.choice(0) & CLIENT_LEAVES == 0 && control.choice(1) == 0;
    for cut in [Cut::Single, Cut::Pieces].into_iter().chain(may_wait.then_some(Cut::Lines)) {
        let found = run(wire, control, start, cut, false);
        assert_eq!(text(&found.output), text(&expected.output), "{cut:?}");
        assert_eq!(found.events, expected.events, "{cut:?}");
        assert_eq!(found.delivered, expected.delivered, "{cut:?}");
    }
    let early = run(wire, control, start, Cut::Pieces, true);
    for record in [&expected, &early] {
        output_is_replies(&record.output);
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn run(wire: &[u8], control: Control<'_>, start: Instant, cut: Cut, refuse_early_talkers: bool) -> Record {
    let switches = control.choice(0);
    let mut client = Client::new(session(switches, start, refuse_early_talkers), control.skip(2), start);
    client.last_line_may_be_open = wire.windows(4).any(|word| word.eq_ignore_ascii_case(b"BDAT"));
    client.loses_content = switches & CONTENT_LOST != 0 && switches & SMALL_LIMITS == 0;
    client.advance();
    let pause = usize::from(control.choice(1));
    let between_pauses = if pause == 0 { wire.len().max(1) } else { pause };
    for (number, part) in wire.chunks(between_pauses).enumerate() {
        match cut {
            Cut::AtOnce => client.send(part),
            Cut::Single => part.chunks(1).for_each(|octet| client.send(octet)),
            Cut::Pieces => control.cuts(part.len()).for_each(|piece| client.send(&part[piece])),
            Cut::Lines => part.split_inclusive(|&octet| octet == b'\n').for_each(|line| {
                client.send(line);
                client.wait_for_late_reply();
            }),
        }
        client.pause(pause_length(control.skip(2).choice(number)));
    }
    if switches & CLIENT_LEAVES != 0 {
        client.leave(CloseReason::ClientLeft);
    }
    client.finish()
}

/// Around the limits: a late reply, a command, content, a session.
fn pause_length(choice: u8) -> Duration {
    Duration::from_millis([0, 500, 1000, 11_000, 179_000, 181_000, 301_000, 3_601_000][usize::from(choice % 8)])
}

fn session(switches: u8, start: Instant, refuse_early_talkers: bool) -> ServerSession {
    let hostname = Domain::parse("mx.example.org").expect("a domain");
    let config = SessionConfig {
        limits: if switches & SMALL_LIMITS == 0 { Limits::default() } else { small_limits() },
        stages: if switches & NO_STAGES == 0 { Stages::ALL } else { Stages::NONE },
        protocol: if switches & LMTP == 0 { TransferProtocol::Smtp } else { TransferProtocol::Lmtp },
        offers_prdr: switches & MORE_EXTENSIONS != 0,
        refuse_early_talkers,
        honours_binarymime: switches & MORE_EXTENSIONS != 0,
        observed: true,
        ..SessionConfig::new(hostname)
    };
    let address = |last| SocketAddr::from(([192, 0, 2, last], 25));
    let treatment = if switches & RELAY_CLIENT == 0 { Treatment::Mx } else { Treatment::RelayClient };
    let connection = Connection::new(SessionId::new(1), address(1), address(2)).with_treatment(treatment);
    let mut session = ServerSession::new(Arc::new(config), Arc::new(connection), start);
    session.set_under_stress(switches & UNDER_STRESS != 0);
    session
}

/// Limits that short inputs reach.
fn small_limits() -> Limits {
    let mut limits = Limits::default();
    limits.command_line_octets = 40;
    limits.command_line_discard_octets = 120;
    limits.message_octets = 100;
    limits.recipients = 2;
    limits.excess_recipients = 2;
    limits.alias_mailboxes = 1;
    limits.header_octets = 60;
    limits.header_fields = 4;
    limits.received_fields = 2;
    limits.errors_before_delay = 2;
    limits.errors = 4;
    limits.commands_without_progress = 5;
    limits.transactions = 3;
    limits
}

/// RFC 5321 §4.2 and §4.2.1: whole lines; the lines of one reply have one code, and only the last has a space behind
/// it. §3.1: the first says 220, 421 or 554.
fn output_is_replies(output: &[u8]) {
    let mut open: Option<&[u8]> = None;
    for (number, line) in output.split_inclusive(|&octet| octet == b'\n').enumerate() {
        is_reply_line(line);
        let (code, mark) = (&line[..3], line[3]);
        assert!(open.is_none_or(|open| open == code), "two codes in one reply: {:?}", text(output));
        assert!(number > 0 || matches!(code, b"220" | b"421" | b"554"), "{:?}", text(line));
        open = (mark == b'-').then_some(code);
    }
    assert!(open.is_none(), "a reply without end: {:?}", text(output));
}
