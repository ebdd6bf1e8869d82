//! Lets the other tasks of the runtime go first.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Waits until the tasks that were ready have had their turn.
///
/// Unlike [`tokio::task::yield_now`] it also waits where another task goes on with it: that one has not let anybody go
/// first yet.
#[derive(Debug, Default)]
pub(super) struct TurnOfOthers {
    /// Who waits.
    task: Option<Waker>,
}

impl Future for TurnOfOthers {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            return Poll::Ready(());
        }
        self.task = Some(cx.waker().clone());
        // Its first poll has this task woken behind the others, and then it has done its work.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn whoever_is_ready_goes_first_also_where_the_task_changes() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut turn = Box::pin(TurnOfOthers::default());
        // Polled once here, as by a caller who then leaves it to a task of its own.
        let polled = std::future::poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        let tell = |name: &'static str| {
            let order = order.clone();
            move || order.lock().expect("nobody panicked").push(name)
        };
        let (last, first, second) = (tell("last"), tell("first"), tell("second"));
        let waits = tokio::spawn(async move {
            turn.await;
            last();
        });
        let others = [tokio::spawn(async move { first() }), tokio::spawn(async move { second() })];
        for other in others {
            other.await.expect("it ends");
        }
        waits.await.expect("it ends");
        assert_eq!(*order.lock().expect("nobody panicked"), ["first", "second", "last"]);
    }
}
