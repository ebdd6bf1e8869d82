//! What commands and content have in common: asking, saying, counting, waiting, closing, reporting.

use std::time::{Duration, Instant};

use crate::session::decision::{Ask, Decision, Kind, Question, Refusal, Verdict};
use crate::session::event::{CloseReason, SessionEvent, Stage};
use crate::session::limits::after;
use crate::session::replies::{self, Fixed};
use crate::syntax::reply::Reply;
use crate::syntax::text::SafeText;

use super::{Delayed, ServerSession, State};

impl ServerSession {
    pub(super) fn ask<K: Kind>(&mut self, question: impl FnOnce(Ask<K>) -> Question, subject: K::Subject) {
        self.questions += 1;
        self.awaited = Some(self.questions);
        self.question = Some(question(Ask { serial: self.questions, subject }));
    }

    /// Takes over what a decision changed, and gives the refusal if it is one.
    pub(super) fn take_decision(
        &mut self,
        stage: Stage,
        decision: &mut Decision,
        subject: SafeText,
    ) -> Option<Refusal> {
        if let Some(extensions) = decision.changes.peer.take() {
            self.peer_extensions = extensions;
        }
        if let Some(extensions) = decision.changes.session.take() {
            self.session_extensions = extensions;
        }
        let Verdict::Refuse(refusal) = std::mem::replace(&mut decision.verdict, Verdict::Continue) else { return None };
        let held = matches!(stage, Stage::Connect | Stage::Helo | Stage::Mail) && !refusal.is_immediate();
        self.refused(stage, subject, refusal.reply(), decision.policy.clone(), held);
        Some(refusal)
    }

    // -- waiting for replies

    /// What follows must not come before the reply to this command (RFC 2920 §3.1). `DATA` counts also where it is
    /// refused: content behind it must never be read as commands.
    pub(super) fn expect_silence(&mut self) {
        self.silence_from = Some(self.output.len());
    }

    /// SECURITY D-3: octets that come before a reply that must be waited for.
    ///
    /// [`ServerSession::poll`] does this by itself. A driver that writes output while it holds input that it has not
    /// given yet does it before it writes.
    pub fn check_silence(&mut self, input: &[u8]) {
        if let Some(mark) = self.silence_from
            && !input.is_empty()
            && self.expects_silence()
            && self.state != State::Closed
        {
            // SECURITY D-4: in clear, and behind STARTTLS: whoever put it there wants it to be read under TLS.
            let reply = if self.state == State::StartingTls { replies::NOT_TLS } else { replies::EARLY_TALKER };
            self.output.truncate(mark);
            self.silence_from = None;
            // What was said may be a password.
            self.refused_fixed(Stage::Command, reply, &[]);
            self.close(CloseReason::Violation, Some(reply));
        }
    }

    // -- limits

    /// A command that achieves nothing (STANDARDS LI12).
    pub(super) fn idle_command(&mut self, run: impl FnOnce(&mut Self)) {
        self.idle_commands += 1;
        if self.idle_commands > self.config.limits.commands_without_progress {
            self.close(CloseReason::Limit, Some(replies::TOO_MANY_COMMANDS));
        } else {
            run(self);
        }
    }

    /// An error of the client (STANDARDS LI11): counted, answered late after some, and not at all after too many.
    pub(super) fn error(&mut self, now: Instant, stage: Stage, reply: Fixed, subject: &[u8]) {
        self.error_after(now, stage, reply, subject, Duration::ZERO);
    }

    /// The same, answered so late at least.
    pub(super) fn error_after(
        &mut self,
        now: Instant,
        stage: Stage,
        reply: Fixed,
        subject: &[u8],
        least_delay: Duration,
    ) {
        self.refused_fixed(stage, reply, subject);
        self.say_error_after(now, &reply.reply(), least_delay);
    }

    /// Says a reply to what is an error of the client, when its event is told.
    pub(super) fn say_error(&mut self, now: Instant, reply: &Reply) {
        self.say_error_after(now, reply, Duration::ZERO);
    }

    fn say_error_after(&mut self, now: Instant, reply: &Reply, least_delay: Duration) {
        self.errors += 1;
        let limits = &self.config.limits;
        let most = if self.under_stress { limits.errors_under_stress } else { limits.errors };
        let of_errors = if self.errors > limits.errors_before_delay { limits.error_delay } else { Duration::ZERO };
        let delay = of_errors.max(least_delay);
        if self.errors > most {
            self.close(CloseReason::Limit, Some(replies::TOO_MANY_ERRORS));
        } else if !delay.is_zero() {
            self.delayed = Some(Box::new(Delayed { until: after(now, delay), reply: reply.clone() }));
        } else {
            self.say(reply);
        }
    }

    /// The next moment at which the session ends for lack of something, and what the client is told.
    pub(super) fn next_timeout(&self) -> (Instant, Fixed) {
        let limits = &self.config.limits;
        let waiting = match &self.content {
            Some(content) if self.state == State::Content => content.deadline(limits),
            _ if self.under_stress => {
                (after(self.waiting_since, limits.command_timeout_under_stress), replies::TIMEOUT_COMMAND)
            }
            _ if self.lines.has_bare_lf() => (after(self.waiting_since, limits.command_timeout), replies::TIMEOUT_CRLF),
            _ => (after(self.waiting_since, limits.command_timeout), replies::TIMEOUT_COMMAND),
        };
        let session = after(self.progress, limits.session_without_message).min(after(self.started, limits.session));
        if session < waiting.0 { (session, replies::SESSION_TOO_LONG) } else { waiting }
    }

    // -- replies

    pub(super) fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
    }

    pub(super) fn say_fixed(&mut self, fixed: Fixed) {
        self.say(&fixed.reply());
    }

    pub(super) fn say_refusal(&mut self, refusal: &Refusal) {
        self.say(refusal.reply());
        if refusal.closes() {
            self.finish(CloseReason::Refused);
        }
    }

    /// Refused, but no error of the client.
    pub(super) fn refuse(&mut self, stage: Stage, reply: Fixed, subject: &[u8]) {
        self.refused_fixed(stage, reply, subject);
        self.say_fixed(reply);
    }

    pub(super) fn close(&mut self, reason: CloseReason, reply: Option<Fixed>) {
        if let Some(reply) = reply {
            self.say_fixed(reply);
        }
        self.finish(reason);
    }

    pub(super) fn finish(&mut self, reason: CloseReason) {
        self.end_transaction();
        self.question = None;
        self.awaited = None;
        self.delayed = None;
        self.authenticating = None;
        self.state = State::Closed;
        self.close_reason = Some(reason);
    }

    /// Why the session ended; `None` while it goes on.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason
    }

    // -- events

    pub(super) fn event(&mut self, event: impl FnOnce() -> SessionEvent) {
        if self.config.observed {
            self.events.push(event());
        }
    }

    pub(super) fn refused_fixed(&mut self, stage: Stage, reply: Fixed, subject: &[u8]) {
        if self.config.observed {
            let subject = SafeText::from_octets(&subject[..subject.len().min(200)]);
            self.refused(stage, subject, &reply.reply(), None, false);
        }
    }

    pub(super) fn refused(
        &mut self,
        stage: Stage,
        subject: SafeText,
        reply: &Reply,
        policy: Option<SafeText>,
        held: bool,
    ) {
        let transaction = self.transaction_id;
        self.event(|| SessionEvent::Refused { stage, transaction, subject, reply: reply.clone(), policy, held });
    }
}
