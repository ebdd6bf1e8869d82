//! What a sender asks for with `RET=`, `ENVID=`, `NOTIFY=` and `ORCPT=`: whether, and how, it is told what became of a
//! message (RFC 3461 §4).
//!
//! Each of these types holds printable ASCII or less, so that none of them can end a command line or a header field.

use std::fmt;
use std::ops::BitOr;

use super::address::Mailbox;
use super::cursor::{Cursor, SyntaxError};
use super::text;
use super::xtext;

/// What of a message goes back with a notification of a failure: the value of `RET=` (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ret {
    /// `FULL`: all of it.
    Full,
    /// `HDRS`: its header section.
    Headers,
}

impl Ret {
    /// Parses `FULL` or `HDRS`, in any case of letters.
    ///
    /// # Errors
    /// [`SyntaxError`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let text = text.as_ref();
        let all = [Self::Full, Self::Headers].into_iter();
        all.into_iter()
            .find(|ret| text.eq_ignore_ascii_case(ret.as_str().as_bytes()))
            .ok_or_else(|| Cursor::new(text).error("RET=FULL or RET=HDRS"))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name that a sender gives a transaction, to find it again in a notification: the value of `ENVID=` (RFC 3461 §4.4).
///
/// ```
/// use smtp_core::EnvelopeId;
///
/// let id = EnvelopeId::new("QQ 314159")?;
/// assert_eq!(id.to_string(), "QQ+20314159");
/// assert_eq!(EnvelopeId::parse("QQ+20314159")?.as_str(), "QQ 314159");
/// assert!(EnvelopeId::new("x\r\nRCPT TO:<c@d.example>").is_err());
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvelopeId(Box<str>);

impl EnvelopeId {
    /// The most octets as the command has them: 100 (RFC 3461 §4.4).
    pub const LIMIT_OCTETS: usize = 100;

    /// From text as a notification shows it.
    ///
    /// # Errors
    /// [`SyntaxError`] where it is empty, too long, or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, SyntaxError> {
        if xtext::can_encode(text) && xtext::encoded_octets(text) <= Self::LIMIT_OCTETS {
            Ok(Self(text.into()))
        } else {
            Err(Cursor::new(text.as_bytes()).error("printable ASCII of 100 octets at most"))
        }
    }

    /// From xtext, as `ENVID=` has it.
    ///
    /// # Errors
    /// [`SyntaxError`] where it is no xtext, too long, or decodes to something that is not printable ASCII.
    pub fn parse(xtext: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let xtext = xtext.as_ref();
        if xtext.len() > Self::LIMIT_OCTETS {
            return Err(Cursor::new(xtext).error("ENVID= of 100 octets at most"));
        }
        xtext::decode(xtext).map(|text| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As xtext.
impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        xtext::encode(&self.0, f)
    }
}

/// When a sender wants to be told about a recipient: the value of `NOTIFY=` (RFC 3461 §4.1).
///
/// ```
/// use smtp_core::Notify;
///
/// let notify = Notify::parse("failure,DELAY")?;
/// assert!(notify.contains(Notify::DELAY) && !notify.contains(Notify::SUCCESS));
/// assert_eq!(notify, Notify::FAILURE | Notify::DELAY);
/// assert!(Notify::parse("NEVER,DELAY").is_err());
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Notify(u8);

impl Notify {
    /// `NEVER`: of nothing at all.
    pub const NEVER: Self = Self(0);
    /// `SUCCESS`: when it was delivered, or handed to somebody who will not tell.
    pub const SUCCESS: Self = Self(1);
    /// `FAILURE`: when it cannot be delivered.
    pub const FAILURE: Self = Self(2);
    /// `DELAY`: when delivery takes unusually long.
    pub const DELAY: Self = Self(4);

    const WORDS: [(Self, &'static str); 3] =
        [(Self::SUCCESS, "SUCCESS"), (Self::FAILURE, "FAILURE"), (Self::DELAY, "DELAY")];

    /// Parses `NEVER` alone, or any of `SUCCESS`, `FAILURE` and `DELAY` with commas between, in any case of letters.
    ///
    /// # Errors
    /// [`SyntaxError`].
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let text = text.as_ref();
        if text.eq_ignore_ascii_case(b"NEVER") {
            return Ok(Self::NEVER);
        }
        text.split(|&octet| octet == b',').try_fold(Self::NEVER, |notify, word| {
            let known = Self::WORDS.iter().find(|(_, name)| word.eq_ignore_ascii_case(name.as_bytes()));
            let error = || Cursor::new(text).error("NOTIFY=NEVER, or a list of SUCCESS, FAILURE and DELAY");
            Ok(notify | known.ok_or_else(error)?.0)
        })
    }

    /// Whether all of `other` is among it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same without `other`: [`Notify::NEVER`] where nothing is left.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Notify {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("NEVER");
        }
        let words = Self::WORDS.iter().filter(|(notify, _)| self.contains(*notify));
        words.enumerate().try_for_each(|(place, (_, word))| {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(word)
        })
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The address that the sender wrote, however often it was redirected since: the value of `ORCPT=` (RFC 3461 §4.2).
///
/// ```
/// use smtp_core::OriginalRecipient;
///
/// let original = OriginalRecipient::parse("rfc822;Bob+2Bsales@Example.COM")?;
/// assert_eq!((original.address_type(), original.address()), ("rfc822", "Bob+sales@Example.COM"));
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginalRecipient {
    /// The type, `;`, and the address as it is read. A type has no `;`.
    text: Box<str>,
}

impl OriginalRecipient {
    /// The most octets as the command has them, the type included: 500 (RFC 3461 §4.2).
    pub const LIMIT_OCTETS: usize = 500;

    /// From the type, as `rfc822`, and the address as a notification shows it.
    ///
    /// # Errors
    /// [`SyntaxError`] where the type is no atom, or the address is empty, too long, or not printable ASCII.
    pub fn new(address_type: &str, address: &str) -> Result<Self, SyntaxError> {
        let octets = address_type.len() + 1 + xtext::encoded_octets(address);
        if is_atom(address_type.as_bytes()) && xtext::can_encode(address) && octets <= Self::LIMIT_OCTETS {
            Ok(Self { text: format!("{address_type};{address}").into() })
        } else {
            Err(Cursor::new(address.as_bytes()).error("an atom, and printable ASCII of 500 octets at most"))
        }
    }

    /// What `ORCPT=` says of a mailbox: of the type `rfc822`, or `utf-8` where it needs `SMTPUTF8` (RFC 6533 §3).
    ///
    /// ```
    /// use smtp_core::{Mailbox, OriginalRecipient};
    ///
    /// let mailbox = Mailbox::parse("J\u{f6}rg@example.org")?;
    /// assert_eq!(OriginalRecipient::of(&mailbox)?.to_string(), r"utf-8;J\x{F6}rg@example.org");
    /// # Ok::<(), smtp_core::SyntaxError>(())
    /// ```
    ///
    /// # Errors
    /// [`SyntaxError`] where it is too long.
    pub fn of(mailbox: &Mailbox) -> Result<Self, SyntaxError> {
        let address_type = if mailbox.is_ascii() { "rfc822" } else { "utf-8" };
        Self::new(address_type, &xtext::escaped(&text::to_text(mailbox)))
    }

    /// From `type;xtext`, as `ORCPT=` has it. Of the type `utf-8` it may have more than ASCII (RFC 6533 §3), and is kept in
    /// the other form that such an address has, `\x{FC}`, which is good everywhere.
    ///
    /// # Errors
    /// [`SyntaxError`] where it is not that, too long, or decodes to something that is not printable ASCII.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, SyntaxError> {
        let text = text.as_ref();
        if text.len() > Self::LIMIT_OCTETS {
            return Err(Cursor::new(text).error("ORCPT= of 500 octets at most"));
        }
        let mut cursor = Cursor::new(text);
        let address_type = cursor.take_while(|octet| octet != b';');
        if !is_atom(address_type) {
            return Err(cursor.error("ORCPT= and the type of an address"));
        }
        cursor.expect(b';', "; and an address")?;
        let written = if address_type.eq_ignore_ascii_case(b"utf-8") {
            xtext::escaped(text::text(&cursor, cursor.rest())?)
        } else {
            String::from_utf8_lossy(cursor.rest())
        };
        if address_type.eq_ignore_ascii_case(b"rfc822") {
            // Postfix says this of a mailbox that needs SMTPUTF8: it means the other type.
            let octets = xtext::decode_octets(written.as_bytes())?;
            if !octets.is_ascii() {
                return Self::new("utf-8", &xtext::escaped(text::text(&cursor, &octets)?));
            }
        }
        let address = xtext::decode(written.as_bytes())?;
        let address_type = String::from_utf8_lossy(address_type);
        Self::new(&address_type, &address)
    }

    /// The type of the address, as `rfc822`.
    pub fn address_type(&self) -> &str {
        self.parts().0
    }

    /// The address.
    pub fn address(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.text.split_once(';').expect("both constructors write one")
    }
}

/// As `ORCPT=` has it.
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address_type, address) = self.parts();
        write!(f, "{address_type};")?;
        xtext::encode(address, f)
    }
}

/// `addr-type = atom`, without the `=` that no value of a parameter can have (RFC 3461 §4.2, RFC 5322 §3.2.3).
fn is_atom(octets: &[u8]) -> bool {
    let is_atext = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/?^_`{|}~".contains(octet);
    !octets.is_empty() && octets.iter().all(is_atext)
}

/// What the sender asked for with `MAIL` (RFC 3461 §4.3, §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MessageDsn {
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`.
    pub envelope_id: Option<EnvelopeId>,
}

impl MessageDsn {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the sender asked for with `RCPT` (RFC 3461 §4.1, §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RecipientDsn {
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`.
    pub original_recipient: Option<OriginalRecipient>,
}

impl RecipientDsn {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is to be told: where nothing was said, [`Notify::FAILURE`], the smaller of the two defaults that RFC 3461 §4.1
    /// leaves to us.
    pub fn notify(&self) -> Notify {
        self.notify.unwrap_or(Notify::FAILURE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 3461 §4.1
    fn r3461a_the_values_of_notify() {
        for (text, expected) in [
            ("NEVER", Some(Notify::NEVER)),
            ("never", Some(Notify::NEVER)),
            ("SUCCESS", Some(Notify::SUCCESS)),
            ("Delay,success", Some(Notify::SUCCESS | Notify::DELAY)),
            ("SUCCESS,FAILURE,DELAY", Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY)),
            ("FAILURE,FAILURE", Some(Notify::FAILURE)),
            ("NEVER,FAILURE", None),
            ("FAILURE,NEVER", None),
            ("NEVER,NEVER", None),
            ("", None),
            (",", None),
            ("SUCCESS,", None),
            (",SUCCESS", None),
            ("SUCCESS, DELAY", None),
            ("SUCCESS;DELAY", None),
            ("ALWAYS", None),
            ("SUCCESS\r\n", None),
        ] {
            assert_eq!(Notify::parse(text).ok(), expected, "{text:?}");
        }
        for bits in 0..8 {
            let notify = Notify(bits);
            assert_eq!(Notify::parse(notify.to_string()), Ok(notify), "{notify}");
        }
        assert_eq!(Notify::SUCCESS.without(Notify::SUCCESS), Notify::NEVER);
    }

    #[test] // RFC 3461 §4.2; SECURITY D-9
    fn r3461a_the_values_of_orcpt() {
        let long = format!("rfc822;{}", "x".repeat(493));
        let too_long = format!("{long}x");
        let escaped = format!("rfc822;{}", "+41".repeat(164));
        for (text, expected) in [
            ("rfc822;Bob@Example.COM", Some(("rfc822", "Bob@Example.COM"))),
            ("RFC822;a+2Bb@c", Some(("RFC822", "a+b@c"))),
            ("x-local;a+3Bb;c", Some(("x-local", "a;b;c"))),
            ("utf-8;\\x{7f16}@b", Some(("utf-8", "\\x{7f16}@b"))),
            ("utf-8;\u{fc}x@b\u{fc}cher.example", Some(("utf-8", "\\x{FC}x@b\\x{FC}cher.example"))),
            ("utf-8;\u{202e}x@b", None),
            ("rfc822;+C3+BCx@b", Some(("utf-8", "\\x{FC}x@b"))),
            ("rfc822;+E2+80+A8x@b", None),
            ("rfc822;+C3x@b", None),
            ("rfc822;+C3+BC+0Ax@b", None),
            ("x-local;+C3+BCx@b", None),
            ("x400;/S+3DBob/C+3DXX/", Some(("x400", "/S=Bob/C=XX/"))),
            ("rfc822; a@b", None),
            ("rfc822;", None),
            (";a@b", None),
            ("rfc822", None),
            ("a b;c", None),
            ("a@b;c", None),
            ("rfc822;a@b+0D+0A", None),
            ("rfc822;a@b+0d", None),
            ("rfc822;J\u{fc}rgen@b", None),
            ("r\r\nX;a", None),
            ("", None),
            (&*too_long, None),
        ] {
            let found = OriginalRecipient::parse(text).ok();
            let parts = found.as_ref().map(|found| (found.address_type(), found.address()));
            assert_eq!(parts, expected, "{text:?}");
        }
        for text in [&long, &escaped] {
            let found = OriginalRecipient::parse(text).expect("not too long");
            assert_eq!(OriginalRecipient::parse(found.to_string()), Ok(found.clone()));
            assert_eq!(OriginalRecipient::new(found.address_type(), found.address()), Ok(found));
        }
        for (address_type, address) in [("rfc822", "a\r\nb"), ("rfc822", ""), ("", "a"), ("a;b", "c"), ("rf c", "d")] {
            assert!(OriginalRecipient::new(address_type, address).is_err(), "{address_type:?} {address:?}");
        }
    }

    #[test] // RFC 3461 §4.4; SECURITY D-9
    fn r3461a_the_values_of_envid() {
        let (long, too_long) = ("x".repeat(100), "x".repeat(101));
        for (text, expected) in [
            ("QQ314159", Some("QQ314159")),
            ("QQ+20314159", Some("QQ 314159")),
            ("%0d%0a", Some("%0d%0a")),
            (&*long, Some(&*long)),
            (&*too_long, None),
            ("", None),
            ("a+0D+0Ab", None),
            ("a\nb", None),
        ] {
            let found = EnvelopeId::parse(text).ok();
            assert_eq!(found.as_ref().map(EnvelopeId::as_str), expected, "{text:?}");
            if let Some(found) = found {
                assert_eq!(EnvelopeId::parse(found.to_string()), Ok(found.clone()));
                assert_eq!(EnvelopeId::new(found.as_str()), Ok(found));
            }
        }
        let many_escapes = "=".repeat(34);
        for text in ["", " ", "a\r\nb", "J\u{fc}rgen", "\u{2028}", &many_escapes] {
            assert!(EnvelopeId::new(text).is_err(), "{text:?}");
        }
    }
}
