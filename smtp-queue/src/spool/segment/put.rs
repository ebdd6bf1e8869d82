//! A new message becomes a record, and a file where its content is large.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::QueueId;
use crate::spool::record::encode_envelope;
use crate::spool::{NewMessage, SpoolError};

use super::effect::{Effect, MESSAGE_HEAD_OCTETS, MessageHead, NewRecord, PairFacts, join_progress};
use super::format::Kind;
use super::log::{self, Log};
use super::{SegmentSpool, content, io_error};

impl SegmentSpool {
    /// The record of a message whose content, where it is large, is in its file already, with that checksum.
    fn record_of(&self, message: &NewMessage, file_sum: Option<u32>) -> Result<NewRecord, SpoolError> {
        let content = &message.content;
        let in_file = file_sum.is_some();
        let skipped = content.skipped_octets.min(content.content.len());
        let content_octets = content.content.len() - skipped;
        let mut envelope = Vec::with_capacity(512);
        envelope.resize(MESSAGE_HEAD_OCTETS, 0);
        encode_envelope(&message.envelope, &mut envelope);
        let envelope_octets = envelope.len() - MESSAGE_HEAD_OCTETS;
        join_progress(message.progress.iter().map(|new| &new.progress), &mut envelope);
        let progress_octets = envelope.len() - MESSAGE_HEAD_OCTETS - envelope_octets;
        let too_large = || SpoolError::Invalid("its envelope is too large");
        let small = |octets: usize| u32::try_from(octets).map_err(|_| too_large());
        let head = MessageHead {
            envelope_octets: small(envelope_octets)?,
            progress_octets: small(progress_octets)?,
            head_octets: small(content.head.len())?,
            content_octets,
            skipped_octets: skipped,
            held: false,
            file_sum: file_sum.unwrap_or(0),
        };
        envelope[..MESSAGE_HEAD_OCTETS].copy_from_slice(&head.encode());
        let effect = Effect::Message {
            octets: content.head.len() as u64 + content_octets,
            recipients: small(message.envelope.recipients.len())?,
            priority: message.envelope.priority.get(),
            in_file,
            held: false,
            pairs: message.progress.iter().map(|new| PairFacts::from(&new.progress)).collect(),
        };
        let mut parts = vec![Bytes::from(envelope), content.head.clone()];
        if !in_file {
            let octets = content.content.to_bytes().map_err(|cause| io_error("read the content", cause))?;
            parts.push(octets.slice(usize::try_from(skipped).unwrap_or(usize::MAX)..));
        }
        let kind = if in_file { Kind::ContentReference } else { Kind::Message };
        let record = NewRecord::new(kind, message.envelope.id, parts, effect).ok_or_else(too_large)?;
        if Log::batch_octets(record.extent()) > self.segment_octets / 2 {
            return Err(too_large());
        }
        Ok(record)
    }

    pub(super) fn is_large(&self, message: &NewMessage) -> bool {
        let limit = self.shared.settings.content_octets.min(self.segment_octets / 8);
        message.content.content.len() > limit
    }

    /// Makes a message ready to be written: its record, and the file of its content where that is large.
    pub(super) async fn ready(&self, message: NewMessage) -> Result<NewRecord, SpoolError> {
        let envelope = &message.envelope;
        message.check()?;
        if self.is_read_only() {
            return Err(SpoolError::ReadOnly);
        }
        let mut file_sum = None;
        if self.is_large(&message) {
            let (id, content) = (envelope.id, message.content.clone());
            let stored = self.off_the_runtime(move |shared| {
                content::store(&*shared.storage, id, &content).map_err(|cause| {
                    if log::is_full(&cause) {
                        SpoolError::Full(Some(Arc::new(cause)))
                    } else {
                        io_error("store the content", cause)
                    }
                })
            });
            file_sum = Some(stored.await?);
        }
        self.record_of(&message, file_sum)
    }

    /// A message was not taken, so the file of its content is not needed; it does no harm until the next start removes it.
    pub(super) fn discard(&self, messages: &[QueueId]) {
        for id in messages {
            let _ = self.shared.storage.remove(&content::path(*id));
        }
    }
}
