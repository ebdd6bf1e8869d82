//! The clients: each sends as fast as it gets answers, over one connection for as long as that lives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use smtp_core::{ClientConfig, ClientConnection, SendReport, SendStage};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::ledger::Acknowledged;
use crate::trial::Trial;

/// Where the program listens in which run; `None` while it does not.
pub(crate) type Target = Option<(usize, SocketAddr)>;

/// How long a client waits when there is nothing to do.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a whole message takes at most, or its connection is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends until the sender of `target` is gone.
pub(crate) async fn send_mail(
    trial: Arc<Trial>,
    ledger: SyncSender<Acknowledged>,
    mut target: watch::Receiver<Target>,
) {
    let config = ClientConfig::new("client.example").expect("it is a domain");
    loop {
        let now = *target.borrow_and_update();
        match now {
            Some((run, address)) => {
                // Nobody is there, or not any more: what was under way has no answer.
                if let Ok(Ok(connection)) = timeout(PATIENCE, ClientConnection::connect(address, &config)).await {
                    let client = Client { trial: &trial, ledger: &ledger, run };
                    client.send_over(connection, &target).await;
                }
                if target.has_changed().is_err() {
                    return;
                }
                sleep(PAUSE).await;
            }
            None if target.changed().await.is_err() => return,
            None => {}
        }
    }
}

struct Client<'a> {
    trial: &'a Trial,
    ledger: &'a SyncSender<Acknowledged>,
    run: usize,
}

impl Client<'_> {
    async fn send_over(&self, mut connection: ClientConnection, target: &watch::Receiver<Target>) {
        while matches!(target.has_changed(), Ok(false)) && connection.is_reusable() {
            let Some(number) = self.trial.take_number() else {
                sleep(PAUSE).await;
                continue;
            };
            let envelope = self.trial.mailing.envelope(number);
            let sent = connection.send(&envelope, self.trial.mailing.content(number));
            let report = timeout(PATIENCE, sent).await;
            self.trial.answer();
            match report {
                Ok(report) => {
                    if !self.note(number, &report).await {
                        sleep(PAUSE).await;
                    }
                }
                Err(_elapsed) => {
                    let text = format!("message {number}: no answer for {} s", PATIENCE.as_secs());
                    return self.trial.account().fault(text);
                }
            }
        }
        if matches!(target.has_changed(), Ok(false)) {
            connection.quit().await;
        }
    }

    /// Notes what the program said; whether it took the message.
    async fn note(&self, number: u64, report: &SendReport) -> bool {
        let mut taken = 0;
        for (place, result) in report.recipients().iter().enumerate() {
            match result {
                Ok(_) => taken |= 1 << place,
                Err(error) => {
                    let mut account = self.trial.account();
                    if error.stage() == SendStage::Rcpt && error.reply().is_some() {
                        account.not_taken(number, 1 << place);
                    }
                    if !error.is_transient() {
                        account.fault(format!("message {number}, recipient {place}: {error}"));
                    }
                }
            }
        }
        if taken == 0 {
            return false;
        }
        let now = self.trial.now();
        self.trial.account().saw_250(self.run, now);
        let mut entry = Acknowledged { number, recipients: taken, run: self.run };
        loop {
            match self.ledger.try_send(entry) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) => entry = back,
                // Why is said where the ledger is waited for.
                Err(TrySendError::Disconnected(_)) => return false,
            }
            sleep(PAUSE).await;
        }
    }
}
