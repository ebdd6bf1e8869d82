//! What one filter was told of one connection, and what it thinks of it.
//!
//! Whatever a filter ought to know and was not told is told when the next question comes up: so a filter that was away is found
//! again with the next message, and one hears also of the recipients about whom the engine asks no policy.

use std::io;
use std::time::Duration;

use smtp_core::{Content, ContentSource, ForwardPath, Greeting, Refusal, StoredContent, Transaction, TransactionId};

use super::draft::Draft;
use super::facts::{Facts, Macros, mail_parameters};
use super::settings::Filter;
use super::talk::{Lost, Opinion, Talk};
use super::wire::{BODY_CHUNK_OCTETS, Command, protocol};

/// How long a filter may take to answer a command; with more than one filter the stage must still end in time.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// One filter and one connection.
#[derive(Default)]
pub(super) struct Conversation {
    talk: Option<Talk>,
    of_connection: Option<Opinion>,
    greeting: Option<(Greeting, bool)>,
    of_greeting: Opinion,
    transaction: Option<TransactionId>,
    of_message: Opinion,
    /// Who was named, in the order of `RCPT`, and what was thought of it.
    recipients: Vec<(ForwardPath, Option<Refusal>)>,
    lost_in: Option<Place>,
}

/// What is talked about: a transaction, or what comes before `MAIL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(Option<TransactionId>);

impl Place {
    fn of(facts: &Facts<'_>) -> Self {
        Self(facts.transaction.map(Transaction::id))
    }
}

impl Conversation {
    /// Whether there is a connection to it.
    pub(super) fn is_open(&self) -> bool {
        self.talk.is_some()
    }

    /// Whether the filter was lost while this was talked about.
    pub(super) fn is_lost(&self, facts: &Facts<'_>) -> bool {
        self.lost_in == Some(Place::of(facts))
    }

    /// It is lost, and asked again with the next message.
    pub(super) fn lose(facts: &Facts<'_>) -> Self {
        Self { lost_in: Some(Place::of(facts)), ..Self::default() }
    }

    /// What it thinks of the connection.
    pub(super) fn of_connection(&self) -> &Opinion {
        self.of_connection.as_ref().unwrap_or(&Opinion::Continue)
    }

    /// What it thinks of the name in `HELO`.
    pub(super) fn of_greeting(&self) -> &Opinion {
        &self.of_greeting
    }

    /// What it thinks of the message so far.
    pub(super) fn of_message(&self) -> &Opinion {
        &self.of_message
    }

    /// The refusal that stands, of the connection, the name or the message so far.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        [self.of_connection(), &self.of_greeting, &self.of_message].into_iter().find_map(|opinion| match opinion {
            Opinion::Refuse(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// Whether there is no more to say of this message.
    pub(super) fn is_over(&self) -> bool {
        [self.of_connection(), &self.of_greeting, &self.of_message].iter().any(|opinion| **opinion != Opinion::Continue)
    }

    /// Tells the filter of the connection, the name and the sender, as far as they are known and it was not told.
    ///
    /// # Errors
    /// Where the filter is lost.
    pub(super) async fn catch_up(&mut self, filter: &Filter, facts: &Facts<'_>) -> io::Result<()> {
        if self.talk.is_none() {
            *self = Self { talk: Some(Talk::open(&filter.address).await?), ..Self::default() };
        }
        let time = filter.time.min(COMMAND_LIMIT);
        let Some(talk) = &mut self.talk else { return Ok(()) };
        if self.of_connection.is_none() {
            let (name, client) = (facts.client_name(), Some(facts.connection.peer()));
            let command = Command::Connect { name: &name, client };
            let flags = (protocol::NO_CONNECT, protocol::NO_REPLY_TO_CONNECT);
            let opinion = tell(talk, command, flags, &facts.of_connection(), time).await?;
            self.of_connection = Some(about_client(opinion)?);
        }
        if self.of_connection != Some(Opinion::Continue) {
            return Ok(());
        }
        let greeting = facts.connection.greeting().map(|greeting| (greeting.clone(), facts.connection.tls().is_some()));
        if let Some(greeting) = greeting.filter(|greeting| self.greeting.as_ref() != Some(greeting)) {
            let name = greeting.0.host().to_string();
            let flags = (protocol::NO_HELO, protocol::NO_REPLY_TO_HELO);
            let opinion = tell(talk, Command::Helo(&name), flags, &facts.of_greeting(), time).await?;
            self.of_greeting = about_client(opinion)?;
            self.greeting = Some(greeting);
        }
        if self.of_greeting != Opinion::Continue {
            return Ok(());
        }
        let Some(transaction) = facts.transaction.filter(|transaction| self.transaction != Some(transaction.id()))
        else {
            return Ok(());
        };
        if self.transaction.is_some() {
            talk.say(Command::Abort).await?;
        }
        self.transaction = Some(transaction.id());
        self.recipients.clear();
        let path = transaction.reverse_path().to_string();
        let parameters = mail_parameters(transaction);
        let parameters: Vec<_> = parameters.iter().map(String::as_str).collect();
        let flags = (protocol::NO_MAIL, protocol::NO_REPLY_TO_MAIL);
        let macros = facts.of_sender(transaction);
        self.of_message = tell(talk, Command::Mail(&path, &parameters), flags, &macros, time).await?;
        Ok(())
    }

    /// Names a recipient, and says how it is refused.
    ///
    /// # Errors
    /// Where the filter is lost.
    pub(super) async fn recipient(&mut self, filter: &Filter, path: &ForwardPath) -> io::Result<Option<Refusal>> {
        let Some(talk) = &mut self.talk else { return Ok(None) };
        let text = path.to_string();
        let flags = (protocol::NO_RCPT, protocol::NO_REPLY_TO_RCPT);
        let time = filter.time.min(COMMAND_LIMIT);
        let refusal = match tell(talk, Command::Rcpt(&text, &[]), flags, &Facts::of_recipient(path), time).await? {
            Opinion::Refuse(refusal) => Some(refusal),
            opinion => {
                self.of_message = opinion;
                None
            }
        };
        self.recipients.push((path.clone(), refusal.clone()));
        Ok(refusal)
    }

    /// Names the recipients of the message that were not named yet: those about whom the engine asks no policy. How each of all
    /// is refused.
    ///
    /// # Errors
    /// Where the filter is lost.
    pub(super) async fn remaining_recipients(
        &mut self,
        filter: &Filter,
        paths: impl Iterator<Item = &ForwardPath>,
    ) -> io::Result<Vec<Option<Refusal>>> {
        let mut named = std::mem::take(&mut self.recipients);
        let mut refusals = Vec::new();
        for path in paths {
            if let Some(place) = named.iter().position(|(other, refusal)| other == path && refusal.is_none()) {
                named.swap_remove(place);
                refusals.push(None);
            } else if self.is_over() {
                refusals.push(None);
            } else {
                refusals.push(self.recipient(filter, path).await?);
            }
        }
        Ok(refusals)
    }

    /// Shows the message, and hears what is to be changed. Behind it there is no more to say of this message.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn message(
        &mut self,
        filter: &Filter,
        facts: &Facts<'_>,
        (draft, content, header_octets): (&mut Draft, &Content, usize),
    ) -> Result<(), Lost> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        let macros = facts.of_message();
        let shown = show(talk, filter, &macros, (draft, content, header_octets)).await?;
        if shown != Opinion::Continue {
            // The filter has ended the message by itself.
            self.of_message = shown;
            return Ok(());
        }
        let with_leading_space = talk.is_without(protocol::LEADING_SPACE);
        say_macros(talk, b'E', &macros).await?;
        let most = usize::try_from(filter.octets).unwrap_or(usize::MAX).saturating_add(CHANGES_BESIDES_OCTETS);
        let (changes, opinion) = talk.conclude(most, filter.time).await?;
        if matches!(opinion, Opinion::Continue | Opinion::Accept) {
            let after = draft.changed(changes, with_leading_space);
            let lost = |error| Lost { cause: io::Error::new(io::ErrorKind::InvalidData, error), was_changing: true };
            *draft = after.map_err(lost)?;
        }
        self.of_message = opinion;
        Ok(())
    }

    /// The message is over, and what was said of it.
    pub(super) async fn forget_message(&mut self) -> io::Result<()> {
        self.transaction = None;
        self.recipients.clear();
        self.of_message = Opinion::Continue;
        match &mut self.talk {
            // Where the filter has heard the end of it there is nothing to end; it does no harm.
            Some(talk) => talk.say(Command::Abort).await,
            None => Ok(()),
        }
    }
}

/// Before `MAIL` there is no message to be discarded.
fn about_client(opinion: Opinion) -> io::Result<Opinion> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it discards what is no message");
    if opinion == Opinion::Discard { Err(wrong()) } else { Ok(opinion) }
}

/// How many octets a filter may change besides as many as it may be shown.
const CHANGES_BESIDES_OCTETS: usize = 1 << 20;

/// Says a command with its macros, unless the filter does without; `flags`: those by which it says that, and that it does not answer.
async fn tell(
    talk: &mut Talk,
    command: Command<'_>,
    (without, unanswered): (u32, u32),
    macros: &Macros,
    time: Duration,
) -> io::Result<Opinion> {
    if talk.is_without(without) {
        return Ok(Opinion::Continue);
    }
    say_macros(talk, command.letter(), macros).await?;
    talk.ask(command, unanswered, time).await
}

async fn say_macros(talk: &mut Talk, before: u8, macros: &Macros) -> io::Result<()> {
    if macros.is_empty() {
        return Ok(());
    }
    let values: Vec<_> = macros.iter().map(|(name, value)| (*name, value.as_str())).collect();
    talk.say(Command::Macros { before, values: &values }).await
}

/// Header section and body, as far as the filter wants to see them.
async fn show(
    talk: &mut Talk,
    filter: &Filter,
    macros: &Macros,
    (draft, content, header_octets): (&Draft, &Content, usize),
) -> io::Result<Opinion> {
    let time = filter.time.min(COMMAND_LIMIT);
    if talk.knows_data() {
        let flags = (protocol::NO_DATA, protocol::NO_REPLY_TO_DATA);
        let opinion = tell(talk, Command::Data, flags, macros, time).await?;
        if opinion != Opinion::Continue {
            return Ok(opinion);
        }
    }
    if !talk.is_without(protocol::NO_HEADERS) {
        let with_leading_space = talk.is_without(protocol::LEADING_SPACE);
        for field in draft.fields() {
            let (name, value) = (field.name(), field.value(with_leading_space));
            let opinion = talk.ask(Command::Header { name, value: &value }, protocol::NO_REPLY_TO_HEADER, time).await?;
            if opinion != Opinion::Continue {
                return Ok(opinion);
            }
        }
    }
    let flags = (protocol::NO_END_OF_HEADER, protocol::NO_REPLY_TO_END_OF_HEADER);
    let opinion = tell(talk, Command::EndOfHeader, flags, macros, time).await?;
    if opinion != Opinion::Continue || talk.is_without(protocol::NO_BODY) {
        return Ok(opinion);
    }
    let opinion = if let Some(body) = draft.body() {
        show_body(talk, body, time).await?
    } else {
        let mut before = header_octets;
        let mut source = StoredContent::from(content);
        let mut opinion = Opinion::Continue;
        while let (Opinion::Continue, Some(chunk)) = (&opinion, source.next_chunk().await?) {
            let skipped = before.min(chunk.len());
            before -= skipped;
            opinion = show_body(talk, &chunk[skipped..], time).await?;
        }
        opinion
    };
    Ok(if opinion == Opinion::Skip { Opinion::Continue } else { opinion })
}

async fn show_body(talk: &mut Talk, octets: &[u8], time: Duration) -> io::Result<Opinion> {
    for chunk in octets.chunks(BODY_CHUNK_OCTETS) {
        let opinion = talk.ask(Command::Body(chunk), protocol::NO_REPLY_TO_BODY, time).await?;
        if opinion != Opinion::Continue {
            return Ok(opinion);
        }
    }
    Ok(Opinion::Continue)
}
