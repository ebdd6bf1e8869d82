//! The commands of RFC 5321 §4.1.1 and their arguments.

use super::address::Host;
use super::chunk::Chunk;
use super::cursor::{Cursor, SyntaxError};
use super::mechanism::Mechanism;
use super::parameter::{MailParameters, RcptParameters};
use super::path::{ForwardPath, ReversePath};
use super::secret::Secret;
use super::xclient::{Forwarded, Xclient};

/// One command line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// `EHLO` with the name the client gives itself (RFC 5321 §4.1.1.1).
    Ehlo(Host),
    /// `HELO`, its predecessor.
    Helo(Host),
    /// `LHLO`, in LMTP in the place of both (RFC 2033 §4.1).
    Lhlo(Host),
    /// `MAIL FROM:` (RFC 5321 §4.1.1.2).
    Mail(ReversePath, MailParameters),
    /// `RCPT TO:` (RFC 5321 §4.1.1.3).
    Rcpt(ForwardPath, RcptParameters),
    /// `DATA` (RFC 5321 §4.1.1.4).
    Data,
    /// `BDAT` (RFC 3030 §2); the octets it announces follow the line.
    Bdat(Chunk),
    /// `RSET` (RFC 5321 §4.1.1.5).
    Rset,
    /// `VRFY` (RFC 5321 §4.1.1.6); the argument changes nothing.
    Vrfy,
    /// `EXPN` (RFC 5321 §4.1.1.7).
    Expn,
    /// `HELP` (RFC 5321 §4.1.1.8).
    Help,
    /// `NOOP` (RFC 5321 §4.1.1.9).
    Noop,
    /// `STARTTLS` (RFC 3207 §4).
    StartTls,
    /// `AUTH` (RFC 4954 §4): the mechanism, where it is one that is known, and the initial response as it was sent.
    Auth(Option<Mechanism>, Option<Secret>),
    /// `XCLIENT`: in whose place the peer speaks. What is wrong with it is only told to those who may say it.
    Xclient(Result<Xclient, SyntaxError>),
    /// `XFORWARD`: where a message came from.
    Xforward(Result<Forwarded, SyntaxError>),
    /// `QUIT` (RFC 5321 §4.1.1.10).
    Quit,
    /// A verb of an extension that is not offered.
    NotOffered,
}

/// Why a line is not a command; each kind has its own reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Not a verb of SMTP: `500 5.5.1`.
    #[error("unknown command")]
    UnknownVerb,
    /// An argument where none belongs, or none where one does: `501 5.5.4`.
    #[error("wrong argument: {0}")]
    Argument(SyntaxError),
    /// The name in `EHLO`, `HELO` or `LHLO`: `501 5.5.2`.
    #[error("invalid client name: {0}")]
    Host(SyntaxError),
    /// The reverse-path: `501 5.1.7`.
    #[error("invalid reverse-path: {0}")]
    ReversePath(SyntaxError),
    /// The forward-path: `501 5.1.3`.
    #[error("invalid forward-path: {0}")]
    ForwardPath(SyntaxError),
    /// A parameter: `501 5.5.4`.
    #[error("invalid parameter: {0}")]
    Parameter(SyntaxError),
    /// What follows `BDAT`: `501 5.5.4`. Nobody knows how many octets follow the line, so the session cannot go on.
    #[error("invalid chunk: {0}")]
    Chunk(SyntaxError),
}

impl CommandError {
    /// Never: the same line will be as wrong tomorrow.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// Verbs of extensions that this server knows of and does not offer: `502 5.5.1`.
const NOT_OFFERED: [&str; 7] = ["BURL", "ETRN", "ATRN", "TURN", "SEND", "SOML", "SAML"];

impl Command {
    /// Parses a line without its CRLF. Verbs compare without case (RFC 5321 §2.4).
    ///
    /// # Errors
    /// [`CommandError`], by what is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let mut cursor = Cursor::new(line);
        let verb = cursor.take_while(|octet| octet.is_ascii_alphanumeric());
        if verb.eq_ignore_ascii_case(b"BDAT") {
            return Chunk::parse_at(&mut cursor).map(Self::Bdat).map_err(CommandError::Chunk);
        }
        if !(cursor.is_at_end() || cursor.peek() == Some(b' ')) {
            return Err(CommandError::UnknownVerb);
        }
        let is = |word: &str| verb.eq_ignore_ascii_case(word.as_bytes());
        if is("MAIL") {
            Self::parse_mail(cursor)
        } else if is("RCPT") {
            Self::parse_rcpt(cursor)
        } else if is("EHLO") {
            parse_host(cursor).map(Self::Ehlo)
        } else if is("HELO") {
            parse_host(cursor).map(Self::Helo)
        } else if is("LHLO") {
            parse_host(cursor).map(Self::Lhlo)
        } else if is("DATA") {
            without_argument(cursor, Self::Data)
        } else if is("RSET") {
            without_argument(cursor, Self::Rset)
        } else if is("QUIT") {
            without_argument(cursor, Self::Quit)
        } else if is("STARTTLS") {
            without_argument(cursor, Self::StartTls)
        } else if is("NOOP") {
            Ok(Self::Noop)
        } else if is("HELP") {
            Ok(Self::Help)
        } else if is("VRFY") {
            with_argument(cursor, Self::Vrfy)
        } else if is("EXPN") {
            with_argument(cursor, Self::Expn)
        } else if is("AUTH") {
            parse_auth(cursor)
        } else if is("XCLIENT") {
            Ok(Self::Xclient(Xclient::parse_at(&mut cursor)))
        } else if is("XFORWARD") {
            Ok(Self::Xforward(Forwarded::parse_at(&mut cursor)))
        } else if NOT_OFFERED.iter().any(|word| is(word)) {
            Ok(Self::NotOffered)
        } else {
            Err(CommandError::UnknownVerb)
        }
    }

    fn parse_mail(mut cursor: Cursor<'_>) -> Result<Self, CommandError> {
        introduce(&mut cursor, "FROM:", "FROM: and the reverse-path")?;
        let path = ReversePath::parse_at(&mut cursor).map_err(CommandError::ReversePath)?;
        let parameters = MailParameters::parse_at(&mut cursor).map_err(CommandError::Parameter)?;
        Ok(Self::Mail(path, parameters))
    }

    fn parse_rcpt(mut cursor: Cursor<'_>) -> Result<Self, CommandError> {
        introduce(&mut cursor, "TO:", "TO: and the forward-path")?;
        let path = ForwardPath::parse_at(&mut cursor).map_err(CommandError::ForwardPath)?;
        let parameters = RcptParameters::parse_at(&mut cursor).map_err(CommandError::Parameter)?;
        Ok(Self::Rcpt(path, parameters))
    }
}

/// Steps over ` FROM:` or ` TO:`. A space behind the colon is not in the grammar and is let pass (RFC 5321
/// §3.3 warns of it), because many clients send it and it hides nothing.
fn introduce(cursor: &mut Cursor<'_>, word: &'static str, expected: &'static str) -> Result<(), CommandError> {
    cursor.skip_spaces();
    if !cursor.eat_word(word) {
        return Err(CommandError::Argument(cursor.error(expected)));
    }
    cursor.skip_spaces();
    Ok(())
}

fn parse_host(mut cursor: Cursor<'_>) -> Result<Host, CommandError> {
    cursor.skip_spaces();
    // RFC 6531 §3.7.1: nobody knows yet whether the other side understands more than ASCII.
    let host = Host::parse(trim_end(cursor.rest())).map_err(CommandError::Host)?;
    if host.is_ascii() { Ok(host) } else { Err(CommandError::Host(cursor.error("a domain in ASCII"))) }
}

/// The response is looked at where it is decoded: what is wrong with it has a reply of its own.
fn parse_auth(mut cursor: Cursor<'_>) -> Result<Command, CommandError> {
    cursor.skip_spaces();
    let name = cursor.take_while(|octet| octet != b' ' && octet != b'\t');
    if name.is_empty() {
        return Err(CommandError::Argument(cursor.error("a mechanism")));
    }
    cursor.skip_spaces();
    let response = trim_end(cursor.rest());
    let response = (!response.is_empty()).then(|| Secret::new(String::from_utf8_lossy(response)));
    Ok(Command::Auth(Mechanism::parse(name), response))
}

/// Trailing white space is let pass (RFC 5321 §4.1.1).
fn without_argument(mut cursor: Cursor<'_>, command: Command) -> Result<Command, CommandError> {
    cursor.skip_spaces();
    cursor.expect_end().map_err(CommandError::Argument)?;
    Ok(command)
}

fn with_argument(mut cursor: Cursor<'_>, command: Command) -> Result<Command, CommandError> {
    cursor.skip_spaces();
    if cursor.is_at_end() { Err(CommandError::Argument(cursor.error("an argument"))) } else { Ok(command) }
}

fn trim_end(octets: &[u8]) -> &[u8] {
    let end = octets.iter().rposition(|&octet| octet != b' ' && octet != b'\t').map_or(0, |at| at + 1);
    &octets[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reply that R5321e gives each error.
    fn reply_of(line: &str) -> &'static str {
        match Command::parse(line.as_bytes()) {
            Ok(Command::NotOffered) => "502 5.5.1",
            Ok(_) => "ok",
            Err(CommandError::UnknownVerb) => "500 5.5.1",
            Err(CommandError::Host(_)) => "501 5.5.2",
            Err(CommandError::Argument(_) | CommandError::Parameter(_) | CommandError::Chunk(_)) => "501 5.5.4",
            Err(CommandError::ReversePath(_)) => "501 5.1.7",
            Err(CommandError::ForwardPath(_)) => "501 5.1.3",
        }
    }

    #[test]
    fn lines() {
        for (rfc, line, expected) in [
            ("RFC 5321 §2.4", "noop", "ok"),
            ("RFC 5321 §4.1.1.9", "NOOP anything \u{fc}", "ok"),
            ("RFC 5321 §4.1.1.10", "QUIT ", "ok"),
            ("RFC 5321 §4.1.1.10", "QUIT now", "501 5.5.4"),
            ("RFC 5321 §4.1.1.4", "DATA x", "501 5.5.4"),
            ("RFC 3030 §2", "BDAT 10", "ok"),
            ("RFC 3030 §2", "bdat 10 last", "ok"),
            ("RFC 3030 §2", "BDAT", "501 5.5.4"),
            ("RFC 3030 §2", "BDAT\t10", "501 5.5.4"),
            ("RFC 5321 §4.1.1.5", "RSET x", "501 5.5.4"),
            ("RFC 5321 §4.1.1.6", "VRFY", "501 5.5.4"),
            ("RFC 5321 §4.1.1.6", "VRFY bob", "ok"),
            ("RFC 5321 §4.1.1.8", "HELP", "ok"),
            ("RFC 5321 §4.1.1.1", "EHLO client.example", "ok"),
            ("RFC 5321 §4.1.1.1", "EHLO client.example  ", "ok"),
            ("RFC 5321 §4.1.1.1", "EHLO", "501 5.5.2"),
            ("RFC 5321 §4.1.1.1", "EHLO a b", "501 5.5.2"),
            ("RFC 5321 §4.1.3", "EHLO [192.0.2.1]", "ok"),
            ("RFC 2033 §4.1", "lhlo client.example", "ok"),
            ("RFC 2033 §4.1", "LHLO", "501 5.5.2"),
            ("RFC 5321 §4.1.1.2", "MAIL FROM:<a@b.example>", "ok"),
            ("RFC 5321 §4.1.1.2", "mail from:<a@b.example>", "ok"),
            ("RFC 5321 §3.3, let pass", "MAIL FROM: <a@b.example>", "ok"),
            ("RFC 5321 §4.1.1.2", "MAIL FROM:<a@b.example> ", "ok"),
            ("RFC 5321 §4.1.1.2", "MAIL FROM:<a@b.example>SIZE=1", "501 5.5.4"),
            ("RFC 5321 §4.1.1.2", "MAIL FROM:a@b.example", "501 5.1.7"),
            ("RFC 5321 §4.1.1.2", "MAIL FROM <a@b.example>", "501 5.5.4"),
            ("RFC 5321 §4.1.1.2", "MAIL", "501 5.5.4"),
            ("RFC 5321 §4.1.1.2", "MAIL <a@b.example>", "501 5.5.4"),
            ("RFC 1870 §4", "MAIL FROM:<a@b.example> SIZE=x", "501 5.5.4"),
            ("RFC 5321 §4.1.1.3", "RCPT TO:<>", "501 5.1.3"),
            ("RFC 5321 §4.1.1.3", "RCPT TO:<a@b.example>", "ok"),
            ("RFC 3207 §4", "STARTTLS", "ok"),
            ("RFC 3207 §4", "STARTTLS now", "501 5.5.4"),
            ("RFC 4954 §4", "AUTH PLAIN", "ok"),
            ("RFC 4954 §4", "auth plain AHRpbQB0YW4=", "ok"),
            ("RFC 4954 §4", "AUTH FOO =", "ok"),
            ("RFC 4954 §4", "AUTH", "501 5.5.4"),
            ("RFC 4954 §4", "AUTH ", "501 5.5.4"),
            ("RFC 1985 §5", "ETRN example.org", "502 5.5.1"),
            ("RFC 5321 §4.2.4", "FOO", "500 5.5.1"),
            ("RFC 5321 §4.2.4", "", "500 5.5.1"),
            ("RFC 5321 §4.2.4", " NOOP", "500 5.5.1"),
            ("RFC 5321 §4.2.4", "NOOP\r", "500 5.5.1"),
            ("RFC 5321 §4.2.4", "NO\0OP", "500 5.5.1"),
            ("RFC 5321 §4.2.4", "GET / HTTP/1.1", "500 5.5.1"),
        ] {
            assert_eq!(reply_of(line), expected, "{rfc}: {line:?}");
        }
    }
}
