//! Reads records back from the log.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::content::StoredContent;
use crate::envelope::{Envelope, SiteName};
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::SpoolError;
use crate::spool::record::decode_envelope;

use super::committer::Shared;
use super::effect::{MESSAGE_HEAD_OCTETS, MessageHead, MessageSections, decode_move};
use super::format::{RECORD_HEADER_OCTETS, RecordHeader, payload_sum};
use super::index::MessageView;
use super::lock;
use super::segments::Place;
use super::settings::SpoolAlarm;

/// How often a record is looked for again because it was relocated in the meantime.
const TRIES: usize = 8;

fn failed(cause: io::Error) -> SpoolError {
    SpoolError::Io { action: "read the log", source: Arc::new(cause) }
}

/// Reads what the index knows of.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    shared: &'a Shared,
    /// Whether it waits for the disk where it must. Otherwise that is the error: [`would_wait`].
    waits: bool,
}

/// Whether a [`Reader`] that does not wait would have had to.
pub(super) fn would_wait(error: &SpoolError) -> bool {
    matches!(error, SpoolError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, waits: true }
    }

    pub(super) fn that_never_waits(shared: &'a Shared) -> Self {
        Self { shared, waits: false }
    }

    /// The payload of the record at that place. `None` where there is another record by now, or none that proves itself.
    fn payload(self, id: QueueId, place: Place) -> Result<Option<Vec<u8>>, SpoolError> {
        let segment =
            lock(&self.shared.index).segments.get(place.segment).map(|found| (found.epoch, found.file.clone()));
        let Some((epoch, file)) = segment else { return Ok(None) };
        let mut record = vec![0; place.octets as usize];
        let offset = u64::from(place.offset);
        if self.waits {
            if file.read_at(offset, &mut record).map_err(failed)? < record.len() {
                return Ok(None);
            }
        } else if file.read_at_once(offset, &mut record).map_err(failed)? < record.len() {
            return Err(failed(io::ErrorKind::WouldBlock.into()));
        }
        let is_right = |header: RecordHeader| {
            header.id == id
                && header.epoch == epoch
                && header.extent() == u64::from(place.octets)
                && header.payload_sum == payload_sum([&record[RECORD_HEADER_OCTETS..]])
        };
        let proves_itself = RecordHeader::decode(&record).is_some_and(is_right);
        Ok(proves_itself.then(|| record.split_off(RECORD_HEADER_OCTETS)))
    }

    /// Reads and decodes; tries again where the record was relocated, and sets the message aside where it is damaged.
    fn look<T>(
        self,
        id: QueueId,
        mut place: impl FnMut() -> Option<Place>,
        decode: impl Fn(Vec<u8>) -> Option<T>,
    ) -> Result<T, SpoolError> {
        let mut last = None;
        for _ in 0..TRIES {
            let now = place().ok_or(SpoolError::Absent { id })?;
            if last == Some(now) {
                break;
            }
            if let Some(found) = self.payload(id, now)?.and_then(&decode) {
                return Ok(found);
            }
            last = Some(now);
        }
        Err(self.set_aside(id))
    }

    /// A message cannot be read: nobody is given it any more.
    fn set_aside(self, id: QueueId) -> SpoolError {
        lock(&self.shared.index).set_damaged(id);
        self.shared.settings.alarm(&SpoolAlarm::Damaged { id });
        SpoolError::Damaged { id }
    }

    /// The whole payload of a message: checksums cover it whole, so a part of it proves nothing.
    fn whole(self, id: QueueId) -> Result<Vec<u8>, SpoolError> {
        let place = || lock(&self.shared.index).view(id).map(MessageView::place);
        let is_split = |payload: Vec<u8>| MessageSections::split(&payload).is_some().then_some(payload);
        self.look(id, place, is_split)
    }

    /// The envelope of a message.
    pub(super) fn envelope(self, id: QueueId) -> Result<Arc<Envelope>, SpoolError> {
        self.envelope_in(id, &self.whole(id)?)
    }

    fn envelope_in(self, id: QueueId, payload: &[u8]) -> Result<Arc<Envelope>, SpoolError> {
        let found = MessageSections::split(payload).and_then(|sections| decode_envelope(id, sections.envelope).ok());
        found.map(Arc::new).ok_or_else(|| self.set_aside(id))
    }

    /// The progress of a message at a site.
    pub(super) fn progress(self, id: QueueId, site: &SiteName) -> Result<Progress, SpoolError> {
        match self.own_progress(id, site)? {
            Some(progress) => Ok(progress),
            None => self.progress_in(id, site, &self.whole(id)?),
        }
    }

    /// What stands in a record of its own; `None` where that of the message says it.
    fn own_progress(self, id: QueueId, site: &SiteName) -> Result<Option<Progress>, SpoolError> {
        let places = || lock(&self.shared.index).places(id, site);
        if places().ok_or(SpoolError::Absent { id })?.progress.is_none() {
            return Ok(None);
        }
        let at = || places().and_then(|places| places.progress);
        match self.look(id, at, |payload| decode_move(&payload)) {
            Ok((_, progress)) => Ok(Some(progress)),
            // The message was appended again with everything, so there is no such record any more.
            Err(SpoolError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn progress_in(self, id: QueueId, site: &SiteName, payload: &[u8]) -> Result<Progress, SpoolError> {
        let all = MessageSections::split(payload).and_then(|sections| sections.progress().ok());
        let found = all.and_then(|all| all.into_iter().find(|progress| progress.site == *site));
        found.ok_or_else(|| self.set_aside(id))
    }

    /// The envelope of a message, and its progress at a site.
    pub(super) fn pair(self, id: QueueId, site: &SiteName) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        let own = self.own_progress(id, site)?;
        let payload = self.whole(id)?;
        let progress = own.map_or_else(|| self.progress_in(id, site, &payload), Ok)?;
        Ok((self.envelope_in(id, &payload)?, progress))
    }

    /// The content of a message.
    pub(super) fn content(self, id: QueueId) -> Result<StoredContent, SpoolError> {
        let in_file =
            lock(&self.shared.index).view(id).map(MessageView::is_in_file).ok_or(SpoolError::Absent { id })?;
        if in_file && !self.waits {
            return Err(failed(io::ErrorKind::WouldBlock.into()));
        }
        let payload = Bytes::from(self.whole(id)?);
        let sections = MessageSections::split(&payload).ok_or(SpoolError::Damaged { id })?;
        let head = sections.head.clone();
        let head_from = payload.len() - sections.rest.len();
        let body_from = head_from + head.head_octets as usize;
        if body_from > payload.len() {
            return Err(SpoolError::Damaged { id });
        }
        let fields = payload.slice(head_from..body_from);
        if !in_file {
            return Ok(StoredContent::in_memory(fields, payload.slice(body_from..)));
        }
        let Some(file) = super::content::open(&*self.shared.storage, id, &head).map_err(failed)? else {
            // It may have been removed in the meantime, together with its file.
            if !lock(&self.shared.index).contains(id) {
                return Err(SpoolError::Absent { id });
            }
            return Err(self.set_aside(id));
        };
        Ok(StoredContent::in_file(fields, file, head.skipped_octets, head.content_octets))
    }

    /// The parts of a message's record that a relocation writes again: all but the progress, which has changed.
    pub(super) fn parts(self, id: QueueId) -> Result<(MessageHead, Bytes, Bytes), SpoolError> {
        let payload = Bytes::from(self.whole(id)?);
        let sections = MessageSections::split(&payload).ok_or(SpoolError::Damaged { id })?;
        let head = sections.head.clone();
        let from = MESSAGE_HEAD_OCTETS;
        let rest_from = payload.len() - sections.rest.len();
        let envelope = payload.slice(from..from + head.envelope_octets as usize);
        Ok((head, envelope, payload.slice(rest_from..)))
    }
}
