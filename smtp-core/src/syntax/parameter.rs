//! The parameters behind a path: `SIZE=1000 BODY=8BITMIME` (RFC 5321 §4.1.2).

use super::cursor::{Cursor, SyntaxError};

/// The value of `BODY=` (RFC 6152 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Body {
    /// `7BIT`: no octet above 127; what is meant when nothing is said.
    #[default]
    SevenBit,
    /// `8BITMIME`: any octets in lines.
    EightBitMime,
}

/// The parameters of `MAIL`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MailParameters {
    /// `SIZE=`: octets of the message as the client estimates it (RFC 1870 §6).
    pub size_octets: Option<u64>,
    /// `BODY=`.
    pub body: Option<Body>,
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
                    // BINARYMIME is an extension that is not offered (RFC 3030 §3).
                    Some(value) if value.eq_ignore_ascii_case(b"BINARYMIME") => {
                        parameters.note_unrecognized(b"BODY=BINARYMIME");
                        Ok(())
                    }
                    _ => Err(cursor.error("BODY=7BIT or BODY=8BITMIME")),
                }
            } else {
                parameters.note_unrecognized(keyword);
                Ok(())
            }
        })?;
        Ok(parameters)
    }

    fn note_unrecognized(&mut self, keyword: &[u8]) {
        self.unrecognized.get_or_insert_with(|| String::from_utf8_lossy(keyword).into());
    }
}

/// The parameters of `RCPT`. None is known yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RcptParameters {
    /// The first keyword that is not known here.
    pub unrecognized: Option<Box<str>>,
}

impl RcptParameters {
    pub(crate) fn parse_at(cursor: &mut Cursor<'_>) -> Result<Self, SyntaxError> {
        let mut parameters = Self::default();
        each(cursor, |_, keyword, _| {
            parameters.unrecognized.get_or_insert_with(|| String::from_utf8_lossy(keyword).into());
            Ok(())
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
            let value = cursor.take_while(|octet| matches!(octet, b'!'..=b'<' | b'>'..=b'~'));
            if value.is_empty() {
                return Err(cursor.error("the value of the parameter"));
            }
            Some(value)
        } else {
            None
        };
        take(cursor, keyword, value)?;
    }
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
        let unknown = |word: &str| Some(MailParameters { unrecognized: Some(word.into()), ..none.clone() });
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
            ("RFC 3030 §3", " BODY=BINARYMIME", unknown("BODY=BINARYMIME")),
            ("RFC 5321 §4.1.1.11", " RET=HDRS", unknown("RET")),
            ("RFC 5321 §4.1.2", " =x", None),
            ("RFC 5321 §4.1.2", " -a=x", None),
            ("RFC 5321 §4.1.2", " A=b=c", None),
            ("RFC 5321 §4.1.2", "SIZE=1", None),
        ] {
            assert_eq!(mail(input), expected, "{rfc}: {input:?}");
        }
    }
}
