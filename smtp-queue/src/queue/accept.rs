//! A message comes in: its envelope, its sites, the put that makes it durable.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::{
    Accepted, Body, Connection, Content, DataEncoder, Defect, DeliverBy, Delivery, DeliveryEvent, Mailbox, Message,
    Notify, Outbound, Refusal, ReversePath, SafeText, Transient, Treatment, async_trait,
};
use thiserror::Error;

use crate::content::StoredContent;
use crate::envelope::{DeliverByTime, Envelope, Origin, QueuedRecipient, SiteName};
use crate::id::QueueId;
use crate::progress::Progress;
use crate::routing::Route;
use crate::spool::{NewContent, NewMessage, NewProgress, SpoolError};

use super::Queue;
use super::accounts::add;
use super::attempt::Loaded;
use super::expansion::expanded;
use super::ready::Ready;
use super::recipients::Recipients;
use super::shared::{Phase, Shared};
use super::tls_required::is_optional;

/// A message of an application was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// It is for nobody.
    #[error("the message has no recipient")]
    NoRecipient,
    /// It holds what must not be sent: NUL, or a CR or LF alone.
    #[error("the message has a {0}")]
    Content(#[source] Defect),
    /// The queue has been shut down.
    #[error("the queue has been shut down")]
    ShutDown,
    /// The outbound policy does not know now.
    #[error("the outbound policy has no answer")]
    Outbound(#[source] Transient),
    /// The store failed.
    #[error("the message could not be stored")]
    Spool(#[source] SpoolError),
}

impl SubmitError {
    /// Whether the same may succeed later. The unknown is transient.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoRecipient | Self::Content(_) => false,
            Self::Spool(error) => error.is_transient(),
            Self::ShutDown | Self::Outbound(_) => true,
        }
    }

    /// What a client is told. All trouble of ours is transient (SECURITY.md G5).
    fn to_refusal(&self) -> Refusal {
        match self {
            Self::Spool(SpoolError::Full(_)) => Refusal::insufficient_storage(),
            Self::ShutDown => Refusal::transient(3, 2, "Shutting down, try again later"),
            _ => Refusal::transient(3, 0, "Temporary failure, try again later"),
        }
    }
}

/// What came in, before it has a place.
struct Incoming<'a> {
    envelope: Envelope,
    content: NewContent,
    /// What was accepted for nobody's mailbox.
    discarded: Vec<(Mailbox, String)>,
    /// Aliases of whose expansion the sender wants to be told.
    expanded: Vec<QueuedRecipient>,
    connection: Option<&'a Connection>,
}

#[async_trait]
impl Delivery for Queue {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let (message, head, skipped_octets) = head(message).await.map_err(|error| {
            let error = SpoolError::Io { action: "read the content", source: Arc::new(error) };
            self.shared.store_failed("accept a message", &error);
            SubmitError::Spool(error).to_refusal()
        })?;
        let content = NewContent { head, content: message.content().clone(), skipped_octets };
        let incoming = self.incoming(&message, content);
        let id = self.shared.accept(incoming).await.map_err(|error| error.to_refusal())?;
        Ok(Accepted::queued(id.to_string()))
    }

    fn content_dir(&self) -> Option<&Path> {
        self.shared.spool.content_dir()
    }

    fn check_room(&self, declared_octets: Option<u64>) -> Result<(), Refusal> {
        let error = if self.shared.phase() != Phase::Running {
            SubmitError::ShutDown
        } else if self.shared.is_read_only() {
            SubmitError::Spool(SpoolError::ReadOnly)
        } else if !self.shared.has_room(declared_octets) {
            SubmitError::Spool(SpoolError::Full(None))
        } else {
            return Ok(());
        };
        Err(error.to_refusal())
    }

    /// The queue does, whatever its transports are: they say of each recipient whether its wishes were passed on.
    fn honours_dsn(&self) -> bool {
        true
    }

    /// The octets are kept as they are. An [`SmtpTransport`](crate::SmtpTransport) passes them on as they are or not at all.
    fn honours_binarymime(&self) -> bool {
        true
    }

    /// Messages carry it to the transports and through restarts ([`Attempt::requires_tls`](crate::Attempt::requires_tls)), and
    /// notifications about them as well. An [`SmtpTransport`](crate::SmtpTransport) keeps to it, and so must transports of
    /// your own that send anything over a network.
    fn honours_requiretls(&self) -> bool {
        true
    }

    /// A message is on stable storage at once, and its first attempt is due when it is to be released. The parameter goes to no
    /// next hop: what it asked for was done here.
    fn honours_future_release(&self) -> bool {
        true
    }

    /// The time is kept with the message, by the clock of the host. An [`SmtpTransport`](crate::SmtpTransport) passes on what is
    /// left of it, and so must transports of your own that send anything to another server
    /// ([`Attempt::deliver_by`](crate::Attempt::deliver_by)).
    fn honours_deliver_by(&self) -> bool {
        true
    }

    /// Of what is due at a site the most urgent is tried first, and every fourth place goes to whoever has waited longest.
    /// An [`SmtpTransport`](crate::SmtpTransport) passes the priority on.
    fn honours_priority(&self) -> bool {
        true
    }

    /// Recipients carry it to the transports and through restarts (`QueuedRecipient::valid_since`). An
    /// [`SmtpTransport`](crate::SmtpTransport) keeps to it, and so must transports of your own that send anything to other
    /// hosts.
    fn honours_rrvs(&self) -> bool {
        true
    }
}

/// What is written in front of the content. Blocks only where content in a file may have to be read for it.
async fn head(message: Message) -> std::io::Result<(Message, Bytes, u64)> {
    let work = |message: Message| message.head().map(|(head, skipped)| (message, head.into(), skipped));
    if message.content().path().is_none() {
        return work(message);
    }
    tokio::task::spawn_blocking(move || work(message)).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Only what SMTP would have let in: lines that end with CRLF, and no NUL (RFC 5321 §2.3.8, §4.5.2).
async fn must_be_canonical(content: Content) -> Result<Content, SubmitError> {
    let look = |content: Content| -> std::io::Result<Result<Content, Defect>> {
        let (mut reader, mut encoder) = (content.reader()?, DataEncoder::new());
        let (mut buffer, mut wire) = (vec![0; LOOK_OCTETS], Vec::new());
        loop {
            let defect = match reader.read(&mut buffer)? {
                0 => return Ok(encoder.finish(&mut wire).map(|()| content)),
                read => encoder.encode(&buffer[..read], &mut wire).err(),
            };
            if let Some(defect) = defect {
                return Ok(Err(defect));
            }
            wire.clear();
        }
    };
    let looked = if content.path().is_none() {
        look(content)
    } else {
        tokio::task::spawn_blocking(move || look(content))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    };
    let failed = |error| SpoolError::Io { action: "read the content", source: Arc::new(error) };
    looked.map_err(|error| SubmitError::Spool(failed(error)))?.map_err(SubmitError::Content)
}

/// How much of a file is looked at in one go.
const LOOK_OCTETS: usize = 64 << 10;

impl Queue {
    /// Takes a message that an application wrote. Whoever calls this vouches for the reverse-path: notifications go
    /// there. When it returns, the message is on stable storage; dropping the future does not take it back.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was taken.
    pub async fn submit(
        &self,
        reverse_path: ReversePath,
        recipients: impl IntoIterator<Item = Mailbox>,
        content: Content,
    ) -> Result<QueueId, SubmitError> {
        let now = self.shared.clock.wall();
        let mut envelope = Envelope::new(self.shared.ids.next(now), now, reverse_path);
        let mut recipients_seen = Recipients::default();
        for mailbox in recipients {
            recipients_seen.add(QueuedRecipient::new(mailbox));
        }
        envelope.recipients = recipients_seen.list;
        if envelope.recipients.is_empty() {
            return Err(SubmitError::NoRecipient);
        }
        let content = must_be_canonical(content).await?;
        envelope.sender_confirmed = true;
        let is_seven_bit = content.as_bytes().is_some_and(|octets| octets.is_ascii());
        envelope.body = (!is_seven_bit).then_some(Body::EightBitMime);
        let content = NewContent { head: Bytes::new(), content, skipped_octets: 0 };
        let (discarded, expanded) = (Vec::new(), Vec::new());
        let incoming = Incoming { envelope, content, discarded, expanded, connection: None };
        // In a task of its own, so that a caller who stops waiting leaves nothing behind half done.
        let shared = self.shared.clone();
        let accepted = tokio::spawn(async move { shared.accept(incoming).await });
        accepted.await.unwrap_or(Err(SubmitError::Spool(SpoolError::Closed)))
    }

    fn incoming<'a>(&self, message: &'a Message, content: NewContent) -> Incoming<'a> {
        let connection = message.connection();
        let mut recipients = Recipients::default();
        let expanded: Vec<_> = message.recipients().iter().filter_map(expanded).collect();
        for recipient in message.recipients() {
            let postmaster = std::slice::from_ref(&self.shared.postmaster);
            let mailboxes = if recipient.mailboxes().is_empty() { postmaster } else { recipient.mailboxes() };
            let mut dsn = recipient.dsn().clone();
            if mailboxes.len() > 1 {
                // RFC 3461 §5.2.7.2 (c): of success the sender is told once, when the alias is expanded.
                dsn.notify = dsn.notify.map(|notify| notify.without(Notify::SUCCESS));
            }
            for mailbox in mailboxes {
                recipients.add(QueuedRecipient {
                    path: recipient.path().clone(),
                    disposition: recipient.disposition().clone(),
                    is_role: recipient.is_role(),
                    dsn: dsn.clone(),
                    valid_since: recipient.valid_since(),
                    ..QueuedRecipient::new(mailbox.clone())
                });
            }
        }
        let id = self.shared.ids.next(message.time());
        let mut envelope = Envelope::new(id, message.time(), message.reverse_path().clone());
        let discarded = recipients.take_discarded();
        envelope.recipients = recipients.list;
        envelope.origin = Origin {
            transaction: message.id().to_string().into(),
            client: Some(connection.peer().ip()),
            identity: connection.identity().cloned(),
            treatment: connection.treatment(),
            notification_of: None,
        };
        envelope.body = message.parameters().body;
        envelope.smtputf8 = message.parameters().smtputf8;
        envelope.requires_tls = message.parameters().requiretls;
        let (by, time) = (message.parameters().deliver_by, message.deliver_by_time());
        let by_time = |(by, time): (DeliverBy, _)| DeliverByTime { time, mode: by.mode(), trace: by.has_trace() };
        envelope.deliver_by = by.zip(time).map(by_time);
        envelope.priority = message.parameters().priority.unwrap_or_default();
        envelope.solicit.clone_from(&message.parameters().solicit);
        envelope.release = message.parameters().future_release.map(|release| release.release(self.shared.clock.wall()));
        envelope.dsn = message.parameters().dsn.clone();
        let may_relay = connection.identity().is_some() || connection.treatment() == Treatment::RelayClient;
        envelope.sender_confirmed = message.sender_confirmed() || may_relay;
        Incoming { envelope, content, discarded, expanded, connection: Some(connection) }
    }
}

impl Shared {
    async fn accept(self: &Arc<Self>, incoming: Incoming<'_>) -> Result<QueueId, SubmitError> {
        if self.phase() != Phase::Running {
            return Err(SubmitError::ShutDown);
        }
        let Incoming { mut envelope, mut content, discarded, expanded, connection } = incoming;
        let id = envelope.id;
        if !envelope.recipients.is_empty() {
            if self.has_no_room_to_set_aside(&envelope, octets(&content)) {
                return Err(SubmitError::Spool(SpoolError::Full(None)));
            }
            envelope.tls_is_optional = is_optional(&envelope, &content).await;
            let outbound = match connection {
                Some(connection) => Outbound::received(&envelope.reverse_path, connection),
                None => Outbound::generated(&envelope.reverse_path),
            };
            let outgoing = self.outgoing(&outbound, &envelope.recipients, &content).await.map_err(|error| {
                self.policy_failed(&error);
                SubmitError::Outbound(error)
            })?;
            if let Some(outgoing) = outgoing {
                outgoing.apply(&mut envelope, &mut content);
            }
            let expansion = self.expansion(&envelope, expanded, &content).await;
            self.put(Arc::new(envelope), content).await?;
            self.tell_expansion(expansion).await;
        }
        add(&self.accounts.mail.taken, discarded.len() as u64);
        add(&self.accounts.mail.discarded, discarded.len() as u64);
        for (recipient, reason) in discarded {
            let id = SafeText::new(id.to_string());
            self.tell(|| DeliveryEvent::Discarded { id, recipient, reason: SafeText::new(reason) });
        }
        Ok(id)
    }

    /// What is to be done for an envelope at each of its sites.
    pub(super) fn sites_of(&self, envelope: &Envelope, first_attempt: SystemTime) -> Vec<(Route, Progress)> {
        let mut sites: Vec<(Route, Vec<u32>)> = Vec::with_capacity(1);
        // Of all sites but the first.
        let mut places: HashMap<SiteName, usize> = HashMap::new();
        for (index, recipient) in (0..).zip(&envelope.recipients) {
            let route = self.route_of(recipient);
            let place = match sites.first() {
                None => None,
                // Usually all go to one site.
                Some((first, _)) if first.site == route.site => Some(0),
                Some(_) => places.get(&route.site).copied(),
            };
            if let Some(place) = place {
                sites[place].1.push(index);
            } else {
                if !sites.is_empty() {
                    places.insert(route.site.clone(), sites.len());
                }
                sites.push((route, vec![index]));
            }
        }
        let progress = |(route, indexes): (Route, Vec<u32>)| {
            let progress = Progress::new(route.site.clone(), indexes, first_attempt);
            (route, progress)
        };
        sites.into_iter().map(progress).collect()
    }

    async fn put(self: &Arc<Self>, envelope: Arc<Envelope>, content: NewContent) -> Result<(), SubmitError> {
        let (first_attempt, is_held) = self.first_attempt(&envelope);
        let pairs = self.sites_of(&envelope, first_attempt);
        let in_memory = stored(&content);
        let octets = octets(&content);
        let mut reserved = Reserved { shared: self, sites: Vec::with_capacity(pairs.len()) };
        let mut progress = Vec::with_capacity(pairs.len());
        {
            let mut sites = self.sites();
            for (route, pair) in pairs {
                let lease = !is_held && !self.is_read_only() && sites.reserve(&route.site, envelope.priority);
                if lease {
                    reserved.sites.push(route.site);
                }
                progress.push(NewProgress { progress: pair, lease });
            }
        }
        let new = NewMessage { envelope: envelope.clone(), content, progress: progress.clone() };
        let leases = self.spool.put(new).await.map_err(|error| {
            if !matches!(error, SpoolError::Full(_)) {
                self.store_failed("keep a message", &error);
            }
            SubmitError::Spool(error)
        })?;
        let recipients = envelope.recipients.len();
        add(&self.accounts.mail.taken, recipients as u64);
        self.tell(|| DeliveryEvent::Queued {
            id: SafeText::new(envelope.id.to_string()),
            transaction: SafeText::new(String::from(envelope.origin.transaction.clone())),
            reverse_path: envelope.reverse_path.clone(),
            recipients,
            octets,
        });
        let wants_dispatcher = self.change_sites(|sites| {
            for lease in leases {
                let Some(place) = reserved.sites.iter().position(|site| *site == lease.site) else { continue };
                reserved.sites.swap_remove(place);
                let mine = progress.iter().find(|new| new.progress.site == lease.site);
                let loaded = mine.map(|new| {
                    let content = in_memory.clone().filter(|content| sites.reserve_octets(content.len()));
                    Box::new(Loaded { envelope: envelope.clone(), progress: new.progress.clone(), content })
                });
                sites.add(Ready { lease, loaded });
            }
            let left = progress.iter().filter(|new| !(new.lease || is_held));
            left.fold(false, |wants, new| sites.left_in_spool(&new.progress.site) | wants)
        });
        if is_held {
            self.is_due_at(first_attempt);
        }
        if wants_dispatcher {
            self.wake();
        }
        if self.phase() != Phase::Running {
            self.give_back_ready();
        }
        Ok(())
    }
}

/// The size of the content as it is passed on.
fn octets(content: &NewContent) -> u64 {
    content.content.len() + content.head.len() as u64 - content.skipped_octets
}

/// The content as it is passed on, where it is in memory.
pub(super) fn stored(content: &NewContent) -> Option<StoredContent> {
    let body = content.content.as_bytes()?;
    let skipped = usize::try_from(content.skipped_octets).unwrap_or(usize::MAX).min(body.len());
    Some(StoredContent::in_memory(content.head.clone(), body.slice(skipped..)))
}

/// Places that are given back if they are not used.
struct Reserved<'a> {
    shared: &'a Shared,
    sites: Vec<SiteName>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        for site in &self.sites {
            self.shared.leave(site, 0);
        }
    }
}
