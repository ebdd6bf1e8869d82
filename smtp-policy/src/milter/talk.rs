//! One connection to a filter: what was agreed, and questions with their answers.

use std::io;

use smtp_core::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::filter::{FilterAddress, Stream};

use super::wire::{self, Answer, Change, Command, action, protocol};

/// What we let a filter do.
const ACTIONS: u32 = action::ADD_HEADERS
    | action::CHANGE_BODY
    | action::ADD_RECIPIENT
    | action::DELETE_RECIPIENT
    | action::CHANGE_HEADERS
    | action::QUARANTINE
    | action::CHANGE_FROM
    | action::ADD_RECIPIENT_WITH_PARAMETERS;
/// What a filter may do without.
const PROTOCOL: u32 = protocol::NO_CONNECT
    | protocol::NO_HELO
    | protocol::NO_MAIL
    | protocol::NO_RCPT
    | protocol::NO_BODY
    | protocol::NO_HEADERS
    | protocol::NO_END_OF_HEADER
    | protocol::NO_REPLY_TO_HEADER
    | protocol::NO_UNKNOWN
    | protocol::NO_DATA
    | protocol::SKIP
    | protocol::NO_REPLY_TO_CONNECT
    | protocol::NO_REPLY_TO_HELO
    | protocol::NO_REPLY_TO_MAIL
    | protocol::NO_REPLY_TO_RCPT
    | protocol::NO_REPLY_TO_DATA
    | protocol::NO_REPLY_TO_UNKNOWN
    | protocol::NO_REPLY_TO_END_OF_HEADER
    | protocol::NO_REPLY_TO_BODY
    | protocol::LEADING_SPACE;
/// How much a filter may change a message, all in all; what asks for more is no honest filter.
const CHANGES_LIMIT_OCTETS: usize = 64 << 20;

/// What a filter says of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opinion {
    Continue,
    /// Nothing more of this is of interest.
    Accept,
    Discard,
    Refuse(Refusal),
    /// No more of the body is of interest.
    Skip,
}

/// A connection to a filter.
pub(super) struct Talk {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    actions: u32,
    protocol: u32,
}

impl Talk {
    /// Connects and agrees on what is said.
    pub(super) async fn open(address: &FilterAddress) -> io::Result<Self> {
        let mut talk = Self { stream: address.connect().await?, input: Vec::new(), actions: 0, protocol: 0 };
        talk.say(Command::Negotiate { actions: ACTIONS, protocol: PROTOCOL }).await?;
        match talk.hear().await? {
            Answer::Negotiate { version: 2..=wire::VERSION, actions, protocol }
                if actions & !ACTIONS == 0 && protocol & !PROTOCOL == 0 =>
            {
                (talk.actions, talk.protocol) = (actions, protocol);
                Ok(talk)
            }
            other => Err(invalid(format!("it cannot be agreed with: {other:?}"))),
        }
    }

    /// Whether it does without this.
    pub(super) fn is_without(&self, flag: u32) -> bool {
        self.protocol & flag != 0
    }

    /// Says something that has no answer.
    pub(super) async fn say(&mut self, command: Command<'_>) -> io::Result<()> {
        let mut packet = Vec::new();
        command.write_to(&mut packet);
        self.stream.write_all(&packet).await?;
        self.stream.flush().await
    }

    /// Says something and hears what the filter thinks of it; `unanswered` is the flag by which it may have said that it does
    /// not answer.
    pub(super) async fn ask(&mut self, command: Command<'_>, unanswered: u32) -> io::Result<Opinion> {
        self.say(command).await?;
        if self.is_without(unanswered) {
            return Ok(Opinion::Continue);
        }
        loop {
            match self.hear().await? {
                Answer::Progress => {}
                answer => return opinion(answer),
            }
        }
    }

    /// Says that the message is complete, and hears what is to be changed and what is thought of it. Nothing holds before all
    /// was heard (SECURITY D-49).
    pub(super) async fn conclude(&mut self) -> io::Result<(Vec<Change>, Opinion)> {
        self.say(Command::EndOfBody).await?;
        let (mut changes, mut octets) = (Vec::new(), 0);
        loop {
            match self.hear().await? {
                Answer::Progress => {}
                Answer::Change(change) => {
                    octets += size(&change);
                    if !self.may(&change) || octets > CHANGES_LIMIT_OCTETS {
                        return Err(invalid("it changes what it did not say it would".to_owned()));
                    }
                    changes.push(change);
                }
                answer => return Ok((changes, opinion(answer)?)),
            }
        }
    }

    /// Whether the change was agreed.
    fn may(&self, change: &Change) -> bool {
        let flag = match change {
            Change::AddHeader { .. } | Change::InsertHeader { .. } => action::ADD_HEADERS | action::CHANGE_HEADERS,
            Change::ChangeHeader { .. } => action::CHANGE_HEADERS,
            Change::AddRecipient(_) => action::ADD_RECIPIENT | action::ADD_RECIPIENT_WITH_PARAMETERS,
            Change::DeleteRecipient(_) => action::DELETE_RECIPIENT,
            Change::From(_) => action::CHANGE_FROM,
            Change::Body(_) => action::CHANGE_BODY,
            Change::Quarantine(_) => action::QUARANTINE,
        };
        self.actions & flag != 0
    }

    async fn hear(&mut self) -> io::Result<Answer> {
        loop {
            match wire::read(&self.input).map_err(|error| invalid(error.to_string()))? {
                Some((answer, octets)) => {
                    self.input.drain(..octets);
                    return Ok(answer);
                }
                None if self.stream.read_buf(&mut self.input).await? == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                None => {}
            }
        }
    }
}

fn size(change: &Change) -> usize {
    // A packet of nothing costs something too.
    16 + match change {
        Change::AddHeader { name, value }
        | Change::InsertHeader { name, value, .. }
        | Change::ChangeHeader { name, value, .. } => name.len() + value.len(),
        Change::AddRecipient(text) | Change::DeleteRecipient(text) | Change::From(text) => text.len(),
        Change::Body(octets) => octets.len(),
        Change::Quarantine(reason) => reason.as_str().len(),
    }
}

fn opinion(answer: Answer) -> io::Result<Opinion> {
    Ok(match answer {
        Answer::Continue => Opinion::Continue,
        Answer::Accept => Opinion::Accept,
        Answer::Discard => Opinion::Discard,
        Answer::Skip => Opinion::Skip,
        Answer::Reject => Opinion::Refuse(Refusal::permanent(7, 1, "Refused by a filter")),
        Answer::TempFail => Opinion::Refuse(Refusal::transient(7, 1, "A filter asks to come again later")),
        Answer::Shutdown => Opinion::Refuse(Refusal::transient(7, 1, "A filter ends the session").and_close()),
        Answer::ReplyCode(text) => {
            Opinion::Refuse(refusal(&text).ok_or_else(|| invalid(format!("no reply: {text:?}")))?)
        }
        other => return Err(invalid(format!("it answers out of turn: {other:?}"))),
    })
}

/// `550 5.7.1 words`, maybe in several lines, as our own refusal: what a filter says is never sent as it is (SECURITY D-50).
/// `None` of what is neither 4yz nor 5yz.
fn refusal(text: &str) -> Option<Refusal> {
    let mut words = Vec::new();
    let mut first = None;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let (code, rest) = line.split_at_checked(3)?;
        let code: u16 = code.parse().ok().filter(|code| (400..600).contains(code))?;
        let rest = rest.strip_prefix([' ', '-']).unwrap_or(rest);
        let (status, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = status_of(status, code);
        let rest = if status.is_some() { rest } else { line.get(4..).unwrap_or_default() };
        first.get_or_insert((code, status));
        words.push(rest.to_owned());
    }
    let (code, status) = first?;
    let (subject, detail) = status.unwrap_or((7, 1));
    let words = words.join(" ");
    let words = if words.is_empty() { "Refused by a filter".to_owned() } else { words };
    let refusal = if code < 500 {
        Refusal::transient(subject, detail, words)
    } else {
        Refusal::permanent(subject, detail, words)
    };
    let refusal = refusal.with_code(code);
    Some(if code == 421 { refusal.and_close() } else { refusal })
}

/// Subject and detail of an enhanced status code of the same class (RFC 3463 §2).
fn status_of(word: &str, code: u16) -> Option<(u16, u16)> {
    let mut parts = word.split('.');
    let class: u16 = parts.next()?.parse().ok()?;
    let (subject, detail) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (class == code / 100 && parts.next().is_none()).then_some((subject, detail))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY D-50
    fn d50_replies_of_filters_become_ours() {
        for (text, expected) in [
            ("550 5.7.1 No", Some("550 5.7.1 No")),
            ("451 4.7.1 Later\r\n", Some("451 4.7.1 Later")),
            ("554 No status", Some("554 5.7.1 No status")),
            ("550 4.7.1 Of another class", Some("550 5.7.1 4.7.1 Of another class")),
            ("550-5.7.1 One\r\n550 5.7.1 Two", Some("550 5.7.1 One Two")),
            ("550 5.7.1 a\u{1b}[1m\u{202e}b", Some("550 5.7.1 a?[1m?b")),
            ("550", Some("550 5.7.1 Refused by a filter")),
            ("250 2.0.0 Ok", None),
            ("354 Go on", None),
            ("550 5.7.1 a\r\n250 2.0.0 b", None),
            ("no", None),
            ("", None),
        ] {
            assert_eq!(refusal(text).map(|refusal| refusal.to_string()).as_deref(), expected, "{text:?}");
        }
        assert!(refusal("421 4.7.0 Bye").is_some_and(|refusal| refusal.closes()));
    }
}
