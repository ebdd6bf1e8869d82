//! Final delivery: each mailbox of a message gets one copy in its Maildir before the client reads `250`.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use smtp_core::{
    Accepted, Delivery, Disposition, Mailbox, Message, Recipient, Refusal, async_trait, delivered_to, return_path,
};
use smtp_queue::{MaildirStore, NoDirectory, mailbox_directory};

/// Where content lies while it arrives: on the file system of the Maildirs, so that there is one disk that can be
/// full; in a `tmp`, so that what a crash leaves is removed some day. No domain has a directory that starts with a dot.
const INCOMING: &str = ".incoming/tmp";
/// The Maildir of what policies set aside.
const QUARANTINE: &str = ".quarantine";
/// The folder of what policies take for junk, named as Maildir++ does it.
const JUNK: &str = ".Junk";

/// Delivers to `<root>/<domain>/<user>`.
#[derive(Debug)]
pub(crate) struct MaildirDelivery {
    store: Arc<MaildirStore>,
    incoming: PathBuf,
}

impl MaildirDelivery {
    /// Delivers to the Maildirs of that store.
    ///
    /// # Errors
    /// Where the directory for incoming content cannot be made.
    pub(crate) fn new(store: Arc<MaildirStore>) -> io::Result<Self> {
        let incoming = store.make_directory(INCOMING.as_ref())?;
        Ok(Self { store, incoming })
    }
}

#[async_trait]
impl Delivery for MaildirDelivery {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        let store = self.store.clone();
        let delivery = tokio::task::spawn_blocking(move || deliver(&store, &message));
        delivery.await.unwrap_or_else(|panicked| {
            tracing::error!(target: "mta", error = %panicked, "delivery panicked");
            Err(storage_failure())
        })
    }

    fn content_dir(&self) -> Option<&Path> {
        Some(&self.incoming)
    }
}

fn deliver(store: &MaildirStore, message: &Message) -> Result<Accepted, Refusal> {
    let id = message.id();
    let session = id.session();
    let copies = copies(message).map_err(|NoDirectory| Refusal::permanent(1, 1, "No such mailbox"))?;
    let maildirs: Vec<_> = copies.iter().map(|copy| copy.maildir.clone()).collect();
    let delivered = store.deliver(&maildirs, |place, file| write_copy(message, copies[place].mailbox, file));
    let names = delivered.map_err(|error| {
        let error_text = error.io().to_string();
        tracing::error!(target: "mta", %session, transaction = %id, error = error_text, "delivery failed");
        for file in error.left_over() {
            let file = &*file.to_string_lossy();
            tracing::error!(target: "mta", %session, transaction = %id, file, "cannot remove a copy that is not delivered");
        }
        refusal(error.io())
    })?;
    for (copy, name) in copies.iter().zip(names) {
        // Text that came from outside is logged as a string, so that quotes stand around it (SECURITY.md D-26).
        let (mailbox, maildir) = (copy.mailbox.to_string(), copy.maildir.to_string_lossy());
        let maildir = &*maildir;
        tracing::info!(target: "mta", %session, transaction = %id, mailbox, maildir, file = name, "delivered");
    }
    Ok(Accepted::queued(id.to_string()))
}

/// One copy of a message.
struct MailCopy<'a> {
    maildir: PathBuf,
    /// The first of the mailboxes that lead to the Maildir.
    mailbox: &'a Mailbox,
}

/// The copies of a message: one for each Maildir, however many aliases and details lead there.
fn copies(message: &Message) -> Result<Vec<MailCopy<'_>>, NoDirectory> {
    let mut seen = HashSet::new();
    let mut copies = Vec::new();
    for recipient in message.recipients() {
        for mailbox in recipient.mailboxes() {
            if let Some(maildir) = maildir_of(message, recipient, mailbox)?
                && seen.insert(maildir.clone())
            {
                copies.push(MailCopy { maildir, mailbox });
            }
        }
    }
    Ok(copies)
}

/// Where a copy goes; nowhere if policies say so.
fn maildir_of(message: &Message, recipient: &Recipient, mailbox: &Mailbox) -> Result<Option<PathBuf>, NoDirectory> {
    let session = message.id().session();
    let transaction = message.id();
    Ok(match recipient.disposition() {
        Disposition::Junk => Some(mailbox_directory(mailbox)?.join(JUNK)),
        Disposition::Discard(reason) => {
            let mailbox = mailbox.to_string();
            tracing::info!(target: "mta", %session, %transaction, mailbox, reason, "discarded");
            None
        }
        Disposition::Quarantine(reason) => {
            let mailbox = mailbox.to_string();
            tracing::info!(target: "mta", %session, %transaction, mailbox, reason, "quarantined");
            Some(PathBuf::from(QUARANTINE))
        }
        // To deliver; and whatever a later version adds, because that is certain not to lose mail.
        _ => Some(mailbox_directory(mailbox)?),
    })
}

fn write_copy(message: &Message, mailbox: &Mailbox, file: &mut dyn Write) -> io::Result<()> {
    file.write_all(return_path(message.reverse_path()).as_bytes())?;
    file.write_all(delivered_to(mailbox).as_bytes())?;
    io::copy(&mut message.reader()?, file).map(drop)
}

/// What the client is told. All trouble of ours is transient (SECURITY.md G5).
fn refusal(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::transient(3, 1, "Insufficient storage, try again later").with_code(452)
        }
        _ => storage_failure(),
    }
}

fn storage_failure() -> Refusal {
    Refusal::transient(3, 0, "Temporary failure, try again later")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY.md D-32, G5: no trouble with the disk is a permanent answer.
    fn d32_trouble_with_the_disk_is_transient() {
        for (errno, expected) in
            [(28, "452 4.3.1"), (122, "452 4.3.1"), (5, "451 4.3.0"), (24, "451 4.3.0"), (30, "451 4.3.0")]
        {
            let refusal = refusal(&io::Error::from_raw_os_error(errno)).to_string();
            assert!(refusal.starts_with(expected), "errno {errno}: {refusal}");
        }
    }
}
