//! The parameters behind a path: `SIZE=1000 BODY=8BITMIME` (RFC 5321 §4.1.2).

use super::address::Mailbox;
use super::cursor::{Cursor, SyntaxError};
use super::deliver_by::DeliverBy;
use super::future_release::FutureRelease;
use super::notification::{EnvelopeId, MessageDsn, Notify, OriginalRecipient, RecipientDsn, Ret};
use super::path::ReversePath;
use super::priority::Priority;
use super::solicitation::SolicitationClasses;
use super::text::text;
use super::valid_since::ValidSince;
use super::xtext;

/// The value of `BODY=` (RFC 6152 §3, RFC 3030 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Body {
    /// `7BIT`: no octet above 127; what is meant when nothing is said.
    #[default]
    SevenBit,
    /// `8BITMIME`: any octets in lines.
    EightBitMime,
    /// `BINARYMIME`: any octets at all (RFC 3030 §3). Goes by `BDAT` only.
    BinaryMime,
}

/// The parameters of `MAIL`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MailParameters {
    /// `SIZE=`: octets of the message as the client estimates it (RFC 1870 §6).
    pub size_octets: Option<u64>,
    /// `BODY=`.
    pub body: Option<Body>,
    /// `AUTH=`: who gave the message to the first server (RFC 4954 §5). Of a message that was received, what a client said
    /// that may relay; of all others `<>`.
    pub auth: Option<ReversePath>,
    /// `SMTPUTF8`: the envelope or the header section may have more than ASCII in it (RFC 6531 §3.4).
    pub smtputf8: bool,
    /// `REQUIRETLS`: every next hop must be verified and promise the same (RFC 8689 §2).
    pub requiretls: bool,
    /// `HOLDFOR=` or `HOLDUNTIL=`: when it is to be released (RFC 4865 §4). Only from clients that have authenticated.
    pub future_release: Option<FutureRelease>,
    /// `MT-PRIORITY=`: how urgent it is (RFC 6710 §4.1). More than [`Priority::NORMAL`] only from clients that have
    /// authenticated or may relay.
    pub priority: Option<Priority>,
    /// `BY=`: how long it may take, as the client said it (RFC 2852 §4). Until when that is stands in
    /// [`Message::deliver_by_time`](crate::Message::deliver_by_time).
    pub deliver_by: Option<DeliverBy>,
    /// `RET=` and `ENVID=` (RFC 3461 §4.3, §4.4).
    pub dsn: MessageDsn,
    /// `SOLICIT=`: what the message solicits, by the classes that the sender has put it in (RFC 3865 §2.3).
    pub solicit: Option<SolicitationClasses>,
    /// `PRDR`: each recipient is to have a reply of its own behind the content (draft-hall-prdr-00).
    pub prdr: bool,
    /// The first keyword that is not known here, or whose value is not.
    pub unrecognized: Option<Box<str>>,
}

impl MailParameters {
    /// Whether the client gave any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut parameters = Self::default();
        each(cursor, |cursor, keyword, value| {
            if keyword.eq_ignore_ascii_case(b"SIZE") {
                let size = value.and_then(decimal).ok_or_else(|| cursor.error("SIZE= and up to 20 digits"))?;
                set_once(cursor, &mut parameters.size_octets, size)
            } else if keyword.eq_ignore_ascii_case(b"BODY") {
                match value {
                    Some(value) if value.eq_ignore_ascii_case(b"7BIT") => {
                        set_once(cursor, &mut parameters.body, Body::SevenBit)
                    }
                    Some(value) if value.eq_ignore_ascii_case(b"8BITMIME") => {
                        set_once(cursor, &mut parameters.body, Body::EightBitMime)
                    }
                    Some(value) if value.eq_ignore_ascii_case(b"BINARYMIME") => {
                        set_once(cursor, &mut parameters.body, Body::BinaryMime)
                    }
                    _ => Err(cursor.error("BODY=7BIT, BODY=8BITMIME or BODY=BINARYMIME")),
                }
            } else if keyword.eq_ignore_ascii_case(b"AUTH") {
                set_once(cursor, &mut parameters.auth, parsed(cursor, value, submitter)?)
            } else if keyword.eq_ignore_ascii_case(b"SMTPUTF8") {
                if value.is_some() || std::mem::replace(&mut parameters.smtputf8, true) {
                    return Err(cursor.error("SMTPUTF8, once and without a value"));
                }
                Ok(())
            } else if keyword.eq_ignore_ascii_case(b"REQUIRETLS") {
                if value.is_some() || std::mem::replace(&mut parameters.requiretls, true) {
                    return Err(cursor.error("REQUIRETLS, once and without a value"));
                }
                Ok(())
            } else if keyword.eq_ignore_ascii_case(b"HOLDFOR") {
                // One place for both: RFC 4865 §4 allows one of them, once.
                let hold = parsed(cursor, value, FutureRelease::parse_for)?;
                set_once(cursor, &mut parameters.future_release, hold)
            } else if keyword.eq_ignore_ascii_case(b"HOLDUNTIL") {
                let hold = parsed(cursor, value, FutureRelease::parse_until)?;
                set_once(cursor, &mut parameters.future_release, hold)
            } else if keyword.eq_ignore_ascii_case(b"MT-PRIORITY") {
                set_once(cursor, &mut parameters.priority, parsed(cursor, value, Priority::parse)?)
            } else if keyword.eq_ignore_ascii_case(b"BY") {
                set_once(cursor, &mut parameters.deliver_by, parsed(cursor, value, DeliverBy::parse)?)
            } else if keyword.eq_ignore_ascii_case(b"RET") {
                set_once(cursor, &mut parameters.dsn.ret, parsed(cursor, value, Ret::parse)?)
            } else if keyword.eq_ignore_ascii_case(b"ENVID") {
                set_once(cursor, &mut parameters.dsn.envelope_id, parsed(cursor, value, EnvelopeId::parse)?)
            } else if keyword.eq_ignore_ascii_case(b"SOLICIT") {
                set_once(cursor, &mut parameters.solicit, parsed(cursor, value, SolicitationClasses::parse)?)
            } else if keyword.eq_ignore_ascii_case(b"PRDR") {
                if value.is_some() || std::mem::replace(&mut parameters.prdr, true) {
                    return Err(cursor.error("PRDR once, without a value"));
                }
                Ok(())
            } else {
                parameters.unrecognized.get_or_insert_with(|| String::from_utf8_lossy(keyword).into());
                Ok(())
            }
        })?;
        Ok(parameters)
    }
}

/// The parameters of `RCPT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RcptParameters {
    /// `NOTIFY=` and `ORCPT=` (RFC 3461 §4.1, §4.2).
    pub dsn: RecipientDsn,
    /// `RRVS=`: since when the mailbox must have had its owner (RFC 7293 §3.1).
    pub valid_since: Option<ValidSince>,
    /// The first keyword that is not known here.
    pub unrecognized: Option<Box<str>>,
}

impl RcptParameters {
    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut parameters = Self::default();
        each(cursor, |cursor, keyword, value| {
            if keyword.eq_ignore_ascii_case(b"NOTIFY") {
                set_once(cursor, &mut parameters.dsn.notify, parsed(cursor, value, Notify::parse)?)
            } else if keyword.eq_ignore_ascii_case(b"ORCPT") {
                let original = parsed(cursor, value, OriginalRecipient::parse)?;
                set_once(cursor, &mut parameters.dsn.original_recipient, original)
            } else if keyword.eq_ignore_ascii_case(b"RRVS") {
                set_once(cursor, &mut parameters.valid_since, parsed(cursor, value, ValidSince::parse)?)
            } else {
                parameters.unrecognized.get_or_insert_with(|| String::from_utf8_lossy(keyword).into());
                Ok(())
            }
        })?;
        Ok(parameters)
    }
}

/// Calls `take` with the keyword and the value of each parameter up to the end of the line.
fn each(
    cursor: &mut Cursor<'_>,
    mut take: impl FnMut(&Cursor<'_>, &[u8], Option<&[u8]>) -> Result<(), SyntaxError>,
) -> Result<(), SyntaxError> {
    loop {
        let spaces = cursor.take_while(|octet| octet == b' ');
        if cursor.is_at_end() {
            return Ok(());
        }
        if spaces.is_empty() {
            return Err(cursor.error("a space before the parameter"));
        }
        let keyword = cursor.take_while(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        if keyword.first().is_none_or(|&octet| octet == b'-') {
            return Err(cursor.error("a parameter"));
        }
        let value = if cursor.eat(b'=') {
            // RFC 6531 §3.3 adds what is not ASCII; each value knows whether it may have any.
            let value = cursor.take_while(|octet| matches!(octet, b'!'..=b'<' | b'>'..=b'~' | 0x80..));
            if value.is_empty() {
                return Err(cursor.error("the value of the parameter"));
            }
            text(cursor, value)?;
            Some(value)
        } else {
            None
        };
        take(cursor, keyword, value)?;
    }
}

/// `<>` or a mailbox, as xtext (RFC 4954 §5).
fn submitter(value: &[u8]) -> Result<ReversePath, SyntaxError> {
    match &*xtext::decode(value)? {
        "<>" => Ok(ReversePath::Null),
        mailbox => Mailbox::parse(mailbox).map(ReversePath::Mailbox),
    }
}

/// A value that has a grammar of its own; the error is told at its place in the line.
fn parsed<'v, T>(
    cursor: &Cursor<'_>,
    value: Option<&'v [u8]>,
    parse: impl FnOnce(&'v [u8]) -> Result<T, SyntaxError>,
) -> Result<T, SyntaxError> {
    let value = value.ok_or_else(|| cursor.error("= and the value of the parameter"))?;
    parse(value).map_err(|error| cursor.error(error.expected()))
}

fn set_once<T>(cursor: &Cursor<'_>, place: &mut Option<T>, value: T) -> Result<(), SyntaxError> {
    if place.replace(value).is_some() { Err(cursor.error("each parameter only once")) } else { Ok(()) }
}

/// `size-value = 1*20DIGIT` (RFC 1870 §4); what exceeds 64 bits counts as the largest number.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |sum, &digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(text: &str) -> Option<MailParameters> {
        MailParameters::parse_at(&mut Cursor::new(text.as_bytes())).ok()
    }

    #[test]
    fn mail_parameters() {
        let none = MailParameters::default();
        let sized = |octets| Some(MailParameters { size_octets: Some(octets), ..none.clone() });
        let bodied = |body| Some(MailParameters { body: Some(body), ..none.clone() });
        let held = |seconds| {
            let future_release = Some(FutureRelease::For(std::time::Duration::from_secs(seconds)));
            Some(MailParameters { future_release, ..none.clone() })
        };
        let within = |seconds| {
            let deliver_by = Some(DeliverBy::new(seconds, crate::syntax::deliver_by::ByMode::Return));
            Some(MailParameters { deliver_by, ..none.clone() })
        };
        let urgent = |number| Some(MailParameters { priority: Priority::new(number), ..none.clone() });
        let unknown = |word: &str| Some(MailParameters { unrecognized: Some(word.into()), ..none.clone() });
        let by = |path| Some(MailParameters { auth: ReversePath::parse(path).ok(), ..none.clone() });
        let asked = |dsn| Some(MailParameters { dsn, ..none.clone() });
        let returning = |ret| asked(MessageDsn { ret: Some(ret), ..MessageDsn::default() });
        let soliciting = |classes| {
            let solicit = SolicitationClasses::parse(classes).ok();
            Some(MailParameters { solicit, ..none.clone() })
        };
        let named = |name| asked(MessageDsn { envelope_id: EnvelopeId::new(name).ok(), ..MessageDsn::default() });
        for (rfc, input, expected) in [
            ("RFC 5321 §4.1.1.2", "", Some(none.clone())),
            ("RFC 5321 §4.1.1", "  ", Some(none.clone())),
            ("RFC 1870 §6", " SIZE=1000", sized(1000)),
            ("RFC 1870 §6", " size=0", sized(0)),
            ("RFC 1870 §4", " SIZE=99999999999999999999", sized(u64::MAX)),
            ("RFC 1870 §4", " SIZE=999999999999999999999", None),
            ("RFC 1870 §4", " SIZE=", None),
            ("RFC 1870 §4", " SIZE", None),
            ("RFC 1870 §4", " SIZE=-1", None),
            ("RFC 1870 §4", " SIZE=1 SIZE=1", None),
            ("RFC 6152 §3", " BODY=8BITMIME", bodied(Body::EightBitMime)),
            ("RFC 6152 §3", " body=7bit", bodied(Body::SevenBit)),
            ("RFC 6152 §3", " BODY=9BIT", None),
            ("RFC 3030 §3", " BODY=BINARYMIME", bodied(Body::BinaryMime)),
            ("RFC 5321 §4.1.1.11", " HOLDFORE=60", unknown("HOLDFORE")),
            ("RFC 4865 §4", " HOLDFOR=60", held(60)),
            ("RFC 4865 §4", " holdfor=999999999", held(999_999_999)),
            ("RFC 4865 §4", " HOLDFOR=1000000000", None),
            ("RFC 4865 §4", " HOLDFOR=", None),
            ("RFC 4865 §4", " HOLDFOR", None),
            ("RFC 4865 §4", " HOLDFOR=-1", None),
            ("RFC 4865 §4", " HOLDUNTIL=2026-02-30T00:00:00Z", None),
            ("RFC 4865 §4: given twice", " HOLDFOR=1 HOLDFOR=1", None),
            ("RFC 4865 §4: one of them", " HOLDFOR=1 HOLDUNTIL=2026-11-22T01:44:23Z", None),
            ("RFC 2852 §4", " by=120;r", within(120)),
            ("RFC 2852 §4", " BY=0;R", None),
            ("RFC 2852 §4", " BY", None),
            ("RFC 2852 §4: given twice", " BY=1;R BY=1;R", None),
            ("RFC 6710 §7", " MT-PRIORITY=-9", urgent(-9)),
            ("RFC 6710 §7", " mt-priority=4", urgent(4)),
            ("RFC 6710 §4.1", " MT-PRIORITY=10", None),
            ("RFC 6710 §4.1", " MT-PRIORITY", None),
            ("RFC 6710 §4.1: given twice", " MT-PRIORITY=1 MT-PRIORITY=1", None),
            ("RFC 4954 §5", " AUTH=<>", by("<>")),
            ("RFC 4954 §5", " auth=e+3Dmc2@example.com", by("<e=mc2@example.com>")),
            ("RFC 4954 §5", " AUTH=e+3Dmc2@EXAMPLE.com", by("<e=mc2@EXAMPLE.com>")),
            ("RFC 4954 §5", " AUTH=", None),
            ("RFC 4954 §5", " AUTH", None),
            ("RFC 4954 §5", " AUTH=alice", None),
            ("RFC 4954 §5", " AUTH=<alice@example.com>", None),
            ("RFC 4954 §5", " AUTH=+3C+3E", by("<>")),
            ("RFC 4954 §5", " AUTH=e+3dmc2@example.com", None),
            ("R4954b: given twice", " AUTH=<> AUTH=<>", None),
            ("RFC 6531 §3.4", " smtputf8", Some(MailParameters { smtputf8: true, ..none.clone() })),
            ("RFC 6531 §3.4", " SMTPUTF8=yes", None),
            ("RFC 6531 §3.4", " SMTPUTF8 SMTPUTF8", None),
            ("RFC 8689 §2", " RequireTLS", Some(MailParameters { requiretls: true, ..none.clone() })),
            ("RFC 8689 §2: no value", " REQUIRETLS=yes", None),
            ("RFC 8689 §2: given twice", " REQUIRETLS REQUIRETLS", None),
            ("RFC 6531 §3.3: where a value is ASCII", " ENVID=\u{fc}", None),
            ("D-9", " AUTH=a+0D+0A@example.com", None),
            ("D-9", " AUTH=a+20b@example.com", None),
            ("RFC 3461 §4.3", " RET=HDRS", returning(Ret::Headers)),
            ("RFC 3461 §4.3", " ret=full", returning(Ret::Full)),
            ("RFC 3461 §4.3", " RET=ALL", None),
            ("RFC 3461 §4.3", " RET", None),
            ("R3461a: given twice", " RET=HDRS RET=HDRS", None),
            ("RFC 3461 §4.4", " ENVID=QQ+20314159", named("QQ 314159")),
            ("RFC 3461 §4.4", " ENVID=", None),
            ("RFC 3461 §4.4", " ENVID", None),
            ("R3461a: given twice", " ENVID=a ENVID=a", None),
            ("D-9", " ENVID=a+0D+0Ab", None),
            ("RFC 3865 §2.3", " SOLICIT=org.example:ADV,a", soliciting("org.example:ADV,a")),
            ("RFC 3865 §2.3", " solicit=a", soliciting("a")),
            ("RFC 3865 §2.3", " SOLICIT", None),
            ("RFC 3865 §2.3", " SOLICIT=a,", None),
            ("RFC 3865 §2.3: given twice", " SOLICIT=a SOLICIT=a", None),
            ("RFC 5321 §4.1.2", " =x", None),
            ("RFC 5321 §4.1.2", " -a=x", None),
            ("RFC 5321 §4.1.2", " A=b=c", None),
            ("RFC 5321 §4.1.2", "SIZE=1", None),
        ] {
            assert_eq!(mail(input), expected, "{rfc}: {input:?}");
        }
    }
    #[test]
    fn rcpt_parameters() {
        let asked = |notify, original: &str| {
            let original_recipient = OriginalRecipient::parse(original).ok();
            let dsn = RecipientDsn { notify, original_recipient };
            Some(RcptParameters { dsn, ..RcptParameters::default() })
        };
        let unknown =
            |word: &str| Some(RcptParameters { unrecognized: Some(word.into()), ..RcptParameters::default() });
        let since = |moment| {
            let valid_since = ValidSince::parse(moment).ok();
            Some(RcptParameters { valid_since, ..RcptParameters::default() })
        };
        for (rfc, input, expected) in [
            ("RFC 5321 §4.1.1.3", "", asked(None, "")),
            ("RFC 3461 §4.1", " NOTIFY=NEVER", asked(Some(Notify::NEVER), "")),
            ("RFC 3461 §4.1", " notify=success,delay", asked(Some(Notify::SUCCESS | Notify::DELAY), "")),
            ("R3461a: NEVER stands alone", " NOTIFY=NEVER,DELAY", None),
            ("R3461a: given twice", " NOTIFY=DELAY NOTIFY=DELAY", None),
            ("RFC 3461 §4.1", " NOTIFY", None),
            ("RFC 3461 §4.2", " ORCPT=rfc822;a+2Bb@c", asked(None, "rfc822;a+2Bb@c")),
            ("RFC 3461 §4.2", " NOTIFY=NEVER ORCPT=x;y", asked(Some(Notify::NEVER), "x;y")),
            ("R3461a: given twice", " ORCPT=x;y ORCPT=x;y", None),
            ("RFC 3461 §4.2", " ORCPT=y", None),
            ("RFC 7293 §3.1", " rrvs=2014-04-03T23:01:00Z;C", since("2014-04-03T23:01:00Z;C")),
            ("RFC 7293 §3.1", " RRVS=2014-04-03T23:01:00Z;R", since("2014-04-03T23:01:00Z")),
            ("RFC 7293 §3.1", " RRVS", None),
            ("RFC 7293 §3.1", " RRVS=2014", None),
            ("RFC 7293 §3.1: given twice", " RRVS=2014-04-03T23:01:00Z RRVS=2014-04-03T23:01:00Z", None),
            ("RFC 5321 §4.1.1.11", " RET=FULL", unknown("RET")),
            ("RFC 5321 §4.1.1.11", " X-1=y", unknown("X-1")),
        ] {
            let found = RcptParameters::parse_at(&mut Cursor::new(input.as_bytes())).ok();
            assert_eq!(found, expected, "{rfc}: {input:?}");
        }
    }
}
