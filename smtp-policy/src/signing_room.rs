//! Where signatures are made: beside the tasks that serve clients, and no more at a time than there are processors.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use smtp_core::Transient;
use tokio::sync::Semaphore;

/// Room for so many signatures at a time as there are processors: an RSA signature takes almost a millisecond, and a body is hashed
/// for each.
#[derive(Clone)]
pub(crate) struct SigningRoom(Arc<Semaphore>);

impl SigningRoom {
    /// Does the work beside the tasks, when there is room.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Transient> {
        let permit = self.0.clone().acquire_owned().await.map_err(Transient::new)?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work();
            // Also where nobody waits any more, the room is taken until now.
            drop(permit);
            done
        });
        worked.await.map_err(Transient::new)?.map_err(Transient::new)
    }
}

impl Default for SigningRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get))))
    }
}

impl fmt::Debug for SigningRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningRoom")
    }
}
