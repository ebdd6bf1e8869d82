//! Lets the other tasks of the runtime go first.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Waits until the tasks that were ready have had their turn.
///
/// Unlike [`tokio::task::yield_now`] it also waits where another task goes on with it, once: that one has not let anybody
/// go first yet.
#[derive(Debug, Default)]
pub(super) struct TurnOfOthers {
    /// Who waited at each poll.
    tasks: [Option<Waker>; 2],
}

impl Future for TurnOfOthers {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_known = |task: &Option<Waker>| task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        let free = self.tasks.iter().position(Option::is_none);
        let Some(free) = free.filter(|_| !self.tasks.iter().any(is_known)) else { return Poll::Ready(()) };
        self.tasks[free] = Some(cx.waker().clone());
        // Its first poll has this task woken behind the others, and then it has done its work.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test] // Whether two wakers are of one task is a guess of theirs.
    fn it_ends_also_where_each_poll_has_another_waker() {
        struct Nobody;
        impl std::task::Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }
        let mut turn = Box::pin(TurnOfOthers::default());
        let mut polls = (0..3).map(|_| turn.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Nobody)))));
        assert!(polls.by_ref().take(2).all(|poll| poll.is_pending()));
        assert_eq!(polls.next(), Some(Poll::Ready(())));
    }

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
