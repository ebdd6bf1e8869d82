//! An alias for several mailboxes: its sender, where it asked to be told of success, learns that the copies are on their way,
//! and not of each of them (RFC 3461 §5.2.7.2).

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use smtp_core::{Notify, Recipient};

use crate::content::StoredContent;
use crate::dsn::{Action, ReportedRecipient, ReturnedContent, notification_kind};
use crate::envelope::{Envelope, QueuedRecipient};
use crate::spool::NewContent;

use super::outcomes::returned;
use super::shared::Shared;

/// An alias as a recipient of its own, where its sender is to be told that it was expanded.
pub(super) fn expanded(recipient: &Recipient) -> Option<QueuedRecipient> {
    let is_expanded = recipient.mailboxes().len() > 1 && recipient.dsn().notify().contains(Notify::SUCCESS);
    let mailbox = recipient.path().mailbox().filter(|_| is_expanded)?;
    Some(QueuedRecipient {
        disposition: recipient.disposition().clone(),
        dsn: recipient.dsn().clone(),
        ..QueuedRecipient::new(mailbox.clone())
    })
}

/// The aliases of a message, and what is said of it.
pub(super) struct Expansion {
    /// That of the message, with the aliases as its recipients.
    envelope: Envelope,
    recipients: Vec<ReportedRecipient>,
    returned: ReturnedContent,
}

impl Shared {
    /// Prepares to tell of aliases, before the content is given away. `None` where there are none.
    pub(super) async fn expansion(
        &self,
        envelope: &Envelope,
        aliases: Vec<QueuedRecipient>,
        content: &NewContent,
    ) -> Option<Expansion> {
        if aliases.is_empty() {
            return None;
        }
        let envelope = Envelope { recipients: aliases, ..envelope.clone() };
        let is_told = |recipient| notification_kind(&envelope, recipient, Action::Expanded, &self.postmaster).is_ok();
        let returned = if envelope.recipients.iter().any(is_told) {
            returned(start(content).await, false).await
        } else {
            ReturnedContent::nothing()
        };
        let indexes = (0..).take(envelope.recipients.len());
        let recipients = indexes.map(|index| ReportedRecipient { index, last: None, last_attempt: None }).collect();
        Some(Expansion { envelope, recipients, returned })
    }

    /// Tells of the aliases of a message that was taken. The message comes first: whoever crashes in between was not
    /// answered, and gets it again. Trouble with the store here does not undo what was taken; it is reported.
    pub(super) async fn tell_expansion(self: &Arc<Self>, expansion: Option<Expansion>) {
        let Some(Expansion { envelope, recipients, returned }) = expansion else { return };
        let mut notified =
            self.within_rate(self.report(&envelope, Action::Expanded, &recipients, &returned).notify(), &recipients);
        let mut caused = Vec::new();
        if let Some(notification) = notified.notification.take() {
            let message = self.notification(notification).await;
            caused.push(message.envelope.clone());
            if let Err(error) = self.spool.put(message).await {
                return self.store_failed("keep a notification", &error);
            }
            self.is_due_at(self.clock.steady());
        }
        self.tell_notified(&envelope, &caused, vec![notified]);
    }
}

/// As much of the content, as it is passed on, as a header section may have to go back, and one octet more.
pub(super) async fn start(content: &NewContent) -> StoredContent {
    let (head, skipped, content) = (content.head.clone(), content.skipped_octets, content.content.clone());
    let read = move || {
        let mut body = Vec::new();
        let mut reader = content.reader()?;
        std::io::copy(&mut reader.by_ref().take(skipped), &mut std::io::sink())?;
        reader.take(ReturnedContent::LIMIT_OCTETS as u64 + 1).read_to_end(&mut body)?;
        Ok::<_, std::io::Error>(Bytes::from(body))
    };
    // What is in memory is read there, too; it takes no longer than a copy.
    let body = tokio::task::spawn_blocking(read).await.ok().and_then(Result::ok).unwrap_or_default();
    StoredContent::in_memory(head, body)
}
