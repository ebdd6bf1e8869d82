//! Filters that speak Sendmail's milter protocol, version 6: asked at each stage, and what they change is applied at once or not.
//!
//! [`wire`] has the octets, [`talk`] one connection, [`reply`] what a filter wants the client to read, [`facts`] the macros,
//! [`conversation`] what a filter was told, [`settings`] what one may cost, and [`draft`] the message as filters change it.

mod conversation;
mod draft;
mod facts;
mod reply;
mod settings;
mod talk;
mod wire;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smtp_core::{
    Content, Disposition, Domain, ForwardPath, Greeting, Observer, Policy, PolicyContext, PolicyEvent, PolicyFinding,
    Recipient, Refusal, ReversePath, SafeText, Stages, Transaction, Verdict, async_trait,
};
use tokio::time::{Instant, timeout_at};

use crate::chain::MARK;
use crate::filter::FilterAddress;
use crate::finding::Action;
use crate::header::header_section;
use crate::practice::ForRoleMailboxes;

use conversation::Conversation;
use draft::Draft;
use facts::Facts;
use settings::Filter;
pub use settings::MilterFallback;
use talk::{Lost, Opinion};

/// How long all filters together may take for a command: less than the engine waits for its policies.
const STAGE_LIMIT: Duration = Duration::from_secs(25);
/// The same for a message.
const MESSAGE_LIMIT: Duration = Duration::from_secs(110);

/// Asks filters that speak the milter protocol, one after another, and does what they say.
///
/// Each filter is told of the connection, of `HELO`, `MAIL` and each `RCPT` when they come, and is shown the message when all of it
/// has come, as those before it have changed it. One connection to it lasts for the whole session. What the filters change is
/// applied when the last of them has accepted the message: all or nothing.
///
/// A filter is told of all mail, that of authenticated clients and of trusted networks as well: it may be there to sign it. It is told
/// also of role mailboxes, about which the engine asks no policy, when the message is complete. For them what a filter thinks of
/// the client, the sender or the recipient does not count (PRACTICES P4), and a message whose content it does not want is marked and
/// delivered to the junk folder. With [`ForRoleMailboxes::Kept`], for a filter that looks for malware, it is refused to them as to
/// all others. A transient refusal of the content, or a filter that is away, defers the message for everybody.
///
/// ```
/// use smtp_core::{Accepted, Domain, Message, Server};
/// use smtp_policy::{ForRoleMailboxes, Milter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hostname = Domain::parse("mx.example.org")?;
/// let scans = Milter::new("unix:/run/clamav/milter.sock".parse()?, &hostname).for_role_mailboxes(ForRoleMailboxes::Kept);
/// let signs = Milter::new("inet:127.0.0.1:8891".parse()?, &hostname);
/// let server = Server::builder("mx.example.org")
///     .local_domain("example.org")
///     .policy(scans.and(signs))
///     .deliver(|_: Message| async { Ok(Accepted::all()) });
/// # Ok(())
/// # }
/// ```
pub struct Milter {
    id: u64,
    hostname: Domain,
    filters: Vec<Filter>,
    observer: Option<Arc<dyn Observer>>,
}

impl Milter {
    /// The filter that listens there; `hostname` is what it is told of ours.
    pub fn new(address: FilterAddress, hostname: &Domain) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, hostname: hostname.to_ascii(), filters: vec![Filter::new(address)], observer: None }
    }

    /// How long it may take to judge a complete message. Default: 60 s; each word of the filter that it still works gives it as much
    /// time again, up to 110 s for all filters of a message. For an answer to a command it has as much, and at most 20 s.
    #[must_use]
    pub fn with_time(self, time: Duration) -> Self {
        self.each(|filter| filter.time = time)
    }

    /// How large content may be. Default: 32 MiB. Larger content is not shown to the filter, and passes it. A filter that gives a
    /// message another body may give it one of that size.
    #[must_use]
    pub fn with_octets(self, octets: u64) -> Self {
        self.each(|filter| filter.octets = octets)
    }

    /// What becomes of mail while the filter is away. Default: [`MilterFallback::TempFail`].
    #[must_use]
    pub fn with_fallback(self, fallback: MilterFallback) -> Self {
        self.each(|filter| filter.fallback = fallback)
    }

    /// What it means for role mailboxes that the filter does not want a message. Default: [`ForRoleMailboxes::Tagged`].
    #[must_use]
    pub fn for_role_mailboxes(self, meaning: ForRoleMailboxes) -> Self {
        self.each(|filter| filter.for_role_mailboxes = meaning)
    }

    /// Asks the filters of another behind those of this one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.filters.extend(other.filters);
        Self { observer: self.observer.or(other.observer), ..self }
    }

    /// Who is told where a filter is away, discards a message or sets it aside.
    #[must_use]
    pub fn observed_by(self, observer: impl Observer + 'static) -> Self {
        Self { observer: Some(Arc::new(observer)), ..self }
    }

    fn each(mut self, change: impl FnMut(&mut Filter)) -> Self {
        self.filters.iter_mut().for_each(change);
        self
    }

    fn facts<'a>(&'a self, cx: &PolicyContext<'a>) -> Facts<'a> {
        Facts { hostname: &self.hostname, connection: cx.connection(), transaction: cx.transaction() }
    }

    /// What the filters were told of this connection.
    fn conversations(&self, cx: &mut PolicyContext<'_>) -> Shared {
        let OfPeer(mut all) = cx.peer().get().cloned().unwrap_or_default();
        if let Some((_, shared)) = all.iter().find(|(id, _)| *id == self.id) {
            return shared.clone();
        }
        let shared = Shared::default();
        all.push((self.id, shared.clone()));
        cx.insert_peer(OfPeer(all));
        shared
    }

    /// Has each filter told what it was not told of connection, name and sender. The first refusal that `look` finds.
    async fn catch_up(
        &self,
        cx: &mut PolicyContext<'_>,
        starts_anew: bool,
        look: impl Fn(&Conversation) -> &Opinion,
    ) -> Verdict {
        let (shared, facts) = (self.conversations(cx), self.facts(cx));
        let deadline = Instant::now() + STAGE_LIMIT;
        for (place, filter) in self.filters.iter().enumerate() {
            let mut conversation = if starts_anew { Conversation::default() } else { take(&shared, place) };
            if conversation.is_lost(&facts) {
                put(&shared, place, conversation);
                continue;
            }
            let told = timeout_at(deadline, Self::tell(&mut conversation, filter, &facts)).await;
            let opinion = match told.unwrap_or_else(|_elapsed| Err(timed_out())) {
                Ok(()) => look(&conversation).clone(),
                Err(cause) => {
                    // Whether that matters is asked when there is a recipient: until then the filter may be back.
                    self.lost(cx, filter, &cause.into());
                    conversation = Conversation::lose(&facts);
                    Opinion::Continue
                }
            };
            put(&shared, place, conversation);
            if let Opinion::Refuse(refusal) = opinion {
                self.refused(cx, filter, None, &refusal);
                return Verdict::Refuse(refusal);
            }
        }
        Verdict::Continue
    }

    /// Has one filter told of what it was not told of. One that went away since the last message, to be started anew, is told all
    /// of it again.
    async fn tell(conversation: &mut Conversation, filter: &Filter, facts: &Facts<'_>) -> io::Result<()> {
        let was_there = conversation.is_open();
        match conversation.catch_up(filter, facts).await {
            Err(_) if was_there => {
                *conversation = Conversation::default();
                conversation.catch_up(filter, facts).await
            }
            told => told,
        }
    }

    /// What one filter says of a recipient.
    async fn ask_about(
        conversation: &mut Conversation,
        filter: &Filter,
        facts: &Facts<'_>,
        path: &ForwardPath,
    ) -> io::Result<Option<Refusal>> {
        conversation.catch_up(filter, facts).await?;
        match conversation.refusal() {
            Some(refusal) => Ok(Some(refusal.clone())),
            None if conversation.is_over() => Ok(None),
            None => conversation.recipient(filter, path).await,
        }
    }

    /// What one filter says of a message, and what it changes of the draft.
    async fn judge(
        conversation: &mut Conversation,
        filter: &Filter,
        facts: &Facts<'_>,
        (draft, content, header_octets): (&mut Draft, &Content, usize),
    ) -> Result<Judged, Lost> {
        conversation.catch_up(filter, facts).await?;
        let recipients = facts.transaction.map(Transaction::recipients).unwrap_or_default();
        let refused_before = conversation.refusal().cloned();
        if let Some(refusal) = refused_before {
            // Of client or sender: only recipients to whom that does not matter are left.
            return Ok(Judged { opinion: Opinion::Refuse(refusal), of_recipients: Vec::new() });
        }
        let paths = recipients.iter().map(Recipient::path);
        let of_recipients = conversation.remaining_recipients(filter, paths).await?;
        if !conversation.is_over() && content.len() <= filter.octets {
            conversation.message(filter, facts, (draft, content, header_octets)).await?;
        }
        Ok(Judged { opinion: conversation.of_message().clone(), of_recipients })
    }

    fn lost(&self, cx: &PolicyContext<'_>, filter: &Filter, lost: &Lost) {
        let action = if lost.was_changing { MilterFallback::TempFail } else { filter.fallback };
        self.report(cx, filter, ("unknown", action.as_str()), &lost.cause.to_string());
    }

    fn report(
        &self,
        cx: &PolicyContext<'_>,
        filter: &Filter,
        (outcome, action): (&'static str, &'static str),
        why: &str,
    ) {
        self.observe(cx, &self.event(cx, filter, (outcome, action), why));
    }

    /// It says which of several filters refused, and whom.
    fn refused(&self, cx: &PolicyContext<'_>, filter: &Filter, to: Option<&ForwardPath>, refusal: &Refusal) {
        let action = if refusal.is_transient() { Action::Defer } else { Action::Reject };
        let mut event = self.event(cx, filter, ("fail", action.as_str()), "it refuses");
        event.recipient = to.cloned();
        event.reply = Some(refusal.reply().clone());
        self.observe(cx, &event);
    }

    fn event(
        &self,
        cx: &PolicyContext<'_>,
        filter: &Filter,
        (outcome, action): (&'static str, &'static str),
        why: &str,
    ) -> PolicyEvent {
        let mut event = PolicyEvent::new(self.name());
        event.transaction = cx.transaction().map(Transaction::id);
        // It is nothing that rules came to.
        event.judged = SafeText::default();
        event.action = SafeText::new(action);
        let evidence = SafeText::new(format!("{}: {why}", filter.address));
        event.findings = vec![PolicyFinding::new("milter", outcome, action, evidence)];
        event
    }

    fn observe(&self, cx: &PolicyContext<'_>, event: &PolicyEvent) {
        if let Some(observer) = &self.observer {
            observer.policy(cx.connection(), event);
        }
    }
}

/// What a filter said of a message.
struct Judged {
    opinion: Opinion,
    /// What it said of each recipient, where it was asked.
    of_recipients: Vec<Option<Refusal>>,
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// What is said where a filter is away.
fn come_again() -> Refusal {
    Refusal::transient(7, 1, "A filter is not available, try again later")
}

/// Does to the copies of all recipients what a filter wants done with the message, and no more than marks those of role mailboxes.
fn dispose(cx: &mut PolicyContext<'_>, filter: &Filter, wanted: &dyn Fn(&mut PolicyContext<'_>, usize)) {
    let recipients = cx.transaction().map(Transaction::recipients).unwrap_or_default();
    let mut marks = false;
    for (place, recipient) in recipients.iter().enumerate() {
        if recipient.is_role() && filter.for_role_mailboxes != ForRoleMailboxes::Kept {
            cx.dispose(place, Disposition::Junk);
            marks = true;
        } else {
            wanted(cx, place);
        }
    }
    if marks {
        let marked = cx.remove_header(MARK).and_then(|()| cx.prepend_header(MARK, "YES"));
        debug_assert!(marked.is_ok(), "the field is well formed");
    }
}

#[async_trait]
impl Policy for Milter {
    fn name(&self) -> &'static str {
        "milter"
    }

    fn stages(&self) -> Stages {
        Stages::CONNECT | Stages::HELO | Stages::MAIL | Stages::RECIPIENT | Stages::MESSAGE
    }

    async fn connect(&self, cx: &mut PolicyContext<'_>) -> Verdict {
        // A peer that speaks for another client with `XCLIENT` connects anew.
        self.catch_up(cx, true, Conversation::of_connection).await
    }

    async fn helo(&self, cx: &mut PolicyContext<'_>, _: &Greeting) -> Verdict {
        self.catch_up(cx, false, Conversation::of_greeting).await
    }

    async fn mail(&self, cx: &mut PolicyContext<'_>, _: &ReversePath) -> Verdict {
        self.catch_up(cx, false, Conversation::of_message).await
    }

    async fn recipient(&self, cx: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        let (shared, facts) = (self.conversations(cx), self.facts(cx));
        let deadline = Instant::now() + STAGE_LIMIT;
        for (place, filter) in self.filters.iter().enumerate() {
            let mut conversation = take(&shared, place);
            let mut refusal = None;
            let mut is_lost = conversation.is_lost(&facts);
            if !is_lost {
                let asked = Self::ask_about(&mut conversation, filter, &facts, recipient.path());
                let asked = timeout_at(deadline, asked).await;
                match asked.unwrap_or_else(|_elapsed| Err(timed_out())) {
                    Ok(said) => refusal = said,
                    Err(cause) => {
                        self.lost(cx, filter, &cause.into());
                        conversation = Conversation::lose(&facts);
                        is_lost = true;
                    }
                }
            }
            put(&shared, place, conversation);
            if is_lost && filter.fallback == MilterFallback::TempFail {
                return Verdict::Refuse(come_again());
            }
            if let Some(refusal) = refusal {
                self.refused(cx, filter, Some(recipient.path()), &refusal);
                return Verdict::Refuse(refusal);
            }
        }
        Verdict::Continue
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        let (shared, facts) = (self.conversations(cx), self.facts(cx));
        let deadline = Instant::now() + MESSAGE_LIMIT;
        let Ok(section) = header_section(content).await else {
            return Verdict::Refuse(Refusal::transient(3, 0, "Temporary failure, try again later"));
        };
        let mut draft = Draft::new(&section);
        // The empty line belongs to neither.
        let header_octets = section.len() + 2;
        for (place, filter) in self.filters.iter().enumerate() {
            let mut conversation = take(&shared, place);
            let judged = if conversation.is_lost(&facts) {
                Err(None)
            } else {
                let parts = (&mut draft, content, header_octets);
                let judged = timeout_at(deadline, Self::judge(&mut conversation, filter, &facts, parts)).await;
                // It may have been about to say what it changes.
                judged.unwrap_or_else(|_elapsed| Err(Lost { cause: timed_out(), was_changing: true })).map_err(Some)
            };
            let judged = match judged {
                Ok(judged) => judged,
                Err(lost) => {
                    put(&shared, place, Conversation::lose(&facts));
                    let was_changing = lost.as_ref().is_some_and(|lost| lost.was_changing);
                    if let Some(lost) = &lost {
                        self.lost(cx, filter, lost);
                    }
                    if was_changing || filter.fallback == MilterFallback::TempFail {
                        return Verdict::Refuse(come_again());
                    }
                    continue;
                }
            };
            // Where that fails the filter is found again with the next message.
            if timeout_at(deadline, conversation.forget_message()).await.is_ok_and(|said| said.is_ok()) {
                put(&shared, place, conversation);
            }
            if content.len() > filter.octets {
                let why =
                    format!("the message has {} octets, and it is shown {} at most", content.len(), filter.octets);
                self.report(cx, filter, ("unknown", MilterFallback::Accept.as_str()), &why);
            }
            if let Some(reason) = draft.take_quarantine() {
                self.report(cx, filter, ("fail", "quarantine"), reason.as_str());
                dispose(cx, filter, &|cx, place| {
                    cx.dispose(place, Disposition::Quarantine(reason.as_str().to_owned()));
                });
            }
            match self.conclude(cx, filter, judged) {
                None => {}
                Some(Verdict::Continue) => {
                    draft.forget_added();
                    break;
                }
                Some(verdict) => return verdict,
            }
        }
        if let Err(error) = draft.apply(cx) {
            if let Some(filter) = self.filters.first() {
                self.report(cx, filter, ("unknown", "tempfail"), &error.to_string());
            }
            return Verdict::Refuse(come_again());
        }
        Verdict::Continue
    }
}

impl Milter {
    /// Does what a filter says of a message; `Some` where no other filter is asked.
    fn conclude(&self, cx: &mut PolicyContext<'_>, filter: &Filter, judged: Judged) -> Option<Verdict> {
        let is_kept = filter.for_role_mailboxes == ForRoleMailboxes::Kept;
        if is_kept {
            for (place, refusal) in judged.of_recipients.into_iter().enumerate() {
                if let Some(refusal) = refusal {
                    let recipients = cx.transaction().map(Transaction::recipients).unwrap_or_default();
                    self.refused(cx, filter, recipients.get(place).map(Recipient::path), &refusal);
                    cx.refuse_recipient(place, refusal);
                }
            }
        }
        match judged.opinion {
            Opinion::Continue | Opinion::Accept | Opinion::Skip => None,
            Opinion::Discard => {
                self.report(cx, filter, ("fail", "discard"), "it discards the message");
                let reason = format!("the filter at {} wants it so", filter.address);
                dispose(cx, filter, &|cx, place| cx.dispose(place, Disposition::Discard(reason.clone())));
                Some(Verdict::Continue)
            }
            Opinion::Refuse(refusal) => {
                self.refused(cx, filter, None, &refusal);
                let recipients = cx.transaction().map(Transaction::recipients).unwrap_or_default();
                if is_kept || refusal.is_transient() || !recipients.iter().any(Recipient::is_role) {
                    return Some(Verdict::Refuse(refusal));
                }
                dispose(cx, filter, &|cx, place| cx.refuse_recipient(place, refusal.clone()));
                Some(Verdict::Continue)
            }
        }
    }
}

impl fmt::Debug for Milter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Milter").field("filters", &self.filters).finish_non_exhaustive()
    }
}

/// What each filter was told of a connection; one that is being asked is not there meanwhile, and is lost where that is never put back.
type Shared = Arc<Mutex<Vec<Conversation>>>;

/// Kept for the connection: a server may ask several groups of filters.
#[derive(Clone, Default)]
struct OfPeer(Vec<(u64, Shared)>);

fn take(shared: &Shared, place: usize) -> Conversation {
    let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
    all.get_mut(place).map(std::mem::take).unwrap_or_default()
}

fn put(shared: &Shared, place: usize, conversation: Conversation) {
    let mut all = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() <= place {
        all.resize_with(place + 1, Conversation::default);
    }
    all[place] = conversation;
}
