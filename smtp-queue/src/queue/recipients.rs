//! Recipients without repetition: what is kept of a mailbox that was named twice.

use std::collections::HashMap;

use smtp_core::{Disposition, Mailbox, Notify};

use crate::envelope::QueuedRecipient;

/// Recipients without repetition: one copy for each mailbox, however many paths lead there.
#[derive(Default)]
pub(super) struct Recipients {
    pub(super) list: Vec<QueuedRecipient>,
    /// Where each mailbox stands in the list; empty while there are few.
    places: HashMap<Mailbox, usize>,
}

/// Up to so many recipients are looked through one by one.
const FEW: usize = 8;

impl Recipients {
    pub(super) fn add(&mut self, new: QueuedRecipient) {
        if let Some(place) = self.place_of(&new.mailbox) {
            // Of two copies the one that is read is kept.
            let earlier = &mut self.list[place];
            if rank(&new.disposition) < rank(&earlier.disposition) {
                earlier.disposition = new.disposition;
            }
            earlier.is_role |= new.is_role;
            // One copy, so each owner that is asked for must be the one of today (RFC 7293 §5.1).
            earlier.valid_since = match (earlier.valid_since, new.valid_since) {
                (Some(one), Some(other)) => Some(one.stricter(other)),
                (one, other) => one.or(other),
            };
            // What is told of the one copy is what was asked of any of them, under the name of the first that wants it.
            let (notify, more) = (earlier.dsn.notify(), new.dsn.notify());
            if notify == Notify::NEVER && more != Notify::NEVER {
                (earlier.path, earlier.dsn) = (new.path, new.dsn);
            } else if notify != notify | more {
                earlier.dsn.notify = Some(notify | more);
            }
            return;
        }
        if self.list.len() >= FEW {
            if self.places.is_empty() {
                self.places = self.list.iter().map(|known| known.mailbox.clone()).zip(0..).collect();
            }
            self.places.insert(new.mailbox.clone(), self.list.len());
        }
        self.list.push(new);
    }

    fn place_of(&self, mailbox: &Mailbox) -> Option<usize> {
        if self.places.is_empty() {
            return self.list.iter().position(|known| known.mailbox == *mailbox);
        }
        self.places.get(mailbox).copied()
    }

    pub(super) fn take_discarded(&mut self) -> Vec<(Mailbox, String)> {
        let mut discarded = Vec::new();
        self.list.retain(|recipient| match &recipient.disposition {
            Disposition::Discard(reason) => {
                discarded.push((recipient.mailbox.clone(), reason.clone()));
                false
            }
            _ => true,
        });
        discarded
    }
}

/// How far from the reader's eyes a copy ends. What a later version adds is delivered.
fn rank(disposition: &Disposition) -> u8 {
    match disposition {
        Disposition::Junk => 1,
        Disposition::Quarantine(_) => 2,
        Disposition::Discard(_) => 3,
        _ => 0,
    }
}
