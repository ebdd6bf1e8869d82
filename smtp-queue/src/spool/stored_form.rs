//! The readers of what is stored, for tests outside this crate: they meet octets that no writer made.
//!
//! Each function reads, and writes again what was understood. Reading must not depend on anything but the octets, so
//! what is written again is read as the same value, and written as the same octets.

use crate::envelope::Envelope;
use crate::id::QueueId;
use crate::progress::Progress;

use super::record::{RecordError, decode_envelope, decode_progress, encode_envelope, encode_progress};
use super::segment;

/// Reads the stored form of an envelope.
///
/// # Errors
/// What is missing or wrong.
pub fn read_envelope(id: QueueId, octets: &[u8]) -> Result<Envelope, RecordError> {
    decode_envelope(id, octets)
}

/// The stored form of an envelope.
pub fn write_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut octets = Vec::new();
    encode_envelope(envelope, &mut octets);
    octets
}

/// Reads the stored form of a progress.
///
/// # Errors
/// What is missing or wrong.
pub fn read_progress(octets: &[u8]) -> Result<Progress, RecordError> {
    decode_progress(octets)
}

/// The stored form of a progress.
pub fn write_progress(progress: &Progress) -> Vec<u8> {
    let mut octets = Vec::new();
    encode_progress(progress, &mut octets);
    octets
}

/// Reads the payload of a record of the log and writes it again; `None` where there is no such kind of record, or the
/// payload cannot be read.
pub fn rewrite_payload(kind: u8, payload: &[u8]) -> Option<Vec<u8>> {
    segment::rewrite_payload(kind, payload)
}

/// Reads the header of a batch or of a record and writes it again; `None` where it does not prove itself.
pub fn rewrite_header(octets: &[u8]) -> Option<Vec<u8>> {
    segment::rewrite_header(octets)
}
