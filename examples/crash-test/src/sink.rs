//! The next hop of the program: takes what is relayed, says no at random, and tells the account what it took.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smtp_core::{
    Accepted, Connection, ConnectionLimits, ContentSettings, Delivery, ForwardPath, Limits, Lookup, LookupError,
    Message, RecipientLookup, Refusal, Server, Transaction, async_trait,
};
use tokio::net::TcpListener;

use crate::mailing::{Damage, parse_recipient, sender};
use crate::severable::{Knife, Severable};
use crate::trial::Trial;

/// How the sink treats its client.
#[derive(Debug)]
pub(crate) struct Sink {
    trial: Arc<Trial>,
    /// How many of a hundred messages meet each kind of trouble.
    trouble_percent: f64,
    is_troublesome: AtomicBool,
    defers_all: AtomicBool,
    defers_preloaded: AtomicBool,
    rng: Mutex<fastrand::Rng>,
    knives: Mutex<HashMap<SocketAddr, Arc<Knife>>>,
}

impl Sink {
    /// Listens, and takes mail until the runtime ends. Messages of the preload are deferred for now.
    ///
    /// # Errors
    /// What the system gave.
    pub(crate) async fn open(
        trial: Arc<Trial>,
        trouble_percent: f64,
        seed: u64,
    ) -> io::Result<(Arc<Self>, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let sink = Arc::new(Self {
            trial,
            trouble_percent,
            is_troublesome: AtomicBool::new(true),
            defers_all: AtomicBool::new(false),
            defers_preloaded: AtomicBool::new(true),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            knives: Mutex::default(),
        });
        tokio::spawn(sink.clone().accept(listener, address));
        Ok((sink, address))
    }

    /// From now on everything is taken.
    pub(crate) fn take_everything(&self) {
        self.is_troublesome.store(false, Ordering::Release);
        self.defers_preloaded.store(false, Ordering::Release);
    }

    /// Whether nothing at all is taken.
    pub(crate) fn defer_all(&self, defers: bool) {
        self.defers_all.store(defers, Ordering::Release);
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, local: SocketAddr) {
        // One server for each run, so that it knows which run a connection belongs to: a client hears nothing before
        // its connection is taken from the listener, so it can send nothing in a run later than its own.
        let mut server: Option<(usize, Arc<Server>)> = None;
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let run = self.trial.run();
            let current = match &server {
                Some((of, server)) if *of == run => server.clone(),
                _ => match self.server(run).await {
                    Ok(made) => server.insert((run, Arc::new(made))).1.clone(),
                    Err(error) => {
                        self.trial.account().fault(format!("the sink cannot be made: {error}"));
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            let knife = Arc::new(Knife::default());
            self.knives().insert(peer, knife.clone());
            let sink = self.clone();
            tokio::spawn(async move {
                current.serve_connection(Severable::new(stream, knife), peer, local).await;
                sink.knives().remove(&peer);
            });
        }
    }

    async fn server(self: &Arc<Self>, run: usize) -> Result<Server, smtp_core::Error> {
        // The client is one that is trusted, and meets much trouble in a session.
        let mut limits = Limits::default();
        limits.transactions = u32::MAX;
        limits.errors = u32::MAX;
        limits.errors_under_stress = u32::MAX;
        limits.errors_before_delay = u32::MAX;
        limits.commands_without_progress = u32::MAX;
        limits.session_without_message = DAY;
        limits.session = DAY;
        let mut content = ContentSettings::default();
        content.memory_octets = 4 << 20;
        content.directory = Some(self.trial.directory.clone());
        let mut connections = ConnectionLimits::default();
        connections.per_address = connections.total;
        Server::builder("sink.example")
            .recipients(Recipients(self.clone()))
            .deliver(Taker { sink: self.clone(), run })
            .limits(limits)
            .connection_limits(connections)
            .content(content)
            .bind()
            .await
    }

    fn knives(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Knife>>> {
        self.knives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, peer: SocketAddr, octets: u64) {
        if let Some(knife) = self.knives().get(&peer) {
            knife.cut_behind(octets);
        }
    }

    /// A number below `limit`, if there is to be trouble.
    fn trouble(&self, limit: usize) -> Option<usize> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let is_trouble = self.is_troublesome.load(Ordering::Acquire) && rng.f64() * 100.0 < self.trouble_percent;
        is_trouble.then(|| rng.usize(..limit))
    }

    /// Tells the account what arrived.
    fn take(&self, message: &Message, run: usize, content: &[u8]) -> Result<(), Damage> {
        let now = self.trial.now();
        if message.reverse_path().is_null() {
            let mut account = self.trial.account();
            for (number, recipient) in failed_recipients(content) {
                account.notify(number, recipient);
            }
            return Ok(());
        }
        let number = self.trial.mailing.recognise(content)?;
        let from = message.reverse_path().mailbox().map(ToString::to_string);
        if from.as_ref() != Some(&sender(number)) {
            return Err(Damage(format!("message {number}: came from {from:?}")));
        }
        let mut account = self.trial.account();
        for recipient in message.recipients() {
            match parse_recipient(recipient.path().local_part()) {
                Some((of, place)) if of == number => account.arrive(number, place, run, now),
                _ => account.damage(format!("message {number}: came for {recipient}")),
            }
        }
        Ok(())
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Says which recipients there are: all but some.
struct Recipients(Arc<Sink>);

#[async_trait]
impl RecipientLookup for Recipients {
    async fn lookup(&self, connection: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        let sink = &self.0;
        // The others are senders, to whom notifications go.
        let Some((number, place)) = parse_recipient(to.local_part()) else { return Ok(Lookup::Mailbox) };
        let mailing = &sink.trial.mailing;
        let is_preloaded = mailing.is_preloaded(number) && sink.defers_preloaded.load(Ordering::Acquire);
        if sink.defers_all.load(Ordering::Acquire) || is_preloaded {
            return Err(LookupError::new("not now"));
        }
        if mailing.is_refused(number, place) {
            sink.trial.account().refuse(number, place);
            return Ok(Lookup::Unknown);
        }
        match sink.trouble(3) {
            Some(0 | 1) => Err(LookupError::new("not now")),
            Some(_) => {
                // Somewhere in the content, and never behind it.
                let octets = mailing.octets(number) / 2;
                let behind = sink.rng.lock().unwrap_or_else(PoisonError::into_inner).usize(..octets);
                sink.cut(connection.peer(), behind as u64);
                Ok(Lookup::Mailbox)
            }
            None => Ok(Lookup::Mailbox),
        }
    }
}

/// Takes messages that one run sends.
struct Taker {
    sink: Arc<Sink>,
    run: usize,
}

#[async_trait]
impl Delivery for Taker {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let later = Refusal::transient(3, 2, "Not now");
        match self.sink.trouble(2) {
            Some(0) => return Err(later),
            Some(_) => {
                // Nothing was taken, and the client never hears it.
                self.sink.cut(message.connection().peer(), 0);
                return Err(later);
            }
            None => {}
        }
        let Some(content) = message.content().as_bytes() else { return Err(later) };
        if let Err(Damage(what)) = self.sink.take(&message, self.run, content) {
            self.sink.trial.account().damage(what);
        }
        Ok(Accepted::all())
    }
}

/// The recipients of this trial that a notification is about (RFC 3464 §2.3.2).
fn failed_recipients(content: &[u8]) -> impl Iterator<Item = (u64, usize)> {
    let fields = memchr::memmem::find_iter(content, b"\r\nFinal-Recipient:").collect::<Vec<_>>();
    fields.into_iter().filter_map(|start| {
        let field = &content[start + 2..];
        let field = &field[..memchr::memchr(b'@', field)?];
        let address = std::str::from_utf8(field).ok()?.split_once(';')?.1.trim();
        parse_recipient(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 3464 §2.3.2
    fn a_notification_names_who_was_not_reached() {
        let content =
            b"Subject: x\r\n\r\nText\r\n\r\nFinal-Recipient: rfc822;r0.17@sink.example\r\nAction: failed\r\n\r\n\
            Final-Recipient: rfc822; r2.17@sink.example\r\nAction: failed\r\n\r\n\
            Final-Recipient: rfc822; other@example.org\r\n";
        assert_eq!(failed_recipients(content).collect::<Vec<_>>(), [(17, 0), (17, 2)]);
    }
}
