//! The loop that drives one session: read, ask, write.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, timeout};

use crate::hooks::message::Message;
use crate::hooks::policy::PolicyContext;
use crate::message::content::ContentWriter;
use crate::session::connection::{Connection, SessionId, Treatment};
use crate::session::decision::{
    Accepted, Ask, Changes, Decision, Kind, LookupAnswer, LookupError, NoRoom, Question, Refusal, Verdict,
    kinds::{Deliver, WholeMessage},
};
use crate::session::event::{CloseReason, HookFailure, SessionEvent, Stage};
use crate::session::extensions::Extensions;
use crate::session::limits::Limits;
use crate::session::server::{ServerSession, Stages, Step};
use crate::session::transaction::Transaction;
use crate::syntax::text::SafeText;

use super::hook_call::{Guarded, Site, WhenClientLeaves, wait_for};
use super::hook_set::NamedPolicy;
use super::inbound::Inbound;
use super::listener::Profile;
use super::shutdown::{Phase, Presence, Shutdown};

/// Replies are written before a group of commands is through where they have grown to this, or have waited so long.
const OUTPUT_OCTETS: usize = 16 << 10;
const OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// Drives one session to its end.
pub(crate) async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    local: SocketAddr,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let treatment = if profile.is_relay_client(peer.ip()) { Treatment::RelayClient } else { Treatment::Mx };
    let id = SessionId::new(random());
    let connection = Arc::new(Connection::new(id, peer, local).with_treatment(treatment));
    let time = now();
    let session = ServerSession::new(profile.session.clone(), connection, time);
    let inbound = Inbound::new(stream, profile.shared.buffers.clone());
    let driver = Driver {
        inbound,
        session,
        time,
        profile,
        shutdown,
        presence,
        content: None,
        timer: None,
        policy: Arc::default(),
        acknowledged: Vec::new(),
        arrived: SystemTime::UNIX_EPOCH,
    };
    driver.run().await;
}

/// Random bits from the hasher's seed: a name, not a secret.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The clock of tokio, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// What ended a wait.
enum Woken {
    Input,
    ClientLeft,
    Failed,
    Timeout,
    Shutdown,
}

struct Driver<S> {
    inbound: Inbound<S>,
    session: ServerSession,
    /// When the current step began, so that not each one asks the clock.
    time: std::time::Instant,
    profile: Arc<Profile>,
    shutdown: Arc<Shutdown>,
    presence: Presence,
    /// Boxed, because most of the time there is none.
    content: Option<Box<ContentWriter>>,
    /// One for the whole connection, moved only when it fires or must fire earlier.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the content of the current message was complete.
    arrived: SystemTime,
    /// The place of the policy that is being asked.
    policy: Arc<AtomicUsize>,
    /// Messages whose `250` is not written yet.
    acknowledged: Vec<crate::TransactionId>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    async fn run(mut self) {
        self.observe(|| SessionEvent::Connected);
        self.look_for_early_talker().await;
        loop {
            self.advance().await;
            if self.write().await.is_err() {
                self.session.client_left(CloseReason::Network);
                break;
            }
            if self.session.is_closed() {
                self.linger().await;
                break;
            }
            match self.wait().await {
                Woken::Input | Woken::Shutdown => {}
                Woken::ClientLeft => self.session.client_left(CloseReason::ClientLeft),
                Woken::Failed => self.session.client_left(CloseReason::Network),
                Woken::Timeout => self.session.handle_timeout(now()),
            }
            match self.presence.phase() {
                Phase::Serve => {}
                Phase::Finish => self.session.shut_down(),
                Phase::End => self.session.end_now(),
            }
        }
        let reason = self.session.close_reason().unwrap_or(CloseReason::Network);
        self.report_events();
        self.observe(|| SessionEvent::Closed(reason));
    }

    /// Gives the runtime one chance to say that octets came before the greeting (SECURITY D-3).
    async fn look_for_early_talker(&mut self) {
        if self.profile.session.refuse_early_talkers {
            tokio::task::yield_now().await;
            poll_fn(|cx| {
                let _ = self.inbound.poll_read(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Lets the session go on until it needs something from the client.
    async fn advance(&mut self) {
        self.time = now();
        loop {
            let mut input = self.inbound.unread();
            let before = input.len();
            let step = self.session.poll(self.time, &mut input);
            let consumed = before - input.len();
            match step {
                None => {
                    self.inbound.consume(consumed);
                    break;
                }
                Some(Step::Content(octets)) => {
                    let limits = &self.profile.session.limits;
                    let stored = match &mut self.content {
                        Some(content) => in_time(limits.hook_timeout, content.append(octets)).await,
                        None => Err(io::ErrorKind::NotFound.into()),
                    };
                    self.inbound.consume(consumed);
                    if let Err(cause) = stored {
                        self.storage_failed(&cause);
                        self.session.content_lost();
                    }
                }
                Some(Step::Ask(question)) => {
                    self.inbound.consume(consumed);
                    let asked = self.time;
                    self.answer(question).await;
                    if self.session.output().len() > OUTPUT_OCTETS || self.time - asked > OUTPUT_WAIT {
                        self.session.check_silence(self.inbound.unread());
                        self.report_events();
                        if self.write().await.is_err() {
                            self.session.client_left(CloseReason::Network);
                        }
                    }
                }
            }
            self.drop_spoilt_content();
        }
        self.drop_spoilt_content();
        self.report_events();
    }

    /// Content that is refused already need not be kept while the rest of it arrives.
    fn drop_spoilt_content(&mut self) {
        if self.content.is_some() && !self.session.needs_content() {
            self.content = None;
        }
    }

    // -- questions

    async fn answer(&mut self, question: Question) {
        match question {
            Question::Connect(ask) => {
                let decision = self.decide(Stage::Connect, None, &Asked::Connect).await;
                self.give(ask, decision);
            }
            Question::Helo(ask) => {
                let decision = self.decide(Stage::Helo, None, &Asked::Helo(ask.subject())).await;
                self.give(ask, decision);
            }
            Question::Mail(ask) => {
                let decision = self.decide(Stage::Mail, Some(ask.subject()), &Asked::Mail).await;
                self.give(ask, decision);
            }
            Question::Lookup(ask) => {
                let answer = self.look_up(ask.subject()).await;
                self.give(ask, answer);
            }
            Question::Recipient(ask) => {
                let decision = self.decide(Stage::Recipient, None, &Asked::Recipient(ask.subject())).await;
                self.give(ask, decision);
            }
            Question::Room(ask) => {
                let room = self.profile.shared.store.open(*ask.subject());
                let room = in_time(self.profile.session.limits.hook_timeout, room).await;
                let answer = match room {
                    Ok(content) => {
                        self.content = Some(Box::new(content));
                        Ok(())
                    }
                    Err(cause) => {
                        self.storage_failed(&cause);
                        Err(NoRoom)
                    }
                };
                self.give(ask, Some(answer));
            }
            Question::Message(ask) => match self.finish_content().await {
                Some(content) => self.judge(ask, content).await,
                None => self.give(ask, Some(Verdict::Refuse(no_room()).into())),
            },
            Question::Deliver(ask) => match self.finish_content().await {
                Some(content) => self.deliver(ask, content).await,
                None => self.give(ask, Some(Err(no_room()))),
            },
        }
    }

    /// Gives an answer to the session; there is none where the client has left.
    fn give<K: Kind>(&mut self, ask: Ask<K>, answer: Option<K::Answer>) {
        self.time = now();
        if let Some(answer) = answer {
            self.session.answer(self.time, ask, answer);
        }
    }

    /// The policies see the whole message; then, without input between, it is delivered.
    async fn judge(&mut self, ask: Ask<WholeMessage>, content: crate::Content) {
        let decision = self.decide(Stage::Message, None, &Asked::Message(&content)).await;
        self.give(ask, decision);
        if let Some(Step::Ask(Question::Deliver(ask))) = self.session.poll(self.time, &mut &[][..]) {
            self.deliver(ask, content).await;
        }
    }

    async fn finish_content(&mut self) -> Option<crate::Content> {
        let content = self.content.take()?;
        self.arrived = SystemTime::now();
        let finished = in_time(self.limits().hook_timeout, content.finish()).await;
        finished.inspect_err(|cause| self.storage_failed(cause)).ok()
    }

    async fn look_up(&mut self, to: &crate::ForwardPath) -> Option<LookupAnswer> {
        let site = self.site(Stage::Lookup);
        let connection = self.session.connection().clone();
        let lookup = site.hooks.lookup.clone();
        let answer = {
            let Self { inbound, session, .. } = self;
            let transaction = session.transaction()?;
            let hook = pin!(async {
                let found = lookup.lookup(&connection, transaction, to).await;
                LookupAnswer { lookup: found, is_role: lookup.is_role(to) }
            });
            let time = session.config().limits.hook_timeout;
            wait_for(inbound, time, WhenClientLeaves::End, Guarded::new(site.clone(), hook)).await
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(failure) => {
                let lookup = Err(LookupError::new("the hook failed"));
                self.failed(&site, failure).then_some(LookupAnswer { lookup, is_role: false })
            }
        }
    }

    /// Asks the policies of a stage one after another. `None` where the client has left.
    async fn decide(&mut self, stage: Stage, transaction: Option<&Transaction>, asked: &Asked<'_>) -> Option<Decision> {
        let site = self.site(stage);
        let limits = &self.session.config().limits;
        let time = if stage == Stage::Message { limits.message_timeout } else { limits.hook_timeout };
        let connection = match asked {
            Asked::Helo(connection) => (*connection).clone(),
            _ => self.session.connection().clone(),
        };
        let decision = {
            let Self { inbound, session, .. } = self;
            let transaction = transaction.or_else(|| session.transaction());
            let remembered = (session.peer_extensions().clone(), session.session_extensions().clone());
            let hook = pin!(ask_policies(&site, &connection, transaction, remembered, asked));
            wait_for(inbound, time, WhenClientLeaves::End, Guarded::new(site.clone(), hook)).await
        };
        match decision {
            Ok((verdict, changes)) => {
                let refuses = matches!(verdict, Verdict::Refuse(_));
                let policy = refuses.then(|| site.hooks.name(stage, site.policy.load(Ordering::Relaxed)));
                Some(Decision { verdict, changes, policy })
            }
            Err(failure) => {
                // What failed before the client has an envelope waits for it like any refusal of these stages.
                let held = matches!(stage, Stage::Connect | Stage::Helo);
                let refusal = if held { temporary_failure() } else { temporary_failure().immediately() };
                self.failed(&site, failure).then(|| Verdict::Refuse(refusal).into())
            }
        }
    }

    /// Reports a failed hook; `false` where the client has left, so that there is nobody to answer.
    fn failed(&mut self, site: &Site, failure: HookFailure) -> bool {
        self.report_events();
        site.report(failure);
        let has_left = failure == HookFailure::ClientLeft;
        if has_left {
            self.session.client_left(CloseReason::Network);
        }
        !has_left
    }

    async fn deliver(&mut self, mut ask: Ask<Deliver>, content: crate::Content) {
        let Some(transaction) = ask.take_transaction() else { return };
        let site = self.site(Stage::Deliver);
        let id = transaction.id();
        let connection = self.session.connection().clone();
        let facts = self
            .profile
            .session
            .observed
            .then(|| (transaction.reverse_path().clone(), transaction.recipients().len(), content.len()));
        let recipients = transaction.recipients().len();
        let message = Message::new(*transaction, connection, &self.profile.session, content, self.arrived);
        let result = match self.call_delivery(&site, message).await {
            Ok(Ok(accepted)) => accepted.common_refusal(recipients).map_or(Ok(accepted), Err),
            Ok(Err(refusal)) => Err(refusal),
            Err(failure) => {
                site.report(failure);
                Err(temporary_failure())
            }
        };
        if let (Ok(accepted), Some((reverse_path, recipients, octets))) = (&result, facts) {
            self.report_events();
            self.acknowledged.push(id);
            let accepted = accepted_event(id, reverse_path, recipients, octets, accepted);
            self.observe(|| accepted);
        }
        self.give(ask, Some(result));
    }

    /// Runs a delivery so that nothing on this connection can end it.
    async fn call_delivery(&mut self, site: &Site, message: Message) -> Result<Result<Accepted, Refusal>, HookFailure> {
        let delivery = site.hooks.delivery.clone();
        let id = message.id();
        let mut work = Guarded::new(site.clone(), Box::pin(async move { delivery.deliver(message).await }));
        // Most deliveries that do not wait are through at once, and need no task.
        if let Some(result) = poll_fn(|cx| Poll::Ready(poll_once(Pin::new(&mut work), cx))).await {
            return result;
        }
        let (sender, mut receiver) = oneshot::channel();
        let presence = self.shutdown.join();
        let of_task = site.clone();
        tokio::spawn(async move {
            let result = work.await;
            if let Err(Ok(Ok(_))) = sender.send(result) {
                of_task.hooks.observe(&of_task.connection, || SessionEvent::DeliveredLate { transaction: id });
            }
            drop(presence);
        });
        let result = async { (&mut receiver).await.unwrap_or(Err(HookFailure::Panicked)) };
        let time = self.limits().deliver_timeout;
        let waited = wait_for(&mut self.inbound, time, WhenClientLeaves::GoOn, result).await;
        // A result that came in the very moment of the deadline still counts.
        receiver.close();
        receiver.try_recv().unwrap_or(waited)
    }

    fn site(&self, stage: Stage) -> Site {
        Site {
            hooks: self.profile.shared.hooks.clone(),
            connection: self.session.connection().clone(),
            stage,
            policy: self.policy.clone(),
            may_block: self.limits().hook_may_block,
        }
    }

    fn limits(&self) -> &Limits {
        &self.profile.session.limits
    }

    // -- writing and waiting

    async fn write(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        if self.session.expects_silence() && self.inbound.has_more() {
            // The end of a read must not hide what came before the reply.
            poll_fn(|cx| Poll::Ready(self.inbound.poll_read(cx).is_ready())).await;
            self.session.check_silence(self.inbound.unread());
        }
        if !self.session.output().is_empty() {
            let Self { inbound, session, profile, .. } = self;
            let write = async {
                inbound.stream.write_all(session.output()).await?;
                inbound.stream.flush().await
            };
            result = in_time(profile.session.limits.write_timeout, write).await;
            self.session.output_written();
        }
        for transaction in std::mem::take(&mut self.acknowledged) {
            // Who closed its side before the reply, without QUIT, may never have read it (RFC 1047).
            let has_left = self.inbound.has_failed() || (self.inbound.has_ended() && self.inbound.unread().is_empty());
            if result.is_err() || (has_left && !self.session.is_closed()) {
                self.observe(|| SessionEvent::AcknowledgementUnconfirmed { transaction });
            }
        }
        result
    }

    async fn wait(&mut self) -> Woken {
        poll_fn(|cx| {
            self.session.set_under_stress(self.profile.shared.connections.is_under_stress());
            if self.session.is_delayed() && self.inbound.has_ended() {
                // Half-closed: the late reply, and what was said before the end, still have their turn.
                return self.poll_deadline(cx).map(|()| Woken::Timeout);
            }
            match self.inbound.poll_read(cx) {
                Poll::Ready(Ok(0)) if self.session.is_delayed() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) if self.inbound.has_failed() => return Poll::Ready(Woken::Failed),
                Poll::Ready(Ok(0)) => return Poll::Ready(Woken::ClientLeft),
                Poll::Ready(Ok(_)) => return Poll::Ready(Woken::Input),
                Poll::Ready(Err(_)) => return Poll::Ready(Woken::Failed),
                Poll::Pending => {}
            }
            if self.poll_deadline(cx).is_ready() {
                return Poll::Ready(Woken::Timeout);
            }
            self.presence.wake_on_change(cx.waker());
            match self.presence.phase() {
                Phase::Finish if self.session.is_shutting_down() => Poll::Pending,
                Phase::Serve => Poll::Pending,
                Phase::Finish | Phase::End => Poll::Ready(Woken::Shutdown),
            }
        })
        .await
    }

    fn poll_deadline(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let Some(deadline) = self.session.deadline().map(Instant::from_std) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Half-closes and discards, so that unread input does not reset the connection and take the last reply with it.
    async fn linger(&mut self) {
        let (time, mut octets) = (self.limits().linger, self.limits().linger_octets);
        let discard = async {
            self.inbound.stream.shutdown().await?;
            self.inbound.consume(self.inbound.unread().len());
            loop {
                let read = poll_fn(|cx| self.inbound.poll_read(cx)).await?;
                self.inbound.consume(read);
                octets = octets.saturating_sub(read as u64);
                if read == 0 || octets == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let _ = timeout(time, discard).await;
    }

    // -- events

    fn storage_failed(&self, cause: &io::Error) {
        self.profile.shared.note_lack_of_room();
        self.observe(|| SessionEvent::StorageFailed { cause: SafeText::new(cause.to_string()) });
    }

    fn observe(&self, event: impl FnOnce() -> SessionEvent) {
        self.profile.shared.hooks.observe(self.session.connection(), event);
    }

    fn report_events(&mut self) {
        if self.profile.session.observed {
            for event in self.session.take_events() {
                self.profile.shared.hooks.observe(self.session.connection(), || event);
            }
        }
    }
}

/// A disk that hangs is a disk that fails.
async fn in_time<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(time, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn accepted_event(
    transaction: crate::TransactionId,
    reverse_path: crate::ReversePath,
    recipients: usize,
    octets: u64,
    accepted: &Accepted,
) -> SessionEvent {
    let id = accepted.id().map(|id| SafeText::new(id.to_owned()));
    SessionEvent::Accepted {
        transaction,
        reverse_path,
        recipients,
        octets,
        id,
        partial: accepted.is_partial(recipients),
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>, cx: &mut std::task::Context<'_>) -> Option<F::Output> {
    match future.poll(cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What the policies of a stage are asked about.
enum Asked<'a> {
    Connect,
    Helo(&'a Arc<Connection>),
    Mail,
    Recipient(&'a crate::Recipient),
    Message(&'a crate::Content),
}

impl Asked<'_> {
    fn stage(&self) -> Stages {
        match self {
            Self::Connect => Stages::CONNECT,
            Self::Helo(_) => Stages::HELO,
            Self::Mail => Stages::MAIL,
            Self::Recipient(_) => Stages::RECIPIENT,
            Self::Message(_) => Stages::MESSAGE,
        }
    }
}

async fn ask_policies(
    site: &Site,
    connection: &Connection,
    transaction: Option<&Transaction>,
    (peer, session): (Extensions, Extensions),
    asked: &Asked<'_>,
) -> (Verdict, Changes) {
    let mut cx = PolicyContext::new(connection, transaction, peer, session);
    for (place, NamedPolicy { policy, stages, .. }) in site.hooks.policies.iter().enumerate() {
        if !stages.contains(asked.stage()) {
            continue;
        }
        site.policy.store(place, Ordering::Relaxed);
        let verdict = match (asked, connection.greeting(), transaction) {
            (Asked::Connect, _, _) => policy.connect(&mut cx).await,
            (Asked::Helo(_), Some(greeting), _) => policy.helo(&mut cx, greeting).await,
            (Asked::Mail, _, Some(transaction)) => policy.mail(&mut cx, transaction.reverse_path()).await,
            (Asked::Recipient(recipient), _, _) => policy.recipient(&mut cx, recipient).await,
            (Asked::Message(content), _, _) => policy.message(&mut cx, content).await,
            (Asked::Helo(_) | Asked::Mail, _, _) => Verdict::Continue,
        };
        match verdict {
            Verdict::Continue => {}
            Verdict::Exempt => break,
            Verdict::Refuse(_) => return (verdict, cx.into_changes()),
        }
    }
    (Verdict::Continue, cx.into_changes())
}

fn temporary_failure() -> Refusal {
    Refusal::transient(3, 0, "Temporary failure, try again later")
}

fn no_room() -> Refusal {
    Refusal::transient(3, 1, "Insufficient storage, try again later").with_code(452)
}
