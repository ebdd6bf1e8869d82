//! The locks and the channel that [`inbox`](super::inbox) is made of. The model of the committer has others in their place.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) use tokio::sync::oneshot::{Receiver, Sender, channel};
