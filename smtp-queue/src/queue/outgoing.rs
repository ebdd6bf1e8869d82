//! What next hops see of a message: decided once, before its record is written, and kept with it (PRACTICES.md S32, S39).

use std::collections::HashMap;

use bytes::Bytes;
use smtp_core::{
    DeliveryEvent, HeaderField, Outbound, OutboundContent, OutboundRecipient, ReversePath, SafeText, Transient,
};

use crate::envelope::{Envelope, QueuedRecipient};
use crate::spool::NewContent;

use super::shared::{Shared, with_causes};

/// What the outbound policy has decided of a message.
pub(super) struct Outgoing {
    /// One for each recipient.
    reverse_paths: Vec<ReversePath>,
    /// What goes in front.
    fields: Vec<HeaderField>,
}

impl Shared {
    /// Asks how a message leaves for each recipient; `None` where there is no policy.
    pub(super) async fn outgoing(
        &self,
        message: &Outbound<'_>,
        recipients: &[QueuedRecipient],
        content: &NewContent,
    ) -> Result<Option<Outgoing>, Transient> {
        let Some(policy) = &self.outbound else { return Ok(None) };
        let as_received = message.reverse_path();
        let mut asked: Vec<_> = recipients
            .iter()
            .map(|to| OutboundRecipient::new(to.mailbox.clone(), as_received.clone()).named(to.path.clone()))
            .collect();
        policy.enqueue(message, &mut asked).await?;
        let NewContent { head, content, skipped_octets } = content;
        let content = OutboundContent::new(head.clone(), content.clone(), *skipped_octets);
        let fields = policy.sign(message, &asked, &content).await?;
        let reverse_paths = asked.into_iter().map(|recipient| recipient.reverse_path().clone()).collect();
        Ok(Some(Outgoing { reverse_paths, fields }))
    }

    pub(super) fn policy_failed(&self, error: &Transient) {
        let cause = SafeText::new(with_causes(error));
        self.tell(|| DeliveryEvent::StoreFailed { action: "ask the outbound policy", cause, stops: false });
    }
}

impl Outgoing {
    /// Keeps it with the message. The content is not touched: fields are put in front of what is there.
    pub(super) fn apply(self, envelope: &mut Envelope, content: &mut NewContent) {
        set_outgoing(envelope, self.reverse_paths);
        if !self.fields.is_empty() {
            let fields = self.fields.iter().map(HeaderField::as_bytes);
            content.head = Bytes::from(fields.chain([&content.head[..]]).collect::<Vec<_>>().concat());
        }
    }
}

/// Makes the table of outgoing reverse-paths, each of them once.
fn set_outgoing(envelope: &mut Envelope, outgoing: Vec<ReversePath>) {
    let mut places: HashMap<ReversePath, u32> = HashMap::new();
    envelope.outgoing.clear();
    for (recipient, path) in envelope.recipients.iter_mut().zip(outgoing) {
        let next =
            u32::try_from(places.len()).expect("there are no more paths than recipients, and these are counted in u32");
        recipient.outgoing = *places.entry(path).or_insert_with_key(|path| {
            envelope.outgoing.push(path.clone());
            next
        });
    }
}
