//! Replies: `250 2.1.5 Recipient ok`.

use std::borrow::Cow;
use std::fmt;

use super::text::clean;

/// The three digits of a reply (RFC 5321 §4.2): 200 to 559.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// A code whose digits are in the grammar of RFC 5321 §4.2: the first 2 to 5, the second 0 to 5.
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code <= 559 && (code / 10) % 10 <= 5 { Some(Self(code)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The first digit.
    pub const fn class(self) -> u8 {
        match self.0 {
            0..300 => 2,
            300..400 => 3,
            400..500 => 4,
            _ => 5,
        }
    }

    /// 2yz: it was done.
    pub const fn is_positive(self) -> bool {
        self.class() == 2
    }

    /// 4yz: not now.
    pub const fn is_transient(self) -> bool {
        self.class() == 4
    }

    /// 5yz: not in this form.
    pub const fn is_permanent(self) -> bool {
        self.class() == 5
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The `5.1.1` of a reply: class, subject, detail (RFC 3463 §2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedStatusCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedStatusCode {
    /// Class 2, 4 or 5; subject and detail of at most three digits.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<Self> {
        if matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999 {
            Some(Self { class, subject, detail })
        } else {
            None
        }
    }

    /// The first number.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// The second number.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The third number.
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// The same subject and detail in the class of `code`, as RFC 2034 §4 demands.
    pub(crate) const fn in_class_of(self, code: ReplyCode) -> Self {
        Self { class: code.class(), ..self }
    }
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The words of a reply: printable ASCII on one line, at most [`ReplyText::LIMIT_OCTETS`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ReplyText(Cow<'static, str>);

impl ReplyText {
    /// The most octets that are kept, so that a reply line stays within 512 (RFC 5321 §4.5.3.1.5): 480.
    pub const LIMIT_OCTETS: usize = 480;

    /// Cleans `text`: what is not printable ASCII becomes `?`, what is too long is cut.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        if text.len() <= Self::LIMIT_OCTETS && text.chars().all(is_printable) {
            return Self(text);
        }
        Self(Cow::Owned(clean(&text, Self::LIMIT_OCTETS, is_printable)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReplyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// One reply of one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reply {
    code: ReplyCode,
    status: Option<EnhancedStatusCode>,
    text: ReplyText,
}

impl Reply {
    /// A reply with an enhanced status code, whose class is made that of `code` (RFC 2034 §4).
    pub fn new(code: ReplyCode, status: EnhancedStatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: Some(status.in_class_of(code)), text: ReplyText::new(text) }
    }

    /// A reply without an enhanced status code: the greeting, the answer to `EHLO`, and 354.
    pub fn bare(code: ReplyCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: None, text: ReplyText::new(text) }
    }

    /// The three digits.
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code, where the reply has one.
    pub fn status(&self) -> Option<EnhancedStatusCode> {
        self.status
    }

    /// The words.
    pub fn text(&self) -> &str {
        self.text.as_str()
    }

    /// Appends the line, CRLF included: at most 512 octets.
    pub fn write_to(&self, output: &mut Vec<u8>) {
        // Three codes, as long as they can be.
        output.reserve(self.text.as_str().len() + "250 2.123.123 \r\n".len());
        push_number(output, self.code.get());
        output.push(b' ');
        if let Some(status) = self.status {
            push_number(output, u16::from(status.class));
            output.push(b'.');
            push_number(output, status.subject);
            output.push(b'.');
            push_number(output, status.detail);
            output.push(b' ');
        }
        output.extend_from_slice(self.text.as_str().as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if self.text.as_str().is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

/// Appends the lines of one reply, each but the last with a hyphen (RFC 5321 §4.2.1).
pub(crate) fn write_lines<'a>(output: &mut Vec<u8>, code: ReplyCode, lines: impl IntoIterator<Item = &'a str>) {
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        push_number(output, code.get());
        output.push(if lines.peek().is_some() { b'-' } else { b' ' });
        output.extend_from_slice(line.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

/// Decimal digits without an allocation.
fn push_number(output: &mut Vec<u8>, number: u16) {
    let digits = [number / 10_000, number / 1_000 % 10, number / 100 % 10, number / 10 % 10, number % 10];
    let first = digits.iter().position(|&digit| digit > 0).unwrap_or(4);
    output.extend(digits[first..].iter().map(|&digit| b'0' + (digit % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 5321 §4.2: the digits of a reply code.
    fn a_code_outside_the_grammar_does_not_exist() {
        for (code, valid) in [(250, true), (554, true), (0, false), (199, false), (299, false), (999, false)] {
            assert_eq!(ReplyCode::new(code).is_some(), valid, "{code}");
        }
    }

    #[test] // RFC 5321 §4.5.3.1.5: 512 octets; SECURITY.md D-10: one line.
    fn hostile_text_stays_on_one_line_of_512_octets() {
        let code = ReplyCode::new(550).expect("in the grammar");
        let status = EnhancedStatusCode::new(5, 999, 999).expect("in the grammar");
        let mut line = Vec::new();
        Reply::new(code, status, format!("no\r\n250 yes\0{}", "x".repeat(70_000))).write_to(&mut line);
        assert!(line.starts_with(b"550 5.999.999 no??250 yes?xxx"));
        assert!(line.len() <= 512);
        assert_eq!(line.iter().position(|&octet| octet == b'\n'), Some(line.len() - 1));
    }

    #[test] // RFC 2034 §4: the class of the status equals the first digit of the code.
    fn the_class_follows_the_code() {
        let reply = Reply::new(
            ReplyCode::new(451).expect("in the grammar"),
            EnhancedStatusCode::new(5, 3, 0).expect("in the grammar"),
            "later",
        );
        assert_eq!(reply.to_string(), "451 4.3.0 later");
    }

    #[test] // RFC 5321 §4.2.1: on the wire a space follows the code, with or without text; to be read it ends nothing.
    fn a_reply_without_text_ends_with_its_code() {
        let code = ReplyCode::new(250).expect("in the grammar");
        let status = EnhancedStatusCode::new(2, 1, 5).expect("in the grammar");
        for (reply, shown, sent) in [
            (Reply::bare(code, ""), "250", "250 \r\n"),
            (Reply::bare(code, "Ok"), "250 Ok", "250 Ok\r\n"),
            (Reply::new(code, status, ""), "250 2.1.5", "250 2.1.5 \r\n"),
            (Reply::new(code, status, "Ok"), "250 2.1.5 Ok", "250 2.1.5 Ok\r\n"),
        ] {
            let mut line = Vec::new();
            reply.write_to(&mut line);
            assert_eq!((reply.to_string().as_str(), line.as_slice()), (shown, sent.as_bytes()));
        }
    }

    #[test]
    fn numbers_are_written_as_the_formatter_writes_them() {
        for number in [0, 7, 10, 99, 100, 101, 250, 999, 1000, 65_535] {
            let mut octets = Vec::new();
            push_number(&mut octets, number);
            assert_eq!(octets, number.to_string().into_bytes());
        }
    }
}
