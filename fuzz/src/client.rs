//! Drives a [`ServerSession`] from the outside, as the target [`session`](crate::session) does: feeds it, answers its
//! questions, lets time pass, and keeps what came of it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use smtp_core::{
    Accepted, AuthError, Body, CloseReason, Credential, Decision, ForwardPath, Identity, Lookup, LookupAnswer,
    LookupError, Mailbox, Question, Recipient, Refusal, ScramHash, ScramKeys, Secret, ServerSession, Step, Transaction,
    Verdict,
};

use crate::control::Control;

/// Words that would forge a reply if they were written as they are (SECURITY.md D-10).
const HOSTILE: &str = "no\r\n250 2.0.0 forged\0\u{2028}\u{10a}";

/// Beyond the turns that the octets explain.
const MORE_TURNS: usize = 4096;

/// What a session did.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// All replies.
    pub(crate) output: Vec<u8>,
    /// What it told its observer.
    pub(crate) events: Vec<String>,
    /// Envelopes and contents that were given to a delivery.
    pub(crate) delivered: Vec<(String, Vec<u8>)>,
    /// Credentials that the application was asked about.
    pub(crate) credentials: Vec<Credential>,
    /// Everybody that the application took the client for, or gave keys of.
    pub(crate) vouched_for: Vec<Identity>,
    /// Who the client was at the end.
    pub(crate) identity: Option<Identity>,
}

/// The other side of a session: client, hooks and clock in one.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    session: ServerSession,
    answers: Control<'a>,
    now: Instant,
    unread: Vec<u8>,
    record: Record,
    questions: usize,
    /// Forward-paths that a lookup has accepted since the last `MAIL`, with the mailboxes behind them.
    found: Vec<(ForwardPath, Vec<Mailbox>)>,
    content: Vec<u8>,
    turns: usize,
    most_turns: usize,
    /// Whether content cannot be kept.
    pub(crate) loses_content: bool,
    /// Whether content may come by `BDAT`, which adds no CRLF behind a last line that has none.
    pub(crate) last_line_may_be_open: bool,
}

impl<'a> Client<'a> {
    /// A client that has connected at `now`.
    pub(crate) fn new(session: ServerSession, answers: Control<'a>, now: Instant) -> Self {
        Self {
            session,
            answers,
            now,
            unread: Vec::new(),
            record: Record::default(),
            questions: 0,
            found: Vec::new(),
            content: Vec::new(),
            turns: 0,
            most_turns: MORE_TURNS,
            loses_content: false,
            last_line_may_be_open: false,
        }
    }

    /// Sends octets, and reads the replies.
    ///
    /// # Panics
    /// Where a law is broken; this holds for all that follow.
    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.too_early_a_timeout_changes_nothing();
        // A command makes three questions at most, and content a step for each octet.
        self.most_turns += 4 * octets.len() + 4;
        self.unread.extend_from_slice(octets);
        self.advance();
    }

    /// Lets the session go on until it needs input or time.
    pub(crate) fn advance(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        while let Some(step) = self.session.poll(self.now, &mut input) {
            self.turn();
            match step {
                Step::Ask(question) => self.answer(question),
                Step::Content(octets) => {
                    assert!(!octets.is_empty(), "a step of nothing would make a loop without progress");
                    self.content.extend_from_slice(octets);
                    if self.loses_content {
                        self.session.content_lost();
                    }
                }
            }
        }
        let limits = &self.session.config().limits;
        let is_waiting = self.session.deadline().is_some_and(|deadline| deadline <= self.now + limits.error_delay);
        assert!(input.is_empty() || is_waiting, "input waits for nothing but a late reply");
        self.unread = input.to_vec();
        self.read_replies();
    }

    /// Waits; the session is woken when it asked for that.
    pub(crate) fn pause(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) {
            self.turn();
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now);
            assert!(!self.session.output().is_empty(), "a deadline without a reply would come again at once");
            self.advance();
        }
        self.now = end;
    }

    /// Waits, where input waits for a late reply.
    pub(crate) fn wait_for_late_reply(&mut self) {
        let delay = self.session.config().limits.error_delay;
        while self.session.deadline().is_some_and(|deadline| deadline <= self.now + delay) {
            self.pause(delay);
        }
    }

    /// Closes the client's side.
    pub(crate) fn leave(&mut self, reason: CloseReason) {
        self.session.client_left(reason);
        self.advance();
    }

    /// Sends nothing more until the session is over, as it must be after a day.
    pub(crate) fn finish(mut self) -> Record {
        self.most_turns += MORE_TURNS;
        self.pause(Duration::from_secs(24 * 3600 + 1));
        assert!(self.session.is_closed() && self.session.close_reason().is_some(), "{:?}", self.session);
        assert_eq!(self.session.deadline(), None);
        self.unread.clear();
        let before = self.record.output.len();
        self.send(b"NOOP\r\n");
        assert_eq!(self.record.output.len(), before, "a closed session says nothing");
        assert!(self.unread.is_empty(), "a closed session takes what comes");
        self.record.identity = self.session.connection().identity().cloned();
        self.record
    }

    /// A session that never comes to rest is a loop.
    fn turn(&mut self) {
        self.turns += 1;
        assert!(self.turns <= self.most_turns, "no rest after {} turns", self.turns);
    }

    fn read_replies(&mut self) {
        self.record.output.extend_from_slice(self.session.output());
        self.session.output_written();
        assert!(self.session.output().is_empty());
        self.record.events.extend(self.session.take_events().iter().map(|event| format!("{event:?}")));
    }

    fn too_early_a_timeout_changes_nothing(&mut self) {
        if self.session.deadline().is_none_or(|deadline| self.now < deadline) {
            let was_closed = self.session.is_closed();
            self.session.handle_timeout(self.now);
            assert_eq!(self.session.is_closed(), was_closed);
            assert!(self.session.output().is_empty());
        }
    }

    // -- answers

    fn answer(&mut self, question: Question) {
        let choice = self.answers.choice(self.questions);
        self.questions += 1;
        match choice {
            254 => self.session.client_left(CloseReason::Network),
            253 => self.session.shut_down(),
            252 => self.session.end_now(),
            _ => {}
        }
        let now = self.now;
        match question {
            Question::Connect(ask) => self.session.answer(now, ask, decision(choice)),
            Question::Helo(ask) => self.session.answer(now, ask, decision(choice)),
            Question::Mail(ask) => {
                self.found.clear();
                self.session.answer(now, ask, decision(choice));
            }
            Question::Lookup(ask) => {
                let answer = self.look_up(choice, ask.subject());
                self.session.answer(now, ask, answer);
            }
            Question::Recipient(ask) => {
                self.was_found(ask.subject());
                self.session.answer(now, ask, decision(choice));
            }
            Question::Room(ask) => {
                self.content.clear();
                let room = if choice % 8 == 7 { Err(Refusal::insufficient_storage()) } else { Ok(()) };
                self.session.answer(now, ask, room);
            }
            Question::Message(ask) => self.session.answer(now, ask, decision(choice)),
            Question::Deliver(mut ask) => {
                let transaction = ask.take_transaction().expect("a delivery has a transaction, once");
                assert!(ask.take_transaction().is_none());
                self.deliver(&transaction);
                let result = match choice % 8 {
                    4 => Err(Refusal::permanent(6, 0, HOSTILE)),
                    5 => Err(Refusal::transient(3, 0, HOSTILE).and_close()),
                    6 | 7 => Ok(Accepted::queued(HOSTILE)),
                    _ => Ok(Accepted::all()),
                };
                self.session.answer(now, ask, result);
            }
            Question::Authenticate(ask) => {
                self.record.credentials.push(ask.subject().clone());
                let answer = self.vouch(choice, "alice");
                self.session.answer(now, ask, answer);
            }
            Question::ScramKeys(ask) => {
                let hash = ask.subject().hash;
                let answer = self.vouch(choice, "alice").map(|who| (choice % 8 != 1).then(|| (keys(hash), who)));
                self.session.answer(now, ask, answer);
            }
            Question::ActAs(ask) => {
                let answer = self.vouch(choice, &ask.subject().1);
                self.session.answer(now, ask, answer);
            }
            Question::SendAs(ask) => {
                let answer = self.vouch(choice, "alice").map(|_| choice % 8 != 1);
                self.session.answer(now, ask, answer);
            }
            other => panic!("unknown question: {other:?}"),
        }
    }

    fn vouch(&mut self, choice: u8, name: &str) -> Result<Identity, AuthError> {
        let identity = match choice % 8 {
            4 => Err(AuthError::Rejected),
            5 => Err(AuthError::TooWeak),
            6 => Err(AuthError::ChangeNeeded),
            7 => Err(AuthError::Unavailable),
            _ => Ok(Identity::new(name)),
        }?;
        self.record.vouched_for.push(identity.clone());
        Ok(identity)
    }

    fn look_up(&mut self, choice: u8, path: &ForwardPath) -> LookupAnswer {
        let alias = Mailbox::parse("alias@example.org").expect("a mailbox");
        let lookup = match choice % 8 {
            1 => Ok(Lookup::Unknown),
            2 => Ok(Lookup::NotLocal),
            3 => Err(LookupError::new(HOSTILE)),
            4 => Ok(Lookup::Alias(vec![alias])),
            5 => Ok(Lookup::Alias(vec![alias.clone(), alias])),
            _ => Ok(Lookup::Mailbox),
        };
        let (limits, postmaster) = (&self.session.config().limits, &self.session.config().postmaster);
        let may_relay = self.session.connection().treatment() == smtp_core::Treatment::RelayClient;
        let itself = path.mailbox().unwrap_or(postmaster).clone();
        let is_bare_postmaster = *path == ForwardPath::Postmaster;
        let mailboxes = match &lookup {
            Ok(Lookup::Alias(mailboxes)) => (mailboxes.len() <= limits.alias_mailboxes).then(|| mailboxes.clone()),
            Ok(Lookup::Mailbox) => Some(vec![itself]),
            Ok(Lookup::NotLocal) if may_relay => Some(vec![itself]),
            Ok(_) if is_bare_postmaster => Some(vec![itself]),
            _ => None,
        };
        self.found.extend(mailboxes.map(|mailboxes| (path.clone(), mailboxes)));
        LookupAnswer { lookup, is_role: choice & 64 != 0 }
    }

    /// Nothing but a lookup makes a recipient valid (SECURITY.md G1).
    fn was_found(&self, recipient: &Recipient) {
        let found =
            self.found.iter().any(|(path, mailboxes)| path == recipient.path() && mailboxes == recipient.mailboxes());
        assert!(found, "{recipient} was not found: {:?}", self.found);
    }

    fn deliver(&mut self, transaction: &Transaction) {
        let recipients = transaction.recipients();
        let limits = &self.session.config().limits;
        assert!((1..=limits.recipients as usize).contains(&recipients.len()), "{recipients:?}");
        for recipient in recipients {
            self.was_found(recipient);
        }
        assert!(recipients.len() <= self.found.len(), "{recipients:?}");

        let content = std::mem::take(&mut self.content);
        assert!(!self.loses_content || content.is_empty(), "lost content was delivered");
        assert!(content.len() as u64 <= limits.message_octets, "{} octets", content.len());
        let is_binary = transaction.parameters().body == Some(Body::BinaryMime);
        let has_end = content.is_empty() || content.ends_with(b"\r\n");
        assert!(has_end || self.last_line_may_be_open, "the last line has no end");
        for (at, &octet) in content.iter().enumerate() {
            let is_bare = match octet {
                _ if is_binary => false,
                0 => true,
                b'\r' => content.get(at + 1) != Some(&b'\n'),
                b'\n' => at == 0 || content[at - 1] != b'\r',
                _ => false,
            };
            assert!(!is_bare, "bare CR, bare LF or NUL at octet {at} (SECURITY.md D-1)");
        }
        let envelope = format!("{} {recipients:?} {:?}", transaction.reverse_path(), transaction.parameters());
        self.record.delivered.push((envelope, content));
    }
}

/// Of the password `wonderland`.
fn keys(hash: ScramHash) -> ScramKeys {
    static KEYS: OnceLock<[ScramKeys; 2]> = OnceLock::new();
    let derive = |hash| {
        let (password, salt) = (Secret::new("wonderland"), b"salt of 16 octet");
        ScramKeys::derive(hash, &password, salt, ScramKeys::LEAST_ITERATIONS).expect("a password, a salt, enough work")
    };
    let [sha1, sha256] = KEYS.get_or_init(|| [derive(ScramHash::Sha1), derive(ScramHash::Sha256)]);
    if hash == ScramHash::Sha1 { sha1.clone() } else { sha256.clone() }
}

fn decision(choice: u8) -> Decision {
    let verdict = match choice % 16 {
        8 => Verdict::Refuse(Refusal::permanent(7, 1, HOSTILE)),
        9 => Verdict::Refuse(Refusal::transient(7, 1, HOSTILE)),
        10 => Verdict::Refuse(Refusal::permanent(7, 1, HOSTILE).immediately()),
        11 => Verdict::Refuse(Refusal::transient(7, 1, HOSTILE).immediately()),
        12 => Verdict::Refuse(Refusal::permanent(7, 1, HOSTILE).and_close()),
        13 => Verdict::Refuse(Refusal::transient(7, 1, HOSTILE).immediately().and_close()),
        14 => Verdict::Exempt,
        _ => Verdict::Continue,
    };
    verdict.into()
}
