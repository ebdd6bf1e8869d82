//! One connection to a filter: what was agreed, and questions with their answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use smtp_core::Refusal;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::filter::{FilterAddress, Stream};

use super::reply::refusal;
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
/// How long connecting and agreeing may take each.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What a filter says of something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Opinion {
    #[default]
    Continue,
    /// Nothing more of this is of interest.
    Accept,
    Discard,
    Refuse(Refusal),
    /// No more of the body is of interest.
    Skip,
}

/// A filter that was there, or was hoped to be, and is lost for what is being talked about.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) cause: io::Error,
    /// It had begun to say what it changes (SECURITY D-49).
    pub(super) was_changing: bool,
}

impl From<io::Error> for Lost {
    fn from(cause: io::Error) -> Self {
        Self { cause, was_changing: false }
    }
}

/// A connection to a filter.
pub(super) struct Talk {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    /// How much of that was understood already.
    understood: usize,
    version: u32,
    actions: u32,
    protocol: u32,
}

/// The most changes of one message (ours).
const CHANGES_LIMIT: usize = 10_000;

impl Talk {
    /// Connects and agrees on what is said.
    pub(super) async fn open(address: &FilterAddress) -> io::Result<Self> {
        let stream = in_time(CONNECT_LIMIT, address.connect()).await?;
        let mut talk = Self { stream, input: Vec::new(), understood: 0, version: 0, actions: 0, protocol: 0 };
        match in_time(CONNECT_LIMIT, talk.agree()).await? {
            Answer::Negotiate { version: version @ 2..=wire::VERSION, actions, protocol }
                if actions & !ACTIONS == 0 && protocol & !PROTOCOL == 0 =>
            {
                (talk.version, talk.actions, talk.protocol) = (version, actions, protocol);
                Ok(talk)
            }
            other => Err(invalid(format!("it cannot be agreed with: {other:?}"))),
        }
    }

    async fn agree(&mut self) -> io::Result<Answer> {
        self.say(Command::Negotiate { actions: ACTIONS, protocol: PROTOCOL }).await?;
        self.hear().await
    }

    /// Whether it does without this.
    pub(super) fn is_without(&self, flag: u32) -> bool {
        self.protocol & flag != 0
    }

    /// Whether it knows of `DATA`, which came with version 4.
    pub(super) fn knows_data(&self) -> bool {
        self.version >= 4
    }

    /// Says something that has no answer.
    pub(super) async fn say(&mut self, command: Command<'_>) -> io::Result<()> {
        // Who has answered what was not asked is no longer understood.
        if self.understood < self.input.len() {
            return Err(invalid("it answers before it is asked".to_owned()));
        }
        let mut packet = Vec::new();
        command.write_to(&mut packet);
        self.stream.write_all(&packet).await?;
        self.stream.flush().await
    }

    /// Says something and hears what the filter thinks of it; `unanswered` is the flag by which it may have said that it does
    /// not answer. Each word that it still works gives it as much time again.
    pub(super) async fn ask(&mut self, command: Command<'_>, unanswered: u32, time: Duration) -> io::Result<Opinion> {
        let is_body = matches!(command, Command::Body(_));
        in_time(time, self.say(command)).await?;
        if self.is_without(unanswered) {
            return Ok(Opinion::Continue);
        }
        loop {
            match in_time(time, self.hear()).await? {
                Answer::Progress => {}
                Answer::Skip if is_body && self.is_without(protocol::SKIP) => return Ok(Opinion::Skip),
                answer => return opinion(answer),
            }
        }
    }

    /// Says that the message is complete, and hears what is to be changed, at most so many octets of it, and what is thought of
    /// it. Nothing holds before all was heard (SECURITY D-49).
    ///
    /// # Errors
    /// [`Lost`]: then no change holds.
    pub(super) async fn conclude(&mut self, octets: usize, time: Duration) -> Result<(Vec<Change>, Opinion), Lost> {
        let mut changes = Vec::new();
        let opinion = self.hear_changes(&mut changes, octets, time).await;
        // What was cut off, or could not be read, may have been a change.
        let was_changing = !changes.is_empty() || self.understood < self.input.len();
        opinion.map_err(|cause| Lost { cause, was_changing }).map(|opinion| (changes, opinion))
    }

    async fn hear_changes(&mut self, changes: &mut Vec<Change>, limit: usize, time: Duration) -> io::Result<Opinion> {
        in_time(time, self.say(Command::EndOfBody)).await?;
        let mut octets = 0;
        loop {
            match in_time(time, self.hear()).await? {
                Answer::Progress => {}
                Answer::Change(change) => {
                    octets += size(&change);
                    let may = self.may(&change);
                    changes.push(change);
                    if !may {
                        return Err(invalid("it changes what it did not say it would".to_owned()));
                    }
                    if octets > limit || changes.len() > CHANGES_LIMIT {
                        return Err(invalid(format!(
                            "it makes more than {CHANGES_LIMIT} changes, or of {limit} octets"
                        )));
                    }
                }
                answer => return opinion(answer),
            }
        }
    }

    /// Whether the change was agreed.
    fn may(&self, change: &Change) -> bool {
        let flag = match change {
            Change::AddHeader { .. } | Change::InsertHeader { .. } => action::ADD_HEADERS | action::CHANGE_HEADERS,
            Change::SetHeader { .. } => action::CHANGE_HEADERS,
            Change::AddRecipient { .. } => action::ADD_RECIPIENT | action::ADD_RECIPIENT_WITH_PARAMETERS,
            Change::DeleteRecipient(_) => action::DELETE_RECIPIENT,
            Change::From { .. } => action::CHANGE_FROM,
            Change::Body(_) => action::CHANGE_BODY,
            Change::Quarantine(_) => action::QUARANTINE,
        };
        self.actions & flag != 0
    }

    async fn hear(&mut self) -> io::Result<Answer> {
        loop {
            let rest = &self.input[self.understood..];
            if let Some((answer, octets)) = wire::read(rest).map_err(|error| invalid(error.to_string()))? {
                self.understood += octets;
                return Ok(answer);
            }
            // Once for each read, however many small answers it brought.
            self.input.drain(..self.understood);
            self.understood = 0;
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Says goodbye where that needs no waiting; the end of the connection says the same.
impl Drop for Talk {
    fn drop(&mut self) {
        let mut packet = Vec::new();
        Command::Quit.write_to(&mut packet);
        let _ = Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(Waker::noop()), &packet);
    }
}

async fn in_time<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

fn size(change: &Change) -> usize {
    // A packet of nothing costs something too.
    16 + match change {
        Change::AddHeader { name, value }
        | Change::InsertHeader { name, value, .. }
        | Change::SetHeader { name, value, .. } => name.len() + value.len(),
        Change::AddRecipient { path, parameters } | Change::From { path, parameters } => path.len() + parameters.len(),
        Change::DeleteRecipient(text) => text.len(),
        Change::Body(octets) => octets.len(),
        Change::Quarantine(reason) => reason.as_str().len(),
    }
}

fn opinion(answer: Answer) -> io::Result<Opinion> {
    Ok(match answer {
        Answer::Continue => Opinion::Continue,
        Answer::Accept => Opinion::Accept,
        Answer::Discard => Opinion::Discard,
        Answer::Reject => Opinion::Refuse(Refusal::permanent(7, 1, "Refused by a filter")),
        Answer::TempFail => Opinion::Refuse(Refusal::transient(7, 1, "A filter asks to come again later")),
        Answer::Shutdown => {
            Opinion::Refuse(Refusal::transient(7, 1, "A filter ends the session").with_code(421).and_close())
        }
        Answer::ReplyCode(text) => {
            Opinion::Refuse(refusal(&text).ok_or_else(|| invalid(format!("no reply: {text:?}")))?)
        }
        Answer::ConnectionFails => return Err(invalid("it says that it cannot go on".to_owned())),
        other => return Err(invalid(format!("it answers out of turn: {}", kind(&other)))),
    })
}

/// Without what a filter put into it: that may be of any length.
fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Negotiate { .. } => "negotiation",
        Answer::Change(_) => "a change",
        Answer::Skip => "skip",
        _ => "another answer",
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
