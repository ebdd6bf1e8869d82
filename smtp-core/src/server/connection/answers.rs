//! How questions of the session are answered: by hooks, each in its place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::hooks::message::Message;
use crate::hooks::policy::PolicyContext;
use crate::message::content::{Content, ContentStore};
use crate::message::replaced_body::with_body;
use crate::server::hook_call::{Guarded, Site, WhenClientLeaves, wait_for};
use crate::server::hook_set::NamedPolicy;
use crate::session::connection::{Connection, TransactionId};
use crate::session::decision::kinds::{Deliver, WholeMessage};
use crate::session::decision::{
    Accepted, Ask, Changes, Decision, Kind, LookupAnswer, LookupError, Question, Refusal, Verdict,
};
use crate::session::event::{CloseReason, HookFailure, SessionEvent, Stage};
use crate::session::extensions::Extensions;
use crate::session::ownership::Ownership;
use crate::session::server::{Stages, Step};
use crate::session::transaction::{Recipient, Transaction};
use crate::syntax::path::{ForwardPath, ReversePath};
use crate::syntax::text::SafeText;

use super::{Driver, in_time, now};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    pub(super) async fn answer(&mut self, question: Question) {
        match question {
            Question::Authenticate(_) | Question::ScramKeys(_) | Question::ActAs(_) | Question::SendAs(_) => {
                self.answer_authentication(question).await;
            }
            Question::Connect(ask) => {
                let decision = self.decide(Stage::Connect, None, &Asked::Connect).await;
                self.give(ask, decision);
            }
            Question::Helo(ask) => {
                let decision = self.decide(Stage::Helo, None, &Asked::Helo(ask.subject())).await;
                self.give(ask, decision);
            }
            Question::StartTls(ask) => {
                let client = self.session.connection().peer().ip();
                let may_start = self.profile.shared.connections.admit_handshake(client, self.time);
                self.give(ask, Some(may_start));
            }
            Question::Mail(ask) => {
                let decision = self.decide(Stage::Mail, Some(ask.subject()), &Asked::Mail).await;
                self.give(ask, decision);
            }
            Question::Lookup(ask) => {
                let answer = self.look_up(ask.subject()).await;
                self.give(ask, answer);
            }
            Question::Ownership(ask) => {
                let answer = self.find_owner(ask.subject()).await;
                self.give(ask, answer);
            }
            Question::Recipient(ask) => {
                let decision = self.decide(Stage::Recipient, None, &Asked::Recipient(ask.subject())).await;
                self.give(ask, decision);
            }
            Question::Room(ask) => {
                let declared = *ask.subject();
                let answer = self.make_room(declared).await;
                self.give(ask, Some(answer));
            }
            Question::Message(ask) => match self.finish_content().await {
                Some(content) => self.judge(ask, content).await,
                None => self.give(ask, Some(Verdict::Refuse(Refusal::insufficient_storage()).into())),
            },
            Question::Deliver(ask) => match self.finish_content().await {
                Some(content) => self.deliver(ask, content).await,
                None => self.give(ask, Some(Err(Refusal::insufficient_storage()))),
            },
        }
    }

    /// Finds room for content of that size.
    async fn make_room(&mut self, declared: Option<u64>) -> Result<(), Refusal> {
        let delivery = &self.profile.shared.hooks.delivery;
        catch_unwind(AssertUnwindSafe(|| delivery.check_room(declared)))
            .unwrap_or_else(|_| Err(temporary_failure()))?;
        match in_time(self.profile.session.limits.hook_timeout, self.profile.shared.store.open(declared)).await {
            Ok(content) => {
                self.content = Some(Box::new(content));
                Ok(())
            }
            Err(cause) => {
                self.storage_failed(&cause);
                Err(Refusal::insufficient_storage())
            }
        }
    }

    /// Gives an answer to the session; there is none where the client has left.
    pub(super) fn give<K: Kind>(&mut self, ask: Ask<K>, answer: Option<K::Answer>) {
        self.time = now();
        if let Some(answer) = answer {
            self.session.answer(self.time, ask, answer);
        }
    }

    /// The policies see the whole message; then, without input between, it is delivered.
    async fn judge(&mut self, ask: Ask<WholeMessage>, content: Content) {
        let store = &self.profile.shared.store.clone();
        let header_octets = self.limits().header_octets;
        let mut decision =
            self.decide(Stage::Message, None, &Asked::Message { content: &content, store, header_octets }).await;
        let rewritten = decision.as_mut().and_then(|decision| decision.changes.rewriting.content.take());
        let content = rewritten.unwrap_or(content);
        self.give(ask, decision);
        if let Some(Step::Ask(Question::Deliver(ask))) = self.session.poll(self.time, &mut &[][..]) {
            self.deliver(ask, content).await;
        }
    }

    async fn finish_content(&mut self) -> Option<Content> {
        let content = self.content.take()?;
        self.arrived = SystemTime::now();
        let finished = in_time(self.limits().hook_timeout, content.finish()).await;
        finished.inspect_err(|cause| self.storage_failed(cause)).ok()
    }

    async fn look_up(&mut self, to: &ForwardPath) -> Option<LookupAnswer> {
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

    async fn find_owner(&mut self, recipient: &Recipient) -> Option<Result<Ownership, LookupError>> {
        let site = self.site(Stage::Lookup);
        let connection = self.session.connection().clone();
        let lookup = site.hooks.lookup.clone();
        let since = recipient.valid_since()?.time();
        let answer = {
            let Self { inbound, session, .. } = self;
            let hook = pin!(lookup.ownership(&connection, session.transaction()?, recipient.path(), since));
            let time = session.config().limits.hook_timeout;
            wait_for(inbound, time, WhenClientLeaves::End, Guarded::new(site.clone(), hook)).await
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(failure) => self.failed(&site, failure).then(|| Err(LookupError::new("the hook failed"))),
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
    pub(super) fn failed(&mut self, site: &Site, failure: HookFailure) -> bool {
        self.report_events();
        site.report(failure);
        let has_left = failure == HookFailure::ClientLeft;
        if has_left {
            self.session.client_left(CloseReason::Network);
        }
        !has_left
    }

    async fn deliver(&mut self, mut ask: Ask<Deliver>, content: Content) {
        let Some(transaction) = ask.take_transaction() else { return };
        let site = self.site(Stage::Deliver);
        let id = transaction.id();
        let connection = self.session.connection().clone();
        let facts = self
            .profile
            .session
            .observed
            .then(|| (transaction.reverse_path().clone(), transaction.recipients().len(), content.len()));
        let recipients = transaction.recipients_of_client();
        let answers_each = transaction.answers_each();
        let message = Message::new(*transaction, connection, &self.profile.session, content, self.arrived);
        let result = match self.call_delivery(&site, message).await {
            // Who is answered each needs no refusal in common.
            Ok(Ok(accepted)) if answers_each => Ok(accepted),
            Ok(Ok(accepted)) => accepted.common_refusal(recipients).map_or(Ok(accepted), Err),
            Ok(Err(refusal)) => Err(refusal),
            Err(failure) => {
                site.report(failure);
                Err(temporary_failure())
            }
        };
        if let (Ok(accepted), Some((reverse_path, recipients, octets))) = (&result, facts)
            && accepted.taken(recipients) > 0
        {
            self.report_events();
            self.acknowledged.push(id);
            let accepted = accepted_event(id, reverse_path, recipients, octets, accepted, answers_each);
            self.observe(|| accepted);
        }
        self.give(ask, Some(result));
    }

    /// Runs a delivery so that nothing on this connection can end it.
    async fn call_delivery(&mut self, site: &Site, message: Message) -> Result<Result<Accepted, Refusal>, HookFailure> {
        let delivery = site.hooks.delivery.clone();
        let id = message.id();
        let mut work = Guarded::new(site.clone(), Box::pin(async move { delivery.deliver(message).await }));
        // Most deliveries that do not wait are through at once, and need no task. One that waits wakes its own.
        if let Poll::Ready(result) = Pin::new(&mut work).poll(&mut Context::from_waker(Waker::noop())) {
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

    pub(super) fn site(&self, stage: Stage) -> Site {
        Site {
            hooks: self.profile.shared.hooks.clone(),
            connection: self.session.connection().clone(),
            stage,
            policy: self.policy.clone(),
            may_block: self.limits().hook_may_block,
        }
    }
}

fn accepted_event(
    transaction: TransactionId,
    reverse_path: ReversePath,
    recipients: usize,
    octets: u64,
    accepted: &Accepted,
    answers_each: bool,
) -> SessionEvent {
    let id = accepted.id().map(|id| SafeText::new(id.to_owned()));
    SessionEvent::Accepted {
        transaction,
        reverse_path,
        recipients: if answers_each { accepted.taken(recipients) } else { recipients },
        octets,
        id,
        partial: !answers_each && accepted.is_partial(recipients),
    }
}

/// What the policies of a stage are asked about.
enum Asked<'a> {
    Connect,
    Helo(&'a Arc<Connection>),
    Mail,
    Recipient(&'a Recipient),
    Message { content: &'a Content, store: &'a ContentStore, header_octets: u64 },
}

impl Asked<'_> {
    fn stage(&self) -> Stages {
        match self {
            Self::Connect => Stages::CONNECT,
            Self::Helo(_) => Stages::HELO,
            Self::Mail => Stages::MAIL,
            Self::Recipient(_) => Stages::RECIPIENT,
            Self::Message { .. } => Stages::MESSAGE,
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
    let mut rewritten = None;
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
            (Asked::Message { content, .. }, _, _) => {
                policy.message(&mut cx, rewritten.as_ref().unwrap_or(content)).await
            }
            (Asked::Helo(_) | Asked::Mail, _, _) => Verdict::Continue,
        };
        if let (Asked::Message { content, store, header_octets }, Some(body)) = (asked, cx.take_body()) {
            let content = rewritten.as_ref().unwrap_or(content);
            match with_body(content, &body, *header_octets, store).await {
                Ok(content) => {
                    cx.set_content(content.clone());
                    rewritten = Some(content);
                }
                Err(_) => return (Verdict::Refuse(Refusal::insufficient_storage()), cx.into_changes()),
            }
        }
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
