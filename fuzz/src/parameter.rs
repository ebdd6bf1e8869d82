//! The law of parameters: those of `MAIL` and `RCPT` mean what a slow reading of RFC 5321 §4.1.2, RFC 1870 §4, RFC 6152
//! §3, RFC 3461 §4, RFC 4865 §4, RFC 4954 §5 and RFC 8689 §2 says, and what of them is passed on means the same there.

use std::time::Duration;

use smtp_core::{
    Body, ByMode, Command, CommandError, DeliverBy, EnvelopeId, FutureRelease, MailParameters, Mailbox, Notify,
    OriginalRecipient, Priority, RcptParameters, Ret, ReversePath, SolicitationClasses, ValidSince,
};

use crate::moment::moment;
use crate::text::is_visible;

/// Checks what follows `MAIL FROM:<> ` and `RCPT TO:<postmaster> `.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let expected = words(data);

    let line = [b"MAIL FROM:<> ", data].concat();
    let found = match Command::parse(&line) {
        Ok(Command::Mail(path, parameters)) if path.is_null() => Some(parameters),
        Err(CommandError::Parameter(error)) if error.offset() <= line.len() => None,
        other => panic!("{other:?} from {data:?}"),
    };
    assert_eq!(found, expected.as_deref().and_then(mail_parameters), "{data:?}");
    if let Some(MailParameters { dsn, .. }) = found {
        is_harmless(dsn.ret.map(|ret| (ret.to_string(), Ret::parse(ret.to_string()) == Ok(ret))));
        is_harmless(dsn.envelope_id.map(|id| (id.to_string(), EnvelopeId::parse(id.to_string()) == Ok(id))));
    }

    let line = [b"RCPT TO:<postmaster> ", data].concat();
    let found = match Command::parse(&line) {
        Ok(Command::Rcpt(_, parameters)) => Some(parameters),
        Err(CommandError::Parameter(error)) if error.offset() <= line.len() => None,
        other => panic!("{other:?} from {data:?}"),
    };
    assert_eq!(found, expected.as_deref().and_then(rcpt_parameters), "{data:?}");
    if let Some(RcptParameters { dsn, .. }) = found {
        is_harmless(dsn.notify.map(|notify| (notify.to_string(), Notify::parse(notify.to_string()) == Ok(notify))));
        let original = dsn.original_recipient;
        is_harmless(
            original.map(|value| (value.to_string(), OriginalRecipient::parse(value.to_string()) == Ok(value))),
        );
    }
}

/// A value as it is passed on, and whether it is read there as what it was here.
fn is_harmless(written: Option<(String, bool)>) {
    let Some((text, is_same)) = written else { return };
    assert!(is_same && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'='), "{text:?}");
}

/// A keyword and its value.
type Word = (Box<str>, Option<String>);

/// `keyword[=value]` between spaces; `None` where one of them is neither.
fn words(data: &[u8]) -> Option<Vec<Word>> {
    let text = std::str::from_utf8(data).ok()?;
    text.split(' ').filter(|word| !word.is_empty()).map(word).collect()
}

fn word(text: &str) -> Option<Word> {
    let (keyword, value) = match text.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (text, None),
    };
    let is_keyword = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_character = |c: char| (c.is_ascii_graphic() && c != '=') || !c.is_ascii();
    let is_value = |value: &str| !value.is_empty() && value.chars().all(is_character) && is_visible(value);
    (is_keyword && value.is_none_or(is_value)).then(|| (keyword.into(), value.map(str::to_owned)))
}

fn mail_parameters(words: &[Word]) -> Option<MailParameters> {
    let mut parameters = MailParameters::default();
    for (keyword, as_written) in words {
        let value = as_written.as_deref().map(str::to_ascii_uppercase);
        let value = value.as_deref();
        let is_new = match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => parameters.size_octets.replace(size(value?)?).is_none(),
            "BODY" => parameters.body.replace(body(value?)?).is_none(),
            "RET" => parameters.dsn.ret.replace(ret(value?)?).is_none(),
            "SMTPUTF8" => value.is_none() && !std::mem::replace(&mut parameters.smtputf8, true),
            "REQUIRETLS" => value.is_none() && !std::mem::replace(&mut parameters.requiretls, true),
            "PRDR" => value.is_none() && !std::mem::replace(&mut parameters.prdr, true),
            "AUTH" => {
                let path = match &*decoded(as_written.as_deref()?)? {
                    "<>" => ReversePath::Null,
                    mailbox => ReversePath::Mailbox(Mailbox::parse(mailbox).ok()?),
                };
                parameters.auth.replace(path).is_none()
            }
            "ENVID" => {
                let xtext = as_written.as_deref().filter(|xtext| xtext.len() <= 100)?;
                let id = EnvelopeId::new(&decoded(xtext)?).expect("printable, and no longer than it was");
                parameters.dsn.envelope_id.replace(id).is_none()
            }
            "BY" => parameters.deliver_by.replace(deliver_by(value?)?).is_none(),
            "MT-PRIORITY" => {
                let priority = (-9..=9).filter_map(Priority::new).find(|known| Some(&*known.to_string()) == value)?;
                parameters.priority.replace(priority).is_none()
            }
            "SOLICIT" => {
                let classes = SolicitationClasses::parse(as_written.as_deref()?).ok()?;
                parameters.solicit.replace(classes).is_none()
            }
            // RFC 4865 §4: one of the two, once.
            "HOLDFOR" => parameters.future_release.replace(hold_for(value?)?).is_none(),
            "HOLDUNTIL" => parameters.future_release.replace(FutureRelease::Until(moment(value?)?)).is_none(),
            _ => {
                parameters.unrecognized.get_or_insert_with(|| keyword.clone());
                true
            }
        };
        if !is_new {
            return None;
        }
    }
    Some(parameters)
}

fn body(value: &str) -> Option<Body> {
    match value {
        "7BIT" => Some(Body::SevenBit),
        "8BITMIME" => Some(Body::EightBitMime),
        "BINARYMIME" => Some(Body::BinaryMime),
        _ => None,
    }
}

fn ret(value: &str) -> Option<Ret> {
    match value {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
    }
}

fn rcpt_parameters(words: &[Word]) -> Option<RcptParameters> {
    let mut parameters = RcptParameters::default();
    for (keyword, value) in words {
        let is_new = match keyword.to_ascii_uppercase().as_str() {
            "NOTIFY" => parameters.dsn.notify.replace(notify(value.as_deref()?)?).is_none(),
            "RRVS" => parameters.valid_since.replace(ValidSince::parse(value.as_deref()?).ok()?).is_none(),
            "ORCPT" => {
                let value = value.as_deref().filter(|value| value.len() <= 500)?;
                let (kind, xtext) = value.split_once(';')?;
                let is_atom = kind.chars().all(|c| c.is_ascii_graphic() && !"()<>[]:;@\\,.\"".contains(c));
                let escape = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\x{{{:02X}}}", c as u32) };
                let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
                let xtext = if is_utf8 { xtext.chars().map(escape).collect() } else { xtext.to_owned() };
                if kind.len() + 1 + xtext.len() > 500 {
                    return None;
                }
                if kind.eq_ignore_ascii_case("rfc822") && octets_of(&xtext)?.iter().any(|octet| !octet.is_ascii()) {
                    // What cannot be of that type is of the other, if it is text at all.
                    let text = String::from_utf8(octets_of(&xtext)?).ok().filter(|text| is_visible(text))?;
                    let escaped: String = text.chars().map(escape).collect();
                    let original = OriginalRecipient::new("utf-8", &escaped).ok()?;
                    if parameters.dsn.original_recipient.replace(original).is_some() {
                        return None;
                    }
                    continue;
                }
                let address = decoded(&xtext).filter(|_| is_atom && !kind.is_empty())?;
                let original = OriginalRecipient::new(kind, &address).expect("printable, and no longer than it was");
                parameters.dsn.original_recipient.replace(original).is_none()
            }
            _ => {
                parameters.unrecognized.get_or_insert_with(|| keyword.clone());
                true
            }
        };
        if !is_new {
            return None;
        }
    }
    Some(parameters)
}

/// RFC 3461 §4.1.
fn notify(value: &str) -> Option<Notify> {
    let value = value.to_ascii_uppercase();
    if value == "NEVER" {
        return Some(Notify::NEVER);
    }
    let words = value.split(',').map(|word| match word {
        "SUCCESS" => Some(Notify::SUCCESS),
        "FAILURE" => Some(Notify::FAILURE),
        "DELAY" => Some(Notify::DELAY),
        _ => None,
    });
    words.reduce(|a, b| Some(a? | b?))?
}

/// RFC 3461 §4: the octets that xtext stands for, where all that stands for itself is ASCII.
fn octets_of(xtext: &str) -> Option<Vec<u8>> {
    let mut parts = xtext.split('+');
    let mut octets = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F')))?;
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        octets.extend_from_slice(&part.as_bytes()[2..]);
    }
    xtext.is_ascii().then_some(octets)
}

/// RFC 3461 §4: what xtext says, where that is printable and not blank.
fn decoded(xtext: &str) -> Option<String> {
    let mut parts = xtext.split('+');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F')))?;
        text.push(char::from(u8::from_str_radix(digits, 16).ok()?));
        text.push_str(&part[2..]);
    }
    let is_printable = text.chars().all(|c| matches!(c, ' '..='~')) && text.chars().any(|c| c != ' ');
    is_printable.then_some(text)
}

/// RFC 2852 §4: seconds that may have a sign, then one of four words; what is to be returned has time left.
fn deliver_by(value: &str) -> Option<DeliverBy> {
    let (time, word) = value.split_once(';')?;
    let digits = time.strip_prefix(['-', '+']).unwrap_or(time);
    let is_time = (1..=9).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let seconds: i64 = if is_time { time.parse().ok()? } else { return None };
    let mode = match word {
        "N" | "NT" => ByMode::Notify,
        "R" | "RT" if seconds > 0 => ByMode::Return,
        _ => return None,
    };
    let by = DeliverBy::new(seconds, mode);
    Some(if word.len() == 2 { by.with_trace() } else { by })
}

/// RFC 4865 §4: one to nine digits, seconds.
fn hold_for(value: &str) -> Option<FutureRelease> {
    let is_time = (1..=9).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
    let seconds = if is_time { value.parse().ok()? } else { return None };
    Some(FutureRelease::For(Duration::from_secs(seconds)))
}

/// RFC 1870 §4: one to twenty digits; what exceeds 64 bits is the largest number.
fn size(digits: &str) -> Option<u64> {
    let is_size = (1..=20).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let number: u128 = if is_size { digits.parse().ok()? } else { return None };
    Some(u64::try_from(number).unwrap_or(u64::MAX))
}
