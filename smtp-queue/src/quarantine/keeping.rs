//! What the queue brings is put on stable storage, once, or waits in the queue.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use smtp_core::{Content, Refusal, async_trait};

use crate::content::StoredContent;
use crate::envelope::Envelope;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::spool::{NewContent, NewMessage, NewProgress, SpoolError};
use crate::transport::{Attempt, Transport};

use super::{Quarantine, SITE};

/// The queue brings all copies of a message at once. Where it could not record that they are here, it brings them again:
/// then nothing is done.
#[async_trait]
impl Transport for Quarantine {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        let (quarantine, brought) = (self.clone(), attempt.clone());
        // In a task of its own: who gives up waiting leaves nothing behind that does not count.
        let kept = tokio::spawn(async move { quarantine.keep(&brought).await }).await;
        let outcome = match kept.unwrap_or(Err(SpoolError::Closed)) {
            Ok(()) => Outcome::delivered("Set aside"),
            Err(SpoolError::Full(_)) => {
                Refusal::transient(3, 1, "There is no room for what is set aside").with_code(452).into()
            }
            // Whatever it is, the queue has the message, and an operator can do something about it (SECURITY.md G5).
            Err(error) => Refusal::transient(3, 0, format!("It cannot be set aside: {error}")).into(),
        };
        vec![outcome; attempt.recipients().len()]
    }
}

impl Quarantine {
    async fn keep(&self, attempt: &Attempt) -> Result<(), SpoolError> {
        if self.inner.spool.show(attempt.id()).await?.is_some() {
            return Ok(());
        }
        let octets = attempt.content().len();
        if !self.has_room(octets) {
            return Err(SpoolError::Full(None));
        }
        // Counted before it is there, so that attempts at the same time do not pass the limit together.
        self.inner.messages.fetch_add(1, Ordering::Relaxed);
        self.inner.octets.fetch_add(octets, Ordering::Relaxed);
        let mut counted = Counted { quarantine: self, octets, is_kept: false };
        let totals = self.totals();
        let settings = &self.inner.settings;
        if totals.messages > settings.messages_limit || totals.octets > settings.octets_limit {
            return Err(SpoolError::Full(None));
        }
        let recipients: Vec<_> = attempt.recipients().cloned().collect();
        let places = (0..).take(recipients.len());
        let envelope = Envelope { recipients, ..(**attempt.envelope()).clone() };
        let now = attempt.wall();
        let expires = now.checked_add(self.inner.settings.retention).unwrap_or(now);
        let mut progress = Progress::new(SITE.into(), places, expires);
        progress.last_attempt = Some(now);
        let progress = vec![NewProgress { progress, lease: false }];
        let content = self.new_content(attempt.content()).await?;
        self.inner.spool.put(NewMessage { envelope: Arc::new(envelope), content, progress }).await?;
        counted.is_kept = true;
        Ok(())
    }

    /// The content of one spool, as another takes it.
    pub(crate) async fn new_content(&self, stored: &StoredContent) -> Result<NewContent, SpoolError> {
        let new = |head: Bytes, body: Bytes| NewContent { head, content: Content::new(body), skipped_octets: 0 };
        if let Some([head, body]) = stored.as_parts() {
            return Ok(new(head.clone(), body.clone()));
        }
        let _one_at_a_time = self.inner.reading.lock().await;
        let stored = stored.clone();
        let read = move || {
            let mut octets = Vec::with_capacity(usize::try_from(stored.len()).unwrap_or(0));
            stored.reader().read_to_end(&mut octets).map(|_| Bytes::from(octets))
        };
        let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let failed = |error| SpoolError::Io { action: "read the content", source: Arc::new(error) };
        read.map(|octets| new(Bytes::new(), octets)).map_err(failed)
    }
}

/// A message that counts, until it turns out that it is not there.
struct Counted<'a> {
    quarantine: &'a Quarantine,
    octets: u64,
    is_kept: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.quarantine.gone(self.octets);
        }
    }
}
