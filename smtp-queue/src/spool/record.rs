//! The stored form of envelopes and progress: tagged fields, so that later versions can add some.
//!
//! A field is a tag of two octets, a length of four, and that many octets; numbers are little-endian. A reader leaves
//! out tags that it does not know, and says [`RecordError`] where a field that it needs is missing or wrong. Paths and
//! addresses are stored as text in their RFC 5321 form, which parses back to what it was.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use smtp_core::{
    Body, ByMode, Disposition, EnhancedStatusCode, EnvelopeId, ForwardPath, Identity, Mailbox, MessageDsn, Notify,
    OriginalRecipient, Priority, RecipientDsn, Reply, ReplyCode, Ret, ReversePath, SafeText, SolicitationClasses,
    Treatment, ValidSince,
};
use thiserror::Error;

use crate::envelope::{DeliverByTime, Envelope, Origin, QueuedRecipient};
use crate::id::QueueId;
use crate::progress::{Diagnosis, Progress, WaitingRecipient};

/// A stored record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the record has no valid {0}")]
pub struct RecordError(&'static str);

impl RecordError {
    /// A list of progress that does not add up.
    pub(crate) const PROGRESS: Self = Self("progress");
}

mod envelope_tag {
    pub(super) const ARRIVAL: u16 = 1;
    pub(super) const REVERSE_PATH: u16 = 2;
    pub(super) const OUTGOING: u16 = 3;
    pub(super) const RECIPIENT: u16 = 4;
    pub(super) const TRANSACTION: u16 = 5;
    pub(super) const CLIENT: u16 = 6;
    pub(super) const IDENTITY: u16 = 7;
    pub(super) const TREATMENT: u16 = 8;
    pub(super) const NOTIFICATION_OF: u16 = 9;
    pub(super) const BODY: u16 = 10;
    pub(super) const SENDER_CONFIRMED: u16 = 11;
    pub(super) const DEADLINE: u16 = 12;
    pub(super) const RET: u16 = 13;
    pub(super) const ENVELOPE_ID: u16 = 14;
    pub(super) const SMTPUTF8: u16 = 15;
    pub(super) const REQUIRES_TLS: u16 = 16;
    pub(super) const RELEASE: u16 = 17;
    pub(super) const TLS_IS_OPTIONAL: u16 = 20;
    pub(super) const PRIORITY: u16 = 18;
    pub(super) const DELIVER_BY: u16 = 19;
    pub(super) const SOLICIT: u16 = 30;
}

/// The value of [`envelope_tag::BODY`] beside 7 and 8, the bits of text.
const BINARY: u8 = 0;

mod recipient_tag {
    pub(super) const MAILBOX: u16 = 1;
    pub(super) const PATH: u16 = 2;
    pub(super) const OUTGOING: u16 = 3;
    pub(super) const DISPOSITION: u16 = 4;
    pub(super) const IS_ROLE: u16 = 5;
    pub(super) const NOTIFY: u16 = 6;
    pub(super) const ORIGINAL_RECIPIENT: u16 = 7;
    pub(super) const VALID_SINCE: u16 = 30;
}

mod progress_tag {
    pub(super) const SITE: u16 = 1;
    pub(super) const WAITING: u16 = 2;
    pub(super) const ATTEMPTS: u16 = 3;
    pub(super) const LAST_ATTEMPT: u16 = 4;
    pub(super) const NEXT_ATTEMPT: u16 = 5;
    pub(super) const DELAY_NOTIFIED: u16 = 6;
    pub(super) const LATE_NOTIFIED: u16 = 7;
}

mod waiting_tag {
    pub(super) const INDEX: u16 = 1;
    pub(super) const CODE: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const TEXT: u16 = 4;
    pub(super) const REMOTE: u16 = 5;
}

/// Appends the stored form of an envelope. Its id stands in the header of the record.
pub(crate) fn encode_envelope(envelope: &Envelope, output: &mut Vec<u8>) {
    use envelope_tag as tag;
    put_time(output, tag::ARRIVAL, envelope.arrival);
    put_text(output, tag::REVERSE_PATH, &envelope.reverse_path);
    if !matches!(&envelope.outgoing[..], [same] if *same == envelope.reverse_path) {
        for path in &envelope.outgoing {
            put_text(output, tag::OUTGOING, path);
        }
    }
    for recipient in &envelope.recipients {
        nested(output, tag::RECIPIENT, |output| encode_recipient(recipient, output));
    }
    let origin = &envelope.origin;
    put(output, tag::TRANSACTION, origin.transaction.as_bytes());
    match origin.client {
        Some(IpAddr::V4(address)) => put(output, tag::CLIENT, &address.octets()),
        Some(IpAddr::V6(address)) => put(output, tag::CLIENT, &address.octets()),
        None => {}
    }
    if let Some(identity) = &origin.identity {
        put(output, tag::IDENTITY, identity.as_str().as_bytes());
    }
    if origin.treatment == Treatment::RelayClient {
        put(output, tag::TREATMENT, &[1]);
    }
    if let Some(id) = origin.notification_of {
        put(output, tag::NOTIFICATION_OF, &id.as_u128().to_le_bytes());
    }
    match envelope.body {
        Some(Body::SevenBit) => put(output, tag::BODY, &[7]),
        Some(Body::EightBitMime) => put(output, tag::BODY, &[8]),
        Some(Body::BinaryMime) => put(output, tag::BODY, &[BINARY]),
        _ => {}
    }
    if envelope.smtputf8 {
        put(output, tag::SMTPUTF8, &[]);
    }
    if envelope.requires_tls {
        put(output, tag::REQUIRES_TLS, &[]);
    }
    if envelope.tls_is_optional {
        put(output, tag::TLS_IS_OPTIONAL, &[]);
    }
    if envelope.priority != Priority::NORMAL {
        put(output, tag::PRIORITY, &envelope.priority.get().to_le_bytes());
    }
    if let Some(classes) = &envelope.solicit {
        put_text(output, tag::SOLICIT, classes);
    }
    if envelope.sender_confirmed {
        put(output, tag::SENDER_CONFIRMED, &[]);
    }
    if let Some(release) = envelope.release {
        put_time(output, tag::RELEASE, release);
    }
    if let Some(DeliverByTime { time, mode, trace }) = envelope.deliver_by {
        nested(output, tag::DELIVER_BY, |output| {
            output.extend_from_slice(&micros(time).to_le_bytes());
            output.push(u8::from(mode == ByMode::Return) | u8::from(trace) << 1);
        });
    }
    if let Some(deadline) = envelope.deadline {
        put_time(output, tag::DEADLINE, deadline);
    }
    let MessageDsn { ret, envelope_id } = &envelope.dsn;
    if let Some(ret) = ret {
        put_text(output, tag::RET, ret);
    }
    if let Some(id) = envelope_id {
        put_text(output, tag::ENVELOPE_ID, id);
    }
}

fn encode_recipient(recipient: &QueuedRecipient, output: &mut Vec<u8>) {
    use recipient_tag as tag;
    put_text(output, tag::MAILBOX, &recipient.mailbox);
    if recipient.path.mailbox() != Some(&recipient.mailbox) {
        put_text(output, tag::PATH, &recipient.path);
    }
    if recipient.outgoing != 0 {
        put(output, tag::OUTGOING, &recipient.outgoing.to_le_bytes());
    }
    let (number, reason) = match &recipient.disposition {
        Disposition::Junk => (1, ""),
        Disposition::Quarantine(reason) => (2, reason.as_str()),
        Disposition::Discard(reason) => (3, reason.as_str()),
        _ => (0, ""),
    };
    if number != 0 {
        nested(output, tag::DISPOSITION, |output| {
            output.push(number);
            output.extend_from_slice(reason.as_bytes());
        });
    }
    if recipient.is_role {
        put(output, tag::IS_ROLE, &[]);
    }
    let RecipientDsn { notify, original_recipient } = &recipient.dsn;
    if let Some(notify) = notify {
        put_text(output, tag::NOTIFY, notify);
    }
    if let Some(original) = original_recipient {
        put_text(output, tag::ORIGINAL_RECIPIENT, original);
    }
    if let Some(wish) = &recipient.valid_since {
        put_text(output, tag::VALID_SINCE, wish);
    }
}

/// Reads an envelope back.
pub(crate) fn decode_envelope(id: QueueId, octets: &[u8]) -> Result<Envelope, RecordError> {
    use envelope_tag as tag;
    let mut arrival = None;
    let mut reverse_path = None;
    let mut found = Envelope::new(id, SystemTime::UNIX_EPOCH, ReversePath::Null);
    found.outgoing.clear();
    let mut origin = Origin::default();
    for field in fields(octets) {
        let (number, value) = field?;
        match number {
            tag::ARRIVAL => arrival = Some(time(value, "arrival")?),
            tag::REVERSE_PATH => reverse_path = Some(parsed(value, "reverse-path", |text| ReversePath::parse(text))?),
            tag::OUTGOING => {
                found.outgoing.push(parsed(value, "outgoing reverse-path", |text| ReversePath::parse(text))?);
            }
            tag::RECIPIENT => found.recipients.push(decode_recipient(value)?),
            tag::TRANSACTION => origin.transaction = SafeText::from_octets(value).as_str().into(),
            tag::CLIENT => origin.client = Some(address(value)?),
            tag::IDENTITY => origin.identity = Some(Identity::new(text(value, "identity")?)),
            tag::TREATMENT if value == [1] => origin.treatment = Treatment::RelayClient,
            tag::NOTIFICATION_OF => {
                let number = value.try_into().map_err(|_| RecordError("id of a message"))?;
                origin.notification_of = Some(QueueId::from_u128(u128::from_le_bytes(number)));
            }
            tag::BODY => {
                found.body = match value {
                    [7] => Some(Body::SevenBit),
                    [8] => Some(Body::EightBitMime),
                    [BINARY] => Some(Body::BinaryMime),
                    _ => return Err(RecordError("body")),
                }
            }
            tag::SMTPUTF8 => found.smtputf8 = true,
            tag::REQUIRES_TLS => found.requires_tls = true,
            tag::TLS_IS_OPTIONAL => found.tls_is_optional = true,
            tag::DELIVER_BY => found.deliver_by = Some(decode_deliver_by(value)?),
            tag::PRIORITY => found.priority = decode_priority(value)?,
            tag::SOLICIT => {
                found.solicit = Some(parsed(value, "SOLICIT", |text| SolicitationClasses::parse(text))?);
            }
            tag::SENDER_CONFIRMED => found.sender_confirmed = true,
            tag::RELEASE => found.release = Some(time(value, "release")?),
            tag::DEADLINE => found.deadline = Some(time(value, "deadline")?),
            tag::RET => found.dsn.ret = Some(parsed(value, "RET", |text| Ret::parse(text))?),
            tag::ENVELOPE_ID => {
                found.dsn.envelope_id = Some(parsed(value, "ENVID", |text| EnvelopeId::parse(text))?);
            }
            _ => {}
        }
    }
    found.arrival = arrival.ok_or(RecordError("arrival"))?;
    found.reverse_path = reverse_path.ok_or(RecordError("reverse-path"))?;
    found.origin = origin;
    if found.outgoing.is_empty() {
        found.outgoing.push(found.reverse_path.clone());
    }
    if found.recipients.is_empty()
        || found.recipients.iter().any(|recipient| recipient.outgoing as usize >= found.outgoing.len())
    {
        return Err(RecordError("recipients"));
    }
    Ok(found)
}

fn decode_deliver_by(value: &[u8]) -> Result<DeliverByTime, RecordError> {
    let Some((flags @ 0..4, octets)) = value.split_last() else { return Err(RecordError("deliver-by-time")) };
    let mode = if flags & 1 == 0 { ByMode::Notify } else { ByMode::Return };
    Ok(DeliverByTime { time: time(octets, "deliver-by-time")?, mode, trace: flags & 2 != 0 })
}

fn decode_priority(value: &[u8]) -> Result<Priority, RecordError> {
    let number = value.try_into().map(i8::from_le_bytes).ok();
    number.and_then(Priority::new).ok_or(RecordError("priority"))
}

/// The priority of an envelope, without reading the rest of it. What cannot be read is found when all of it is.
pub(crate) fn priority_of(octets: &[u8]) -> Priority {
    let found = fields(octets).find_map(|field| field.ok().filter(|(tag, _)| *tag == envelope_tag::PRIORITY));
    found.and_then(|(_, value)| decode_priority(value).ok()).unwrap_or_default()
}

/// How many recipients an envelope has, without reading the rest of it.
pub(crate) fn count_recipients(octets: &[u8]) -> u32 {
    let count = fields(octets).filter(|field| matches!(field, Ok((envelope_tag::RECIPIENT, _)))).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn decode_recipient(octets: &[u8]) -> Result<QueuedRecipient, RecordError> {
    use recipient_tag as tag;
    let mut mailbox = None;
    let mut path = None;
    let (mut outgoing, mut disposition, mut is_role) = (0, Disposition::Deliver, false);
    let (mut dsn, mut valid_since) = (RecipientDsn::default(), None);
    for field in fields(octets) {
        let (number, value) = field?;
        match number {
            tag::MAILBOX => mailbox = Some(parsed(value, "mailbox", |text| Mailbox::parse(text))?),
            tag::PATH => path = Some(parsed(value, "forward-path", |text| ForwardPath::parse(text))?),
            tag::OUTGOING => outgoing = number_u32(value, "outgoing reverse-path")?,
            tag::DISPOSITION => {
                let (kind, reason) = value.split_first().ok_or(RecordError("disposition"))?;
                let reason = text(reason, "disposition")?;
                disposition = match kind {
                    1 => Disposition::Junk,
                    2 => Disposition::Quarantine(reason.into()),
                    3 => Disposition::Discard(reason.into()),
                    _ => Disposition::Deliver,
                };
            }
            tag::IS_ROLE => is_role = true,
            // What cannot be read might have been NEVER.
            tag::NOTIFY => dsn.notify = Some(parsed(value, "NOTIFY", |text| Notify::parse(text))?),
            tag::ORIGINAL_RECIPIENT => {
                dsn.original_recipient = Some(parsed(value, "ORCPT", |text| OriginalRecipient::parse(text))?);
            }
            tag::VALID_SINCE => valid_since = Some(parsed(value, "RRVS", |text| ValidSince::parse(text))?),
            _ => {}
        }
    }
    let mailbox = mailbox.ok_or(RecordError("mailbox"))?;
    let path = path.unwrap_or_else(|| ForwardPath::Mailbox(mailbox.clone()));
    Ok(QueuedRecipient { path, mailbox, outgoing, disposition, is_role, dsn, valid_since })
}

/// Appends the stored form of a progress.
pub(crate) fn encode_progress(progress: &Progress, output: &mut Vec<u8>) {
    use progress_tag as tag;
    put(output, tag::SITE, progress.site.as_bytes());
    put_time(output, tag::NEXT_ATTEMPT, progress.next_attempt);
    if progress.attempts != 0 {
        put(output, tag::ATTEMPTS, &progress.attempts.to_le_bytes());
    }
    if let Some(time) = progress.last_attempt {
        put_time(output, tag::LAST_ATTEMPT, time);
    }
    if progress.delay_notified {
        put(output, tag::DELAY_NOTIFIED, &[]);
    }
    if progress.late_notified {
        put(output, tag::LATE_NOTIFIED, &[]);
    }
    for waiting in &progress.waiting {
        nested(output, tag::WAITING, |output| encode_waiting(waiting, output));
    }
}

fn encode_waiting(waiting: &WaitingRecipient, output: &mut Vec<u8>) {
    use waiting_tag as tag;
    put(output, tag::INDEX, &waiting.index.to_le_bytes());
    let Some(Diagnosis { reply, remote }) = &waiting.last else { return };
    put(output, tag::CODE, &reply.code().get().to_le_bytes());
    if let Some(status) = reply.status() {
        nested(output, tag::STATUS, |output| {
            output.push(status.class());
            output.extend_from_slice(&status.subject().to_le_bytes());
            output.extend_from_slice(&status.detail().to_le_bytes());
        });
    }
    put(output, tag::TEXT, reply.text().as_bytes());
    if let Some(remote) = remote {
        put(output, tag::REMOTE, remote.as_str().as_bytes());
    }
}

/// Reads a progress back.
pub(crate) fn decode_progress(octets: &[u8]) -> Result<Progress, RecordError> {
    use progress_tag as tag;
    let mut site = None;
    let mut next_attempt = None;
    let mut found = Progress::new("".into(), [], SystemTime::UNIX_EPOCH);
    for field in fields(octets) {
        let (number, value) = field?;
        match number {
            tag::SITE => site = Some(text(value, "site")?),
            tag::NEXT_ATTEMPT => next_attempt = Some(time(value, "next attempt")?),
            tag::ATTEMPTS => found.attempts = number_u32(value, "number of attempts")?,
            tag::LAST_ATTEMPT => found.last_attempt = Some(time(value, "last attempt")?),
            tag::DELAY_NOTIFIED => found.delay_notified = true,
            tag::LATE_NOTIFIED => found.late_notified = true,
            tag::WAITING => found.waiting.push(decode_waiting(value)?),
            _ => {}
        }
    }
    found.site = site.ok_or(RecordError("site"))?.into();
    found.next_attempt = next_attempt.ok_or(RecordError("next attempt"))?;
    Ok(found)
}

fn decode_waiting(octets: &[u8]) -> Result<WaitingRecipient, RecordError> {
    use waiting_tag as tag;
    let mut index = None;
    let mut code = None;
    let (mut status, mut words, mut remote) = (None, "", None);
    for field in fields(octets) {
        let (number, value) = field?;
        match number {
            tag::INDEX => index = Some(number_u32(value, "recipient")?),
            tag::CODE => {
                let number = value.try_into().map(u16::from_le_bytes).ok().and_then(ReplyCode::new);
                code = Some(number.ok_or(RecordError("reply code"))?);
            }
            tag::STATUS => status = Some(decode_status(value).ok_or(RecordError("enhanced status code"))?),
            tag::TEXT => words = text(value, "reply")?,
            tag::REMOTE => remote = Some(SafeText::from_octets(value)),
            _ => {}
        }
    }
    let last = code.map(|code| {
        let words = words.to_owned();
        let reply = match status {
            Some(status) => Reply::new(code, status, words),
            None => Reply::bare(code, words),
        };
        Diagnosis { reply, remote }
    });
    Ok(WaitingRecipient { index: index.ok_or(RecordError("recipient"))?, last })
}

fn decode_status(octets: &[u8]) -> Option<EnhancedStatusCode> {
    let &[_, a, b, c, d] = octets else { return None };
    // Its class is that of the reply code, which may be one that no status code has alone.
    EnhancedStatusCode::new(4, u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

/// Microseconds since 1970; what is earlier is 1970, what is later than a number can say is its largest.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The time of that many microseconds since 1970.
pub(crate) fn from_micros(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// Appends a field.
fn put(output: &mut Vec<u8>, tag: u16, value: &[u8]) {
    nested(output, tag, |output| output.extend_from_slice(value));
}

fn put_text(output: &mut Vec<u8>, tag: u16, value: &impl std::fmt::Display) {
    use std::io::Write;
    nested(output, tag, |output| write!(output, "{value}").expect("memory takes what is written"));
}

fn put_time(output: &mut Vec<u8>, tag: u16, value: SystemTime) {
    put(output, tag, &micros(value).to_le_bytes());
}

/// Appends a field whose value `write` appends.
fn nested(output: &mut Vec<u8>, tag: u16, write: impl FnOnce(&mut Vec<u8>)) {
    output.extend_from_slice(&tag.to_le_bytes());
    let place = output.len();
    output.extend_from_slice(&[0; 4]);
    write(output);
    let octets = u32::try_from(output.len() - place - 4).expect("a record is far smaller than 4 GiB");
    output[place..place + 4].copy_from_slice(&octets.to_le_bytes());
}

/// The fields of a record, in their order.
fn fields(mut octets: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), RecordError>> {
    std::iter::from_fn(move || {
        if octets.is_empty() {
            return None;
        }
        let field = split_field(octets);
        octets = field.map_or(&[], |(_, _, rest)| rest);
        Some(field.map(|(tag, value, _)| (tag, value)).ok_or(RecordError("field")))
    })
}

fn split_field(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (tag, octets) = octets.split_first_chunk()?;
    let (length, octets) = octets.split_first_chunk()?;
    let (value, rest) = octets.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((u16::from_le_bytes(*tag), value, rest))
}

fn time(value: &[u8], what: &'static str) -> Result<SystemTime, RecordError> {
    value.try_into().map(|octets| from_micros(u64::from_le_bytes(octets))).map_err(|_| RecordError(what))
}

fn number_u32(value: &[u8], what: &'static str) -> Result<u32, RecordError> {
    value.try_into().map(u32::from_le_bytes).map_err(|_| RecordError(what))
}

fn text<'a>(value: &'a [u8], what: &'static str) -> Result<&'a str, RecordError> {
    std::str::from_utf8(value).map_err(|_| RecordError(what))
}

fn parsed<T, E>(value: &[u8], what: &'static str, parse: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<T, RecordError> {
    parse(value).map_err(|_| RecordError(what))
}

fn address(value: &[u8]) -> Result<IpAddr, RecordError> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Ok(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(value).map(IpAddr::from).map_err(|_| RecordError("address of the client"))
}

#[cfg(test)]
mod tests;
