//! SIGTERM and SIGINT: the first asks the server to stop, the second ends the program. SIGHUP: certificates
//! and users are read again.

use std::io;

use smtp_core::{PasswordFile, ServerTls};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logging::LogLines;

/// The two signals, caught from when this is made.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Catches the signals.
    ///
    /// # Errors
    /// Where the system does not allow it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Until the first signal. A second one, whenever it comes, ends the program at once with the status that a
    /// shell gives to a process killed by it.
    pub(crate) async fn first(mut self, log: LogLines) {
        let _ = self.next().await;
        tracing::info!(target: "mta", "stopping: transactions are finished first; a second signal ends at once");
        tokio::spawn(async move {
            let status = self.next().await;
            tracing::warn!(target: "mta", "second signal: ended at once");
            log.finish();
            std::process::exit(status);
        });
    }

    async fn next(&mut self) -> i32 {
        let number = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        };
        128 + number
    }
}

/// Reads certificates and users again whenever SIGHUP comes. What is of no use leaves those that there were.
///
/// # Errors
/// Where the system does not allow it.
pub(crate) fn reload_on_hangup(tls: Option<ServerTls>, users: Option<PasswordFile>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (tls, users) = (tls.clone(), users.clone());
            let reload = move || {
                report("certificates", tls.map(|tls| tls.reload()));
                report("users", users.map(|users| users.reload()));
            };
            if let Err(error) = tokio::task::spawn_blocking(reload).await {
                tracing::error!(target: "mta", %error, "certificates and users may stay as they were");
            }
        }
    });
    Ok(())
}

fn report<E: std::error::Error + 'static>(what: &str, result: Option<Result<(), E>>) {
    match result {
        None => {}
        Some(Ok(())) => tracing::info!(target: "mta", "{what} read again"),
        Some(Err(error)) => {
            let error = crate::describe(&error);
            tracing::error!(target: "mta", error, "{what} stay as they were");
        }
    }
}
