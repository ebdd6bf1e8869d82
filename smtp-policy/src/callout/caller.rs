//! One callout: what was heard before, whether another may be made now, the conversation, and what its end means.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smtp_core::{
    ClientConfig, ClientConnection, ForwardPath, Reply, ReplyError, SafeText, SendCause, SendError, SendStage,
};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::rate_limit::{Rate, admit};
use crate::state::{Change, StateStore, short_key};

const TABLE: &str = "callouts";

/// How long a good answer is remembered: 31 days (PRACTICES S40).
const GOOD: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// How long a bad one is: 3 days (PRACTICES S40).
const BAD: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long a host that gave none is left alone: 15 min (ours).
const NONE: Duration = Duration::from_secs(15 * 60);
/// How long a conversation may take: 15 s, less than a check.
const CONVERSATION: Duration = Duration::from_secs(15);
/// How many may be on their way at a time: 100.
const IN_FLIGHT_LIMIT: usize = 100;

/// What a callout came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// There is such a mailbox, or such a server.
    Good,
    /// There is none.
    Bad(SafeText),
    /// Nobody knows.
    Unknown(SafeText),
}

impl Heard {
    fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(SafeText::new(why.into()))
    }

    fn stored(&self) -> (Vec<u8>, Duration) {
        let (mark, words, holds) = match self {
            Self::Good => (b'+', "", GOOD),
            Self::Bad(words) => (b'-', words.as_str(), BAD),
            Self::Unknown(words) => (b'?', words.as_str(), NONE),
        };
        ([&[mark], words.as_bytes()].concat(), holds)
    }

    fn from_stored(octets: &[u8]) -> Option<Self> {
        let (mark, words) = octets.split_first()?;
        match mark {
            b'+' => Some(Self::Good),
            b'-' => Some(Self::Bad(SafeText::from_octets(words))),
            b'?' => Some(Self::Unknown(SafeText::from_octets(words))),
            _ => None,
        }
    }
}

/// Whom to call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// An address that was looked at, so that no name is resolved again.
    Address(SocketAddr),
    /// A next hop of ours, as `host:port`.
    Host(&'a str),
}

/// One question.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// What is asked, by which the answer is remembered.
    pub(super) about: String,
    /// Of whom one callout at a time is asked.
    pub(super) one_at_a_time: String,
    /// Whom to call.
    pub(super) target: Target<'a>,
    /// Which mailbox; `None`: whether there is a mail server at all.
    pub(super) recipient: Option<&'a ForwardPath>,
    /// How often, by name.
    pub(super) rates: &'a [(String, Rate)],
}

/// Makes callouts, and remembers them.
#[derive(Clone)]
pub(super) struct Caller {
    store: Arc<dyn StateStore>,
    config: ClientConfig,
    pub(super) clock: Clock,
    in_flight: Arc<Mutex<HashSet<String>>>,
}

impl Caller {
    pub(super) fn new(store: Arc<dyn StateStore>, config: ClientConfig) -> Self {
        Self { store, config, clock: Clock::default(), in_flight: Arc::default() }
    }

    /// What was heard of it before.
    pub(super) async fn remembered(&self, about: &str) -> Option<Heard> {
        let found = self.store.get(TABLE, &short_key(about), self.clock.now()).await.ok()?;
        found.as_deref().and_then(Heard::from_stored)
    }

    /// What is remembered, or what a callout says, if one may be made.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Heard {
        if let Some(heard) = self.remembered(&question.about).await {
            return heard;
        }
        let Some(_on_its_way) = InFlight::begin(&self.in_flight, &question.one_at_a_time) else {
            return Heard::unknown("another callout is on its way");
        };
        for (name, rate) in question.rates {
            // Without its memory it would not know how often it has called.
            match admit(&*self.store, &format!("callout {name}"), *rate, self.clock.now()).await {
                Ok(Ok(())) => {}
                Ok(Err(_wait)) => return Heard::unknown("enough callouts were made for now"),
                Err(_failed) => return Heard::unknown("nobody knows how many callouts were made"),
            }
        }
        let heard = match timeout(CONVERSATION, self.converse(question)).await {
            Ok(heard) => heard,
            Err(_elapsed) => Heard::unknown("the callout took too long"),
        };
        let (value, holds) = heard.stored();
        let now = self.clock.now();
        let mut set = |_: Option<&[u8]>| Change::Set { value: value.clone(), expires: now + holds };
        // Where the store fails, the rate has counted it all the same.
        let _ = self.store.update(TABLE, &short_key(&question.about), now, &mut set).await;
        heard
    }

    async fn converse(&self, question: &Question<'_>) -> Heard {
        let connected = match question.target {
            Target::Address(address) => ClientConnection::connect_to(&[address], &self.config).await,
            Target::Host(host) => ClientConnection::connect(host, &self.config).await,
        };
        let (mut connection, recipient) = match (connected, question.recipient) {
            (Ok(connection), Some(recipient)) => (connection, recipient),
            (Ok(connection), None) => {
                leave(connection).await;
                return Heard::Good;
            }
            (Err(error), Some(_)) => return Heard::unknown(error.to_string()),
            (Err(error), None) => return of_a_greeting(&error),
        };
        let answer = connection.ask(recipient).await;
        leave(connection).await;
        match answer {
            Ok(_) => Heard::Good,
            Err(error) if denies_mailbox(&error) => Heard::Bad(SafeText::new(error.to_string())),
            Err(error) => Heard::unknown(error.to_string()),
        }
    }
}

/// The answer is known: a server that does not say goodbye is not waited for.
async fn leave(connection: ClientConnection) {
    let _ = timeout(Duration::from_secs(1), connection.quit()).await;
}

/// Whether there is a mail server. What speaks SMTP is one, whatever it thinks of us.
fn of_a_greeting(error: &SendError) -> Heard {
    match (error.stage(), error.cause()) {
        (SendStage::Connect, SendCause::Network(io::ErrorKind::ConnectionRefused))
        | (SendStage::Greeting, SendCause::NoReply(ReplyError::Syntax)) => Heard::Bad(SafeText::new(error.to_string())),
        (SendStage::Connect, _) => Heard::unknown(error.to_string()),
        (SendStage::Greeting, _) if error.reply().is_none() => Heard::unknown(error.to_string()),
        _ => Heard::Good,
    }
}

/// Whether a server says that there is no such mailbox. What it refuses because of us, of `<>` or of the moment says nothing
/// about the mailbox (SECURITY D-51).
fn denies_mailbox(error: &SendError) -> bool {
    if error.stage() != SendStage::Rcpt || error.is_transient() {
        return false;
    }
    error.reply().is_some_and(|reply| match reply.status() {
        // RFC 3463 §3.2: of the address of the recipient.
        Some(status) => status.subject() == 1 && matches!(status.detail(), 0..=3 | 6 | 10),
        None => is_of_the_mailbox(reply),
    })
}

/// RFC 5321 §4.2.3, of servers that do not say more.
fn is_of_the_mailbox(reply: &Reply) -> bool {
    matches!(reply.code().get(), 550 | 551 | 553)
}

/// One callout that is on its way; the next may begin when it is dropped.
struct InFlight {
    all: Arc<Mutex<HashSet<String>>>,
    target: String,
}

impl InFlight {
    fn begin(all: &Arc<Mutex<HashSet<String>>>, target: &str) -> Option<Self> {
        let mut targets = all.lock().unwrap_or_else(PoisonError::into_inner);
        let may_begin = targets.len() < IN_FLIGHT_LIMIT && targets.insert(target.to_owned());
        may_begin.then(|| Self { all: all.clone(), target: target.to_owned() })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.target);
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}
