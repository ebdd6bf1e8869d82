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

/// The payload of the record at that place. `None` where there is another record by now, or none that proves itself.
fn payload(shared: &Shared, id: QueueId, place: Place) -> Result<Option<Vec<u8>>, SpoolError> {
    let segment = lock(&shared.index).segments.get(place.segment).map(|segment| (segment.epoch, segment.file.clone()));
    let Some((epoch, file)) = segment else { return Ok(None) };
    let mut record = vec![0; place.octets as usize];
    if file.read_at(u64::from(place.offset), &mut record).map_err(failed)? < record.len() {
        return Ok(None);
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
    shared: &Shared,
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
        if let Some(found) = payload(shared, id, now)?.and_then(&decode) {
            return Ok(found);
        }
        last = Some(now);
    }
    Err(set_aside(shared, id))
}

/// A message cannot be read: nobody is given it any more.
fn set_aside(shared: &Shared, id: QueueId) -> SpoolError {
    lock(&shared.index).set_damaged(id);
    shared.settings.alarm(&SpoolAlarm::Damaged { id });
    SpoolError::Damaged { id }
}

fn message_place(shared: &Shared, id: QueueId) -> Option<Place> {
    lock(&shared.index).view(id).map(MessageView::place)
}

/// The whole payload of a message: checksums cover it whole, so a part of it proves nothing.
fn whole(shared: &Shared, id: QueueId) -> Result<Vec<u8>, SpoolError> {
    let is_split = |payload: Vec<u8>| MessageSections::split(&payload).is_some().then_some(payload);
    look(shared, id, || message_place(shared, id), is_split)
}

/// The envelope of a message.
pub(super) fn envelope(shared: &Shared, id: QueueId) -> Result<Arc<Envelope>, SpoolError> {
    decode(shared, id, &whole(shared, id)?)
}

fn decode(shared: &Shared, id: QueueId, payload: &[u8]) -> Result<Arc<Envelope>, SpoolError> {
    let found = MessageSections::split(payload).and_then(|sections| decode_envelope(id, sections.envelope).ok());
    found.map(Arc::new).ok_or_else(|| set_aside(shared, id))
}

/// The progress of a message at a site.
pub(super) fn progress(shared: &Shared, id: QueueId, site: &SiteName) -> Result<Progress, SpoolError> {
    let places = || lock(&shared.index).places(id, site);
    let first = places().ok_or(SpoolError::Absent { id })?;
    if first.progress.is_some() {
        let at = || places().and_then(|places| places.progress);
        let found = look(shared, id, at, |payload| decode_move(&payload));
        match found {
            // The message was appended again with everything, so there is no such record any more.
            Err(SpoolError::Absent { .. }) => {}
            found => return found.map(|(_, progress)| progress),
        }
    }
    let payload = whole(shared, id)?;
    let all = MessageSections::split(&payload).and_then(|sections| sections.progress().ok());
    let found = all.and_then(|all| all.into_iter().find(|progress| progress.site == *site));
    found.ok_or_else(|| set_aside(shared, id))
}

/// The content of a message.
pub(super) fn content(shared: &Shared, id: QueueId) -> Result<StoredContent, SpoolError> {
    let in_file = lock(&shared.index).view(id).map(MessageView::is_in_file).ok_or(SpoolError::Absent { id })?;
    let payload = Bytes::from(whole(shared, id)?);
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
    let Some(file) = super::content::open(&*shared.storage, id, &head).map_err(failed)? else {
        // It may have been removed in the meantime, together with its file.
        if !lock(&shared.index).contains(id) {
            return Err(SpoolError::Absent { id });
        }
        return Err(set_aside(shared, id));
    };
    Ok(StoredContent::in_file(fields, file, head.skipped_octets, head.content_octets))
}

/// The parts of a message's record that a relocation writes again: all but the progress, which has changed.
pub(super) fn parts(shared: &Shared, id: QueueId) -> Result<(MessageHead, Bytes, Bytes), SpoolError> {
    let payload = Bytes::from(whole(shared, id)?);
    let sections = MessageSections::split(&payload).ok_or(SpoolError::Damaged { id })?;
    let head = sections.head.clone();
    let from = MESSAGE_HEAD_OCTETS;
    let rest_from = payload.len() - sections.rest.len();
    let envelope = payload.slice(from..from + head.envelope_octets as usize);
    Ok((head, envelope, payload.slice(rest_from..)))
}
