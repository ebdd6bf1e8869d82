//! Empties sparse segments: what still matters in them is appended again, so that they can be recycled.
//!
//! A message is appended with its progress as it is now, so that all older records of it are dead. What says that a
//! message is gone is appended again only where a record of that message can still be read somewhere: it names the
//! segments.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::QueueId;
use crate::storage::StorageFile;

use super::committer::{Committer, Shared};
use super::effect::{Effect, MessageHead, NewRecord, PairFacts, decode_graves, decode_move, join_progress};
use super::format::{Kind, PAYLOAD_LIMIT_OCTETS};
use super::index::MessageFacts;
use super::lock;
use super::log::{Log, WriteError};
use super::read::Reader;
use super::scan::{Scan, Verify};
use super::segments::Place;

/// Empties the segment that it pays most to empty, if there is one, none is empty already, and there are many or no room.
pub(super) fn empty_one(committer: &mut Committer) -> Result<(), WriteError> {
    if committer.no_room_since == Some(committer.log.last_batch()) {
        return Ok(());
    }
    // What waits long and what passes quickly come into the same segments. Whatever is moved at once is soon the rest of
    // a sparse segment again; so a few are left as they are while there is room.
    let spared = if committer.log.may_grow() { committer.shared.settings.kept_segments } else { 0 };
    let (number, epoch, file, octets) = {
        let index = lock(&committer.shared.index);
        if index.segments.recyclable().is_some() {
            return Ok(());
        }
        let Some(number) = index.segments.worth_emptying(&committer.stuck, spared) else { return Ok(()) };
        let Some(segment) = index.segments.get(number) else { return Ok(()) };
        (number, segment.epoch, segment.file.clone(), segment.octets)
    };
    // What cannot be read cannot be moved: the segment stays as it is.
    let Some(Collected { records, old_notes }) = collect(&committer.shared, (number, epoch), file, octets) else {
        committer.stuck.insert(epoch);
        return Ok(());
    };
    let extents = records.iter().map(NewRecord::extent).sum();
    if !records.is_empty() && !committer.log.has_room(Log::batch_octets(extents), false) {
        // Looking again before something has changed would only cost time.
        committer.no_room_since = Some(committer.log.last_batch());
        return Ok(());
    }
    let early = committer.shared.settings.faults().recycles_before_relocation_is_synced;
    committer.write(&records, !early)?;
    let mut index = lock(&committer.shared.index);
    for (id, place) in old_notes {
        index.drop_note(id, place);
    }
    let still_buries = records.iter().any(|record| record.kind == Kind::Removal);
    let by = committer.log.active_segment().filter(|_| still_buries);
    index.segments.bury_elsewhere(number, by);
    Ok(())
}

/// What still matters in a segment.
#[derive(Default)]
struct Collected {
    /// As it is to be appended.
    records: Vec<NewRecord>,
    /// Notes that are dead once that is durable.
    old_notes: Vec<(QueueId, Place)>,
}

/// The records of a segment that still matter, as they are to be appended. `None` where one cannot be read.
fn collect(shared: &Shared, (number, epoch): (u32, u64), file: Arc<dyn StorageFile>, octets: u64) -> Option<Collected> {
    let there: HashSet<u64> = lock(&shared.index).segments.iter().map(|(_, segment)| segment.epoch).collect();
    let mut scan = Scan::new(file, octets, epoch, 0, Verify::All);
    let mut collected = Collected::default();
    let Collected { records, old_notes } = &mut collected;
    let mut seen = HashSet::new();
    while let Some(batch) = scan.next_batch().ok()? {
        if !batch.damage.is_empty() {
            return None;
        }
        for record in &batch.records {
            let header = record.header;
            let offset = u32::try_from(record.offset).ok()?;
            let extent = u32::try_from(header.extent()).ok()?;
            let place = Place { segment: number, offset, octets: extent };
            let id = header.id;
            let facts = lock(&shared.index).message(id);
            match (header.kind, facts) {
                (Kind::Message | Kind::ContentReference, Some(facts)) if facts.place == place => {
                    seen.insert(id);
                    records.push(message(shared, header.kind, &facts)?);
                }
                // The message itself is appended again, with all that is known of it.
                (Kind::Progress | Kind::Done | Kind::Held, Some(_)) if seen.contains(&id) => {}
                (Kind::Progress, Some(facts)) if facts.pairs.iter().any(|pair| pair.place == Some(place)) => {
                    let payload = scan.payload(record, PAYLOAD_LIMIT_OCTETS as usize).ok()?;
                    let (from, progress) = decode_move(payload)?;
                    records.push(NewRecord::progress(id, from, &progress)?);
                }
                (Kind::Done, Some(facts)) if lock(&shared.index).is_note(id, place) => {
                    let payload = scan.payload(record, PAYLOAD_LIMIT_OCTETS as usize).ok()?;
                    let Effect::Done { site } = Effect::decode(header.kind, payload)? else { return None };
                    if facts.pairs.iter().all(|pair| pair.key != site) {
                        let graves = lock(&shared.index).graves_of(id);
                        records.push(NewRecord::done(id, site, &graves)?);
                    }
                    old_notes.push((id, place));
                }
                (Kind::Held, Some(facts)) if lock(&shared.index).is_note(id, place) => {
                    records.push(NewRecord::held(id, facts.held)?);
                    old_notes.push((id, place));
                }
                (Kind::Removal | Kind::Done, None) => {
                    let payload = scan.payload(record, PAYLOAD_LIMIT_OCTETS as usize).ok()?;
                    let mut graves = decode_graves(header.kind, payload)?;
                    graves.retain(|grave| *grave != epoch && there.contains(grave));
                    if !graves.is_empty() {
                        records.push(NewRecord::removal(id, &graves)?);
                    }
                }
                _ => {}
            }
        }
    }
    Some(collected)
}

/// A message as it is to be appended: its record, with the progress of today.
fn message(shared: &Shared, kind: Kind, facts: &MessageFacts) -> Option<NewRecord> {
    let (head, envelope, rest) = Reader::new(shared).parts(facts.id).ok()?;
    let mut all = Vec::with_capacity(facts.pairs.len());
    for pair in &facts.pairs {
        all.push(Reader::new(shared).progress(facts.id, &pair.facts.site).ok()?);
    }
    let mut progress = Vec::new();
    join_progress(&all, &mut progress);
    let head = MessageHead { progress_octets: u32::try_from(progress.len()).ok()?, held: facts.held, ..head };
    let effect = Effect::Message {
        octets: u64::from(head.head_octets) + head.content_octets,
        recipients: facts.recipients,
        priority: facts.priority,
        in_file: facts.in_file,
        held: facts.held,
        pairs: all.iter().map(PairFacts::from).collect(),
    };
    let parts = vec![Bytes::copy_from_slice(&head.encode()), envelope, progress.into(), rest];
    NewRecord::new(kind, facts.id, parts, effect)
}
