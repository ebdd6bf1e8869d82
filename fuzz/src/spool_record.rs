//! The law of stored records: a reader of what no writer made does not panic and takes little memory, and what it
//! understood is written and understood again.
//!
//! The first octet of an input chooses the reader, so that a seed is a stored record behind one octet.

use std::mem::size_of;

use smtp_core::RecipientDsn;
use smtp_queue::{Diagnosis, Envelope, Progress, QueueId, QueuedRecipient, WaitingRecipient, stored_form};

/// The most octets of memory for each octet that was read, and for none: a recipient of 15 stored octets becomes a value
/// of some 200, and a growing list doubles.
const MEMORY_FACTOR: usize = 64;
const MEMORY_OCTETS: usize = 4096;

/// Reads one record.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let Some((&reader, octets)) = data.split_first() else { return };
    match reader % 9 {
        0 => envelope(octets),
        1 => progress(octets),
        2 => header(octets),
        kind => payload(kind - 2, octets),
    }
}

fn envelope(octets: &[u8]) {
    let id = QueueId::from_u128(7);
    let Ok(envelope) = stored_form::read_envelope(id, octets) else { return };
    takes_little(octets, envelope_octets(&envelope));
    for recipient in &envelope.recipients {
        // Whoever sends it looks its reverse-path up.
        assert!(envelope.outgoing.get(recipient.outgoing as usize) == Some(envelope.outgoing_of(recipient)));
        // Whoever sends it on, or writes a notification, puts these on a line.
        for text in recipient.dsn.original_recipient.iter().flat_map(|dsn| [dsn.address_type(), dsn.address()]) {
            is_printable(text);
        }
    }
    if let Some(id) = &envelope.dsn.envelope_id {
        is_printable(id.as_str());
    }
    let written = stored_form::write_envelope(&envelope);
    let again = stored_form::read_envelope(id, &written).expect("what was written can be read");
    assert_eq!(again, envelope);
    assert_eq!(stored_form::write_envelope(&again), written, "a second writing changes nothing");
}

fn is_printable(text: &str) {
    assert!(!text.is_empty() && text.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{text:?}");
}

fn envelope_octets(envelope: &Envelope) -> usize {
    let origin = &envelope.origin;
    envelope.recipients.capacity() * size_of::<QueuedRecipient>()
        + envelope.outgoing.capacity() * size_of::<smtp_core::ReversePath>()
        + origin.transaction.len()
        + origin.identity.as_ref().map_or(0, |identity| identity.as_str().len())
        + envelope.dsn.envelope_id.as_ref().map_or(0, |id| id.as_str().len())
        + envelope.recipients.iter().map(|recipient| original_octets(&recipient.dsn)).sum::<usize>()
}

fn original_octets(dsn: &RecipientDsn) -> usize {
    dsn.original_recipient.as_ref().map_or(0, |original| original.address_type().len() + original.address().len())
}

fn progress(octets: &[u8]) {
    let Ok(progress) = stored_form::read_progress(octets) else { return };
    takes_little(octets, progress_octets(&progress));
    let written = stored_form::write_progress(&progress);
    let again = stored_form::read_progress(&written).expect("what was written can be read");
    assert_eq!(again, progress);
    assert_eq!(stored_form::write_progress(&again), written, "a second writing changes nothing");
}

fn progress_octets(progress: &Progress) -> usize {
    let words = |diagnosis: &Diagnosis| {
        diagnosis.reply.text().len() + diagnosis.remote.as_ref().map_or(0, |remote| remote.as_str().len())
    };
    let texts: usize = progress.waiting.iter().filter_map(|waiting| waiting.last.as_ref()).map(words).sum();
    progress.waiting.capacity() * size_of::<WaitingRecipient>() + progress.site.len() + texts
}

fn takes_little(octets: &[u8], taken: usize) {
    let most = octets.len() * MEMORY_FACTOR + MEMORY_OCTETS;
    assert!(taken <= most, "{taken} octets of memory for {} octets", octets.len());
}

fn header(octets: &[u8]) {
    let Some(written) = stored_form::rewrite_header(octets) else { return };
    assert_eq!(stored_form::rewrite_header(&written).as_ref(), Some(&written));
    // STANDARDS.md C2: it proves itself, so no other octet says the same.
    for place in 0..written.len() {
        let mut damaged = written.clone();
        damaged[place] ^= 1 << (place % 8);
        assert_eq!(stored_form::rewrite_header(&damaged), None, "octet {place}");
    }
}

fn payload(kind: u8, octets: &[u8]) {
    let Some(written) = stored_form::rewrite_payload(kind, octets) else { return };
    takes_little(octets, written.len());
    let again = stored_form::rewrite_payload(kind, &written);
    assert_eq!(again.as_ref(), Some(&written), "a second writing changes nothing");
}
