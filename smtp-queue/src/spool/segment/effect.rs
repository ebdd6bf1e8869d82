//! What a record means: read from its payload at recovery, and known beforehand when it is written.

use bytes::Bytes;

use crate::envelope::SiteName;
use crate::id::QueueId;
use crate::progress::Progress;
use crate::spool::record::{RecordError, count_recipients, decode_progress, encode_progress, micros, priority_of};

use super::format::Kind;

/// What the index knows of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairFacts {
    pub(super) site: SiteName,
    /// Microseconds since 1970.
    pub(super) next_attempt: u64,
    pub(super) attempts: u32,
    /// How many recipients wait there.
    pub(super) waiting: u32,
}

impl From<&Progress> for PairFacts {
    fn from(progress: &Progress) -> Self {
        Self {
            site: progress.site.clone(),
            next_attempt: micros(progress.next_attempt),
            attempts: progress.attempts,
            waiting: u32::try_from(progress.waiting.len()).unwrap_or(u32::MAX),
        }
    }
}

/// What changes when a record is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The message is as the record says, whatever was known before.
    Message { octets: u64, recipients: u32, priority: i8, in_file: bool, held: bool, pairs: Vec<PairFacts> },
    /// The pair that the record of the message knows at this site is now such.
    Progress { from: SiteName, pair: PairFacts },
    /// The pair that the record of the message knows at this site is done with.
    Done { site: SiteName },
    /// The message is held, or goes on.
    Held(bool),
    /// The message is gone.
    Removal,
}

/// The sections of a message's payload: what stands in front of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageHead {
    pub(super) envelope_octets: u32,
    pub(super) progress_octets: u32,
    pub(super) head_octets: u32,
    /// Octets of the content, wherever it is, without those that are left out.
    pub(super) content_octets: u64,
    /// Octets at the start of a content file that are left out.
    pub(super) skipped_octets: u64,
    pub(super) held: bool,
    /// The checksum of the whole content file; 0 where there is none.
    pub(super) file_sum: u32,
}

/// How long the fixed part in front of the sections is.
pub(super) const MESSAGE_HEAD_OCTETS: usize = 36;

impl MessageHead {
    pub(super) fn encode(&self) -> [u8; MESSAGE_HEAD_OCTETS] {
        let mut octets = [0; MESSAGE_HEAD_OCTETS];
        octets[..4].copy_from_slice(&self.envelope_octets.to_le_bytes());
        octets[4..8].copy_from_slice(&self.progress_octets.to_le_bytes());
        octets[8..12].copy_from_slice(&self.head_octets.to_le_bytes());
        octets[12..20].copy_from_slice(&self.content_octets.to_le_bytes());
        octets[20..28].copy_from_slice(&self.skipped_octets.to_le_bytes());
        octets[28] = u8::from(self.held);
        // 29..32 is for later versions.
        octets[32..].copy_from_slice(&self.file_sum.to_le_bytes());
        octets
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let octets: &[u8; MESSAGE_HEAD_OCTETS] = payload.first_chunk()?;
        let number = |place: usize| u32::from_le_bytes(octets[place..place + 4].try_into().expect("four octets"));
        let large = |place: usize| u64::from_le_bytes(octets[place..place + 8].try_into().expect("eight octets"));
        Some(Self {
            envelope_octets: number(0),
            progress_octets: number(4),
            head_octets: number(8),
            content_octets: large(12),
            skipped_octets: large(20),
            held: octets[28] & 1 == 1,
            file_sum: number(32),
        })
    }

    /// How long the content file is; `None` where that is no number.
    pub(super) fn file_octets(&self) -> Option<u64> {
        self.skipped_octets.checked_add(self.content_octets)
    }

    /// Octets of the payload up to the header fields of ours: all that the index needs.
    pub(super) fn facts_octets(&self) -> usize {
        MESSAGE_HEAD_OCTETS.saturating_add(self.envelope_octets as usize).saturating_add(self.progress_octets as usize)
    }
}

/// The sections of a message that were read.
#[derive(Debug)]
pub(super) struct MessageSections<'a> {
    pub(super) head: MessageHead,
    pub(super) envelope: &'a [u8],
    pub(super) progress: &'a [u8],
    /// What stands behind: header fields of ours, then the content where it is in the log.
    pub(super) rest: &'a [u8],
}

impl<'a> MessageSections<'a> {
    pub(super) fn split(payload: &'a [u8]) -> Option<Self> {
        let head = MessageHead::decode(payload)?;
        let (envelope, rest) = payload[MESSAGE_HEAD_OCTETS..].split_at_checked(head.envelope_octets as usize)?;
        let (progress, rest) = rest.split_at_checked(head.progress_octets as usize)?;
        Some(Self { head, envelope, progress, rest })
    }

    /// The progress at each site as it was when this record was written.
    pub(super) fn progress(&self) -> Result<Vec<Progress>, RecordError> {
        split_progress(self.progress)
    }
}

/// Appends the progress at several sites, each behind its length.
pub(super) fn join_progress<'a>(all: impl IntoIterator<Item = &'a Progress>, output: &mut Vec<u8>) {
    for progress in all {
        let place = output.len();
        output.extend_from_slice(&[0; 4]);
        encode_progress(progress, output);
        let octets = u32::try_from(output.len() - place - 4).expect("a record is far smaller than 4 GiB");
        output[place..place + 4].copy_from_slice(&octets.to_le_bytes());
    }
}

fn split_progress(mut octets: &[u8]) -> Result<Vec<Progress>, RecordError> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        let (length, rest) = octets.split_first_chunk().ok_or(RecordError::PROGRESS)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (one, rest) = rest.split_at_checked(length).ok_or(RecordError::PROGRESS)?;
        all.push(decode_progress(one)?);
        octets = rest;
    }
    Ok(all)
}

/// The payload of a progress: the site that the record of the message names for it, then what is new.
pub(super) fn encode_move(from: &SiteName, progress: &Progress) -> Bytes {
    let mut payload = Vec::with_capacity(128);
    put_site(from, &mut payload);
    encode_progress(progress, &mut payload);
    payload.into()
}

/// Reads [`encode_move`] back.
pub(super) fn decode_move(payload: &[u8]) -> Option<(SiteName, Progress)> {
    let (from, progress) = split_site(payload)?;
    Some((from, decode_progress(progress).ok()?))
}

fn put_site(site: &SiteName, output: &mut Vec<u8>) {
    output.extend_from_slice(&u32::try_from(site.len()).expect("names of sites are short").to_le_bytes());
    output.extend_from_slice(site.as_bytes());
}

fn split_site(payload: &[u8]) -> Option<(SiteName, &[u8])> {
    let (length, rest) = payload.split_first_chunk()?;
    let (site, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(site).ok()?.into(), rest))
}

/// Reads the epochs of a removal, or of the end of a pair: where records of the message could be read when that was
/// written. As long as one of these segments is there, somebody has to say that the message is gone.
pub(super) fn decode_graves(kind: Kind, payload: &[u8]) -> Option<Vec<u64>> {
    let octets = match kind {
        Kind::Removal => payload,
        Kind::Done => split_site(payload)?.1,
        _ => return None,
    };
    let (epochs, rest) = octets.as_chunks();
    rest.is_empty().then(|| epochs.iter().map(|epoch| u64::from_le_bytes(*epoch)).collect())
}

/// The payload of the end of a pair: the site that the record of the message names for it, then the graves.
fn encode_done(site: &SiteName, graves: &[u64]) -> Bytes {
    let mut payload = Vec::with_capacity(4 + site.len() + 8 * graves.len());
    put_site(site, &mut payload);
    put_graves(graves, &mut payload);
    payload.into()
}

fn encode_removal(graves: &[u64]) -> Bytes {
    let mut payload = Vec::with_capacity(8 * graves.len());
    put_graves(graves, &mut payload);
    payload.into()
}

fn put_graves(epochs: &[u64], output: &mut Vec<u8>) {
    output.extend(epochs.iter().flat_map(|epoch| epoch.to_le_bytes()));
}

impl Effect {
    /// From the payload of a record. Of a message only the part in front of its content is needed
    /// ([`MessageHead::facts_octets`]). `None` where it cannot be read.
    pub(super) fn decode(kind: Kind, payload: &[u8]) -> Option<Self> {
        match kind {
            Kind::Message | Kind::ContentReference => {
                let sections = MessageSections::split(payload)?;
                let all = sections.progress().ok()?;
                let octets = u64::from(sections.head.head_octets).checked_add(sections.head.content_octets)?;
                let in_file = kind == Kind::ContentReference;
                Some(Self::Message {
                    octets,
                    recipients: count_recipients(sections.envelope),
                    priority: priority_of(sections.envelope).get(),
                    in_file,
                    held: sections.head.held,
                    pairs: all.iter().map(PairFacts::from).collect(),
                })
            }
            Kind::Progress => {
                let (from, progress) = decode_move(payload)?;
                Some(Self::Progress { from, pair: PairFacts::from(&progress) })
            }
            Kind::Done => {
                decode_graves(kind, payload)?;
                Some(Self::Done { site: split_site(payload)?.0 })
            }
            Kind::Held => match payload {
                [held] => Some(Self::Held(*held == 1)),
                _ => None,
            },
            Kind::Removal => decode_graves(kind, payload).map(|_| Self::Removal),
        }
    }
}

/// Reads a payload and writes it again.
#[cfg(feature = "simulation")]
pub(in crate::spool) fn rewrite_payload(kind: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let kind = Kind::from_number(kind)?;
    let effect = Effect::decode(kind, payload)?;
    Some(match effect {
        Effect::Message { .. } => {
            let sections = MessageSections::split(payload)?;
            let mut progress = Vec::new();
            join_progress(&sections.progress().ok()?, &mut progress);
            let progress_octets = u32::try_from(progress.len()).ok()?;
            let head = MessageHead { progress_octets, ..sections.head }.encode();
            [&head[..], sections.envelope, &progress, sections.rest].concat()
        }
        Effect::Progress { .. } => decode_move(payload).map(|(from, progress)| encode_move(&from, &progress))?.into(),
        Effect::Held(held) => vec![u8::from(held)],
        Effect::Done { site } => encode_done(&site, &decode_graves(kind, payload)?).into(),
        Effect::Removal => encode_removal(&decode_graves(kind, payload)?).into(),
    })
}

/// A record that is to be written.
#[derive(Debug)]
pub(super) struct NewRecord {
    pub(super) kind: Kind,
    pub(super) id: QueueId,
    /// Its payload in parts, so that content is not copied.
    pub(super) parts: Vec<Bytes>,
    pub(super) octets: u32,
    pub(super) payload_sum: u32,
    pub(super) effect: Effect,
}

impl NewRecord {
    /// `None` where it is larger than a record can be.
    pub(super) fn new(kind: Kind, id: QueueId, parts: Vec<Bytes>, effect: Effect) -> Option<Self> {
        let octets: usize = parts.iter().map(Bytes::len).sum();
        let octets = u32::try_from(octets).ok().filter(|octets| *octets <= super::format::PAYLOAD_LIMIT_OCTETS)?;
        let payload_sum = super::format::payload_sum(parts.iter().map(|part| &part[..]));
        Some(Self { kind, id, parts, octets, payload_sum, effect })
    }

    pub(super) fn progress(id: QueueId, from: SiteName, progress: &Progress) -> Option<Self> {
        let pair = PairFacts::from(progress);
        Self::new(Kind::Progress, id, vec![encode_move(&from, progress)], Effect::Progress { from, pair })
    }

    pub(super) fn done(id: QueueId, site: SiteName, graves: &[u64]) -> Option<Self> {
        Self::new(Kind::Done, id, vec![encode_done(&site, graves)], Effect::Done { site })
    }

    pub(super) fn held(id: QueueId, held: bool) -> Option<Self> {
        Self::new(Kind::Held, id, vec![Bytes::from_static(if held { &[1] } else { &[0] })], Effect::Held(held))
    }

    /// With the epochs of the segments in which records of the message can be read ([`decode_graves`]).
    pub(super) fn removal(id: QueueId, graves: &[u64]) -> Option<Self> {
        Self::new(Kind::Removal, id, vec![encode_removal(graves)], Effect::Removal)
    }

    /// Octets in the log: header and payload.
    pub(super) fn extent(&self) -> u64 {
        super::format::RECORD_HEADER_OCTETS as u64 + u64::from(self.octets)
    }
}
