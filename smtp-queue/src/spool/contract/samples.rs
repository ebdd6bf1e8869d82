//! Messages and times for the laws.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{Content, Mailbox, Reply, ReplyCode, ReversePath, SafeText};

use crate::content::StoredContent;
use crate::envelope::{Envelope, SiteName};
use crate::id::QueueId;
use crate::progress::{Diagnosis, Progress};
use crate::spool::{NewContent, NewMessage, NewProgress};

/// A message with that number as its name, one recipient for each of the sites, and content of that many octets; all of
/// it is due on 14 November 2023, 22:13:20 UTC.
///
/// # Panics
/// Never: the samples are in the grammar.
pub fn message(number: u128, sites: &[&str], octets: usize) -> NewMessage {
    let sender = ReversePath::parse(format!("<sender{number}@client.example>")).expect("in the grammar");
    let mut envelope = Envelope::new(id(number), at(0), sender);
    envelope.sender_confirmed = number % 2 == 1;
    for place in 0..sites.len() {
        envelope = envelope.with_recipient(mailbox(place));
    }
    let progress = sites.iter().enumerate().map(|(place, site)| NewProgress {
        progress: Progress::new(SiteName::from(*site), [u32::try_from(place).expect("few")], at(0)),
        lease: false,
    });
    let content: Vec<u8> =
        (0..octets).map(|place| b'a' + u8::try_from((place + octets) % 26).expect("small")).collect();
    NewMessage {
        envelope: Arc::new(envelope),
        content: NewContent {
            head: format!("Received: number {number}\r\n").into_bytes().into(),
            content: Content::new([b"X: 1\r\n", &content[..]].concat()),
            skipped_octets: if number.is_multiple_of(3) { 6 } else { 0 },
        },
        progress: progress.collect(),
    }
}

/// The name of the message with that number.
pub(super) fn id(number: u128) -> QueueId {
    QueueId::from_u128(number)
}

/// So many seconds after the start of the laws.
pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

pub(super) fn mailbox(place: usize) -> Mailbox {
    Mailbox::parse(format!("user{place}@example.org")).expect("in the grammar")
}

/// What a next hop said.
pub(super) fn diagnosis(text: String) -> Diagnosis {
    let code = ReplyCode::new(451).expect("in the grammar");
    let remote = SafeText::new("mx.example [192.0.2.1]");
    Diagnosis { reply: Reply::bare(code, text), remote: Some(remote) }
}

/// All octets of a message that was not put yet, as they are passed on.
pub(super) fn passed_on(message: &NewMessage) -> Bytes {
    let content = message.content.content.to_bytes().expect("in memory");
    let skipped = usize::try_from(message.content.skipped_octets).expect("few");
    [&message.content.head[..], &content[skipped..]].concat().into()
}

/// All octets of stored content.
pub(super) fn octets(content: &StoredContent) -> Bytes {
    let mut octets = Vec::new();
    content.reader().read_to_end(&mut octets).expect("it can be read");
    assert_eq!(octets.len() as u64, content.len(), "the length is that of the octets");
    octets.into()
}
