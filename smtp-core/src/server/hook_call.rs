//! One call of a hook: its time limit, its panic, and the client that may leave meanwhile.

use std::future::poll_fn;
use std::ops::DerefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::session::connection::Connection;
use crate::session::event::{HookFailure, SessionEvent, Stage};

use super::hook_set::HookSet;
use super::inbound::Inbound;
use super::watchdog::{Running, watched};

/// Which hook is called, and for whom.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) hooks: Arc<HookSet>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) stage: Stage,
    /// The place of the policy that is being asked.
    pub(crate) policy: Arc<AtomicUsize>,
    /// How long it may keep its thread.
    pub(crate) may_block: Duration,
}

impl Site {
    pub(crate) fn report(&self, failure: HookFailure) {
        let hook = self.hooks.name(self.stage, self.policy.load(Ordering::Relaxed));
        self.hooks.observe(&self.connection, || SessionEvent::HookFailed { stage: self.stage, hook, failure });
    }
}

/// A hook whose panics end here.
pub(crate) struct Guarded<P> {
    site: Site,
    hook: Pin<P>,
}

impl<P: DerefMut<Target: Future>> Guarded<P> {
    pub(crate) fn new(site: Site, hook: Pin<P>) -> Self {
        Self { site, hook }
    }
}

impl<P: DerefMut<Target: Future> + Unpin> Future for Guarded<P> {
    type Output = Result<<P::Target as Future>::Output, HookFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let running = Running {
            hooks: this.site.hooks.clone(),
            connection: this.site.connection.clone(),
            stage: this.site.stage,
            policy: this.site.policy.load(Ordering::Relaxed),
            allowed: this.site.may_block,
        };
        match watched(running, || catch_unwind(AssertUnwindSafe(|| this.hook.as_mut().poll(cx)))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(HookFailure::Panicked)),
        }
    }
}

/// Whether a client that leaves ends the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenClientLeaves {
    End,
    GoOn,
}

/// Waits for a hook, at most `timeout`, and reads ahead from the client meanwhile.
///
/// A client that closes only its sending side has not left: it may still read the reply.
pub(crate) async fn wait_for<S, T>(
    inbound: &mut Inbound<S>,
    timeout: Duration,
    when_client_leaves: WhenClientLeaves,
    hook: impl Future<Output = Result<T, HookFailure>>,
) -> Result<T, HookFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut hook = pin!(hook);
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(result) = hook.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(HookFailure::TimedOut));
        }
        inbound.poll_read_ahead(cx);
        if inbound.has_failed() && when_client_leaves == WhenClientLeaves::End {
            return Poll::Ready(Err(HookFailure::ClientLeft));
        }
        Poll::Pending
    })
    .await
}
