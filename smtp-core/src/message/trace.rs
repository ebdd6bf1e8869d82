//! Trace header fields: `Received` and `Return-Path` (RFC 5321 §4.4).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::syntax::address::{AddressLiteral, Host, Mailbox};
use crate::syntax::path::{ForwardPath, ReversePath};
use crate::syntax::priority::Priority;
use crate::syntax::text::to_text;
use crate::syntax::xtext::escaped;

use super::date::DateTime;
use super::header_field::HeaderField;

/// What was spoken: the `with` clause (RFC 5321 §4.4, RFC 3848).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// The session began with `HELO`.
    Smtp,
    /// The session began with `EHLO`.
    Esmtp,
    /// The same under TLS.
    Esmtps,
    /// The same with authentication, in clear.
    Esmtpa,
    /// The same with both.
    Esmtpsa,
    /// As ESMTP, in a transaction with `SMTPUTF8` (RFC 6531 §4.3).
    Utf8Smtp,
    /// As ESMTPS, with `SMTPUTF8`.
    Utf8Smtps,
    /// As ESMTPA, with `SMTPUTF8`.
    Utf8Smtpa,
    /// As ESMTPSA, with `SMTPUTF8`.
    Utf8Smtpsa,
    /// As LMTP, with `SMTPUTF8`.
    Utf8Lmtp,
    /// As LMTPS, with `SMTPUTF8`.
    Utf8Lmtps,
    /// As LMTPA, with `SMTPUTF8`.
    Utf8Lmtpa,
    /// As LMTPSA, with `SMTPUTF8`.
    Utf8Lmtpsa,
    /// The session began with `LHLO` (RFC 2033).
    Lmtp,
    /// The same under TLS.
    Lmtps,
    /// The same with authentication, in clear.
    Lmtpa,
    /// The same with both.
    Lmtpsa,
}

impl Protocol {
    /// The registered word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Esmtp => "ESMTP",
            Self::Esmtps => "ESMTPS",
            Self::Esmtpa => "ESMTPA",
            Self::Esmtpsa => "ESMTPSA",
            Self::Lmtp => "LMTP",
            Self::Lmtps => "LMTPS",
            Self::Lmtpa => "LMTPA",
            Self::Lmtpsa => "LMTPSA",
            Self::Utf8Smtp => "UTF8SMTP",
            Self::Utf8Smtps => "UTF8SMTPS",
            Self::Utf8Smtpa => "UTF8SMTPA",
            Self::Utf8Smtpsa => "UTF8SMTPSA",
            Self::Utf8Lmtp => "UTF8LMTP",
            Self::Utf8Lmtps => "UTF8LMTPS",
            Self::Utf8Lmtpa => "UTF8LMTPA",
            Self::Utf8Lmtpsa => "UTF8LMTPSA",
        }
    }

    /// The word for a transaction with `SMTPUTF8` (RFC 6531 §4.3).
    #[must_use]
    pub fn with_smtputf8(self) -> Self {
        match self {
            Self::Esmtp => Self::Utf8Smtp,
            Self::Esmtps => Self::Utf8Smtps,
            Self::Esmtpa => Self::Utf8Smtpa,
            Self::Esmtpsa => Self::Utf8Smtpsa,
            Self::Lmtp => Self::Utf8Lmtp,
            Self::Lmtps => Self::Utf8Lmtps,
            Self::Lmtpa => Self::Utf8Lmtpa,
            Self::Lmtpsa => Self::Utf8Lmtpsa,
            other => other,
        }
    }
}

/// What a `Received` field says about one hop.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    /// The argument of `EHLO`, `HELO` or `LHLO`.
    pub helo: &'a Host,
    /// The address of the client.
    pub client: IpAddr,
    /// The name of this server.
    pub by: &'a Host,
    /// What was spoken.
    pub with: Protocol,
    /// What the log of this server calls the transaction: letters, digits, hyphens and dots.
    pub id: &'a str,
    /// The argument of `MAIL`.
    pub reverse_path: &'a ReversePath,
    /// The recipient, only where there is exactly one: more would tell each about the others (RFC 5321 §7.6).
    pub recipient: Option<&'a ForwardPath>,
    /// The priority of the message, where the client said one: the clause `PRIORITY` (RFC 6710 §4.1, §7).
    pub priority: Option<Priority>,
    /// When the content had arrived.
    pub time: SystemTime,
}

impl Received<'_> {
    /// The header field, with `(envelope-from <…>)` as a comment.
    ///
    /// It is ASCII, with A-labels in the names of hosts, so that a message is no harder to pass on for having come by here: a recipient that needs `SMTPUTF8` is
    /// left out, and a reverse-path in the comment is written as RFC 6533 §3 does.
    pub fn to_field(&self) -> HeaderField {
        let client = AddressLiteral::from(self.client);
        let (helo, by) = (self.helo.clone().into_ascii(), self.by.clone().into_ascii());
        let mut value = String::with_capacity(256);
        let _ = write!(value, "from {helo} ({client}) by {by} with {} id {}", self.with.as_str(), self.id);
        if let Some(recipient) = self.recipient.filter(|recipient| recipient.is_ascii()) {
            let _ = write!(value, " for {recipient}");
        }
        if let Some(priority) = self.priority {
            let _ = write!(value, " PRIORITY {priority}");
        }
        let envelope_from = in_comment(&escaped(&to_text(self.reverse_path)));
        let _ = write!(value, " (envelope-from {envelope_from}); {}", DateTime::new(self.time));
        let time = DateTime::new(self.time);
        field_or_less("Received", &value, || {
            format!("from {client} ({client}) by {by} with {} id {}; {time}", self.with.as_str(), self.id)
        })
    }
}

/// The `Return-Path` field that final delivery puts in front (RFC 5321 §4.4).
pub fn return_path(reverse_path: &ReversePath) -> HeaderField {
    field_or_less("Return-Path", &reverse_path.to_string(), || "<>".to_owned())
}

/// The `Delivered-To` field that final delivery puts in front (RFC 9228).
pub fn delivered_to(mailbox: &Mailbox) -> HeaderField {
    field_or_less("Delivered-To", &mailbox.to_string(), String::new)
}

/// All parts are printable ASCII, so only a path of more than 998 octets cannot be written; then it is left out.
fn field_or_less(name: &str, value: &str, less: impl FnOnce() -> String) -> HeaderField {
    HeaderField::new(name, value)
        .or_else(|_| HeaderField::new(name, &less()))
        .or_else(|_| HeaderField::new(name, ""))
        .expect("a valid name with an empty value is a header field")
}

/// In a comment, parentheses, quotes and backslashes stand behind a backslash (RFC 5322 §3.2.2).
fn in_comment(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len() + 8), |mut quoted, c| {
        if matches!(c, '(' | ')' | '\\' | '"') {
            quoted.push('\\');
        }
        quoted.push(c);
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn received(reverse_path: &str, recipient: Option<&str>) -> String {
        let recipient = recipient.map(|path| ForwardPath::parse(path).expect("valid"));
        let field = Received {
            helo: &Host::parse("client.example").expect("valid"),
            client: "192.0.2.1".parse().expect("valid"),
            by: &Host::parse("mx.example.org").expect("valid"),
            with: Protocol::Esmtp,
            id: "0f3a-1",
            reverse_path: &ReversePath::parse(reverse_path).expect("valid"),
            recipient: recipient.as_ref(),
            priority: None,
            time: UNIX_EPOCH + Duration::from_secs(1_795_311_863),
        };
        field.to_field().to_string()
    }

    #[test] // RFC 5321 §4.4; PRACTICES.md S28 and S29
    fn s28_received_names_the_reverse_path() {
        assert_eq!(
            received("<alice@client.example>", Some("<bob@example.org>")),
            "Received: from client.example ([192.0.2.1]) by mx.example.org with ESMTP id\r\n \
             0f3a-1 for <bob@example.org> (envelope-from <alice@client.example>); Sun, 22\r\n \
             Nov 2026 01:44:23 +0000"
        );
        assert!(!received("<>", None).contains(" for "));
    }

    #[test] // PRACTICES.md S29: all 17 words (RFC 5321 §4.4, RFC 3848 §2, RFC 6531 §4.3)
    fn s29_received_has_each_of_the_seventeen_words() {
        use Protocol::{Esmtp, Esmtpa, Esmtps, Esmtpsa, Lmtp, Lmtpa, Lmtps, Lmtpsa, Smtp};
        let host = Host::parse("mx.example.org").expect("valid");
        for (with, word, with_utf8) in [
            (Smtp, "SMTP", "SMTP"),
            (Esmtp, "ESMTP", "UTF8SMTP"),
            (Esmtpa, "ESMTPA", "UTF8SMTPA"),
            (Esmtps, "ESMTPS", "UTF8SMTPS"),
            (Esmtpsa, "ESMTPSA", "UTF8SMTPSA"),
            (Lmtp, "LMTP", "UTF8LMTP"),
            (Lmtpa, "LMTPA", "UTF8LMTPA"),
            (Lmtps, "LMTPS", "UTF8LMTPS"),
            (Lmtpsa, "LMTPSA", "UTF8LMTPSA"),
        ] {
            for (with, word) in [(with, word), (with.with_smtputf8(), with_utf8)] {
                let field = Received {
                    helo: &host,
                    client: "192.0.2.1".parse().expect("valid"),
                    by: &host,
                    with,
                    id: "0f3a-1",
                    reverse_path: &ReversePath::Null,
                    recipient: None,
                    priority: None,
                    time: UNIX_EPOCH,
                };
                let field = field.to_field().to_string().replace("\r\n", "");
                let expected = format!(
                    "Received: from mx.example.org ([192.0.2.1]) by mx.example.org with {word} id 0f3a-1 \
                     (envelope-from <>); Thu, 1 Jan 1970 00:00:00 +0000"
                );
                assert_eq!(field.replace("  ", " "), expected);
            }
        }
    }

    #[test] // RFC 6710 §7: a clause of its own, behind all that RFC 5321 §4.4 has.
    fn r6710_received_says_the_priority() {
        let host = Host::parse("mx.example.org").expect("valid");
        let field = Received {
            helo: &host,
            client: "192.0.2.1".parse().expect("valid"),
            by: &host,
            with: Protocol::Esmtp,
            id: "0f3a-1",
            reverse_path: &ReversePath::Null,
            recipient: None,
            priority: Priority::new(-3),
            time: UNIX_EPOCH,
        };
        let field = field.to_field().to_string().replace("\r\n", "");
        assert!(field.contains(" id 0f3a-1 PRIORITY -3 (envelope-from <>); "), "{field}");
    }

    #[test] // RFC 6531 §3.7.3 lets it have more; ours is read everywhere.
    fn received_is_ascii_whoever_wrote_to_whom() {
        let field = received("<J\u{f6}rg@b\u{fc}cher.example>", Some("<\u{fc}@example.org>"));
        assert!(field.is_ascii() && field.contains(r"<J\\x{F6}rg@b\\x{FC}cher.example>"), "{field}");
        assert!(!field.contains(" for "), "{field}");
    }

    #[test] // SECURITY.md D-11: a hostile reverse-path stays inside its comment.
    fn d11_parentheses_and_quotes_do_not_leave_the_comment() {
        let field = received("<\"a) by evil (\\\\\"@client.example>", None).replace("\r\n", "");
        let comment = &field[field.find("(envelope-from").expect("there")..];
        let mut depth = 0;
        let mut escaped = false;
        let mut end = None;
        for (at, c) in comment.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                end = Some(at);
                break;
            }
        }
        assert_eq!(&comment[end.expect("closed") + 1..], "; Sun, 22 Nov 2026 01:44:23 +0000");
    }

    #[test] // A path too long for any line is left out, not cut into another address.
    fn paths_of_any_length_make_a_field() {
        let path = format!("<{}@example.org>", "a".repeat(1000));
        assert!(received(&path, Some(&path)).starts_with("Received: from"));
        let path = ReversePath::parse(&path).expect("valid");
        assert_eq!(return_path(&path).to_string(), "Return-Path: <>");
    }
}
