//! One connection to Dovecot's authentication server: lines of words with tabs between them, and a number for each login.
//!
//! Whatever the other side says is bounded: the length of a line, the number of lines, and by its caller the time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::sasl::client::ClientExchange;
use crate::session::connection::Connection;
use crate::session::decision::AuthError;
use crate::syntax::mechanism::{Mechanism, Mechanisms};

use super::DovecotError;

/// Octets of a line, at most, on both sides: as Dovecot has it.
pub(super) const LINE_OCTETS: usize = 16_384;
/// Lines of a handshake, and lines until the one that answers a login.
const LINES: usize = 256;

/// Whatever octets go over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that has shaken hands.
pub(super) struct Wire {
    stream: BufReader<Box<dyn Stream>>,
    mechanisms: Mechanisms,
    /// The number of the last login.
    last: u32,
    opened: Instant,
}

/// What Dovecot says of a login.
pub(super) type Answer = Result<Option<String>, AuthError>;

impl Wire {
    /// Shakes hands: both say at once which version they speak, and Dovecot what it offers.
    pub(super) async fn open(stream: Box<dyn Stream>) -> Result<Self, DovecotError> {
        let (stream, opened) = (BufReader::new(stream), Instant::now());
        let mut wire = Self { stream, mechanisms: Mechanisms::NONE, last: 0, opened };
        // Dovecot wants it to differ from that of any other connection; those of one process have one process id.
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|_| DovecotError::Network(io::ErrorKind::Other.into()))?;
        let client = (u32::from_le_bytes(random) >> 1).max(1);
        wire.write(&format!("VERSION\t1\t2\nCPID\t{client}\n")).await?;
        let mut is_understood = false;
        for _ in 0..LINES {
            let line = wire.line().await?;
            let mut words = line.split('\t');
            match (words.next(), words.next()) {
                (Some("VERSION"), Some("1")) => is_understood = true,
                (Some("VERSION"), _) => return Err(DovecotError::Protocol("it speaks another version")),
                (Some("MECH"), Some(name)) => {
                    let known = Mechanism::parse(name).into_iter();
                    wire.mechanisms = wire.mechanisms.iter().chain(known).collect();
                }
                (Some("DONE"), _) if is_understood => return Ok(wire),
                (Some("DONE"), _) => return Err(DovecotError::Protocol("it does not say which version it speaks")),
                _ => {}
            }
        }
        Err(DovecotError::Protocol("its handshake does not end"))
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    pub(super) fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(mechanism)
    }

    /// One login, from its initial response to the answer.
    pub(super) async fn log_in(
        &mut self,
        connection: &Connection,
        mechanism: Mechanism,
        mut exchange: ClientExchange,
        first: &str,
    ) -> Result<Answer, DovecotError> {
        self.last = self.last.wrapping_add(1).max(1);
        let id = self.last.to_string();
        let line = request(connection, mechanism, &id, first);
        if line.len() > LINE_OCTETS {
            // Dovecot takes no such line, so nobody has that password.
            return Ok(Err(AuthError::Rejected));
        }
        self.write(&line).await?;
        for _ in 0..LINES {
            let line = self.line().await?;
            let mut words = line.split('\t');
            let (Some(word), Some(about)) = (words.next(), words.next()) else { continue };
            if about != id {
                continue;
            }
            match word {
                "OK" if exchange.may_succeed() => return user_of(words).map(Ok),
                "FAIL" => return Ok(Err(why(words))),
                "CONT" => {
                    let challenge = words.next().unwrap_or_default();
                    let response = exchange.respond(challenge.as_bytes());
                    let response = response.ok_or(DovecotError::Protocol("it asks for more than there is to say"))?;
                    self.write(&format!("CONT\t{id}\t{response}\n")).await?;
                }
                _ => return Err(DovecotError::Protocol("its answer is none")),
            }
        }
        Err(DovecotError::Protocol("it does not come to an answer"))
    }

    async fn write(&mut self, line: &str) -> Result<(), DovecotError> {
        self.stream.write_all(line.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    async fn line(&mut self) -> Result<String, DovecotError> {
        let mut line = Vec::new();
        let most = LINE_OCTETS as u64;
        (&mut self.stream).take(most).read_until(b'\n', &mut line).await?;
        match line.pop() {
            Some(b'\n') => String::from_utf8(line).map_err(|_| DovecotError::Protocol("a line is not UTF-8")),
            Some(_) if line.len() + 1 == LINE_OCTETS => Err(DovecotError::Protocol("a line is too long")),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

/// The line of a login. Addresses are for Dovecot's own rules and its log; `nologin` says that nobody will ask it about the user
/// later, `no-penalty` that failures are slowed here.
fn request(connection: &Connection, mechanism: Mechanism, id: &str, first: &str) -> String {
    let secured = if connection.tls().is_some() { "\tsecured" } else { "" };
    let place = |which: char, address: SocketAddr| {
        format!("\t{which}ip={}\t{which}port={}", address.ip().to_canonical(), address.port())
    };
    let (remote, local) = (place('r', connection.peer()), place('l', connection.local()));
    format!("AUTH\t{id}\t{mechanism}\tservice=smtp\tnologin\tno-penalty{secured}{remote}{local}\tresp={first}\n")
}

/// The name that Dovecot knows the user by, where it says one.
fn user_of<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Option<String>, DovecotError> {
    let Some(user) = words.find_map(|word| word.strip_prefix("user=")) else { return Ok(None) };
    let user = unescape(user);
    let is_name = !user.is_empty() && !user.chars().any(char::is_control);
    if is_name { Ok(Some(user)) } else { Err(DovecotError::Protocol("the name of the user is none")) }
}

/// Why a login has failed. What is not the fault of the credential may work later.
fn why<'a>(words: impl Iterator<Item = &'a str>) -> AuthError {
    let mut why = AuthError::Rejected;
    for word in words {
        match word {
            "temp" | "code=temp_fail" | "code=auth_mech_invalid" | "code=auth_mech_ssl_required" => {
                return AuthError::Unavailable;
            }
            "code=pass_expired" => why = AuthError::ChangeNeeded,
            _ => {}
        }
    }
    why
}

/// Takes the escapes out of a word: `\x01` and a letter.
fn unescape(word: &str) -> String {
    let mut characters = word.chars();
    let mut text = String::new();
    while let Some(character) = characters.next() {
        let escaped = if character == '\x01' { characters.next() } else { None };
        text.push(match escaped {
            None => character,
            Some('0') => '\0',
            Some('1') => '\x01',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('n' | 'l') => '\n',
            Some(other) => other,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_words_are_taken_out() {
        for (word, text) in [
            ("alice", "alice"),
            ("a\x01tb\x011c", "a\tb\x01c"),
            ("\x010\x01r\x01n\x01l\x01x", "\0\r\n\nx"),
            ("end\x01", "end\x01"),
            ("", ""),
        ] {
            assert_eq!(unescape(word), text, "{word:?}");
        }
    }

    #[test] // What is no fault of the user is never a permanent answer.
    fn failures_are_of_the_credential_or_of_the_directory() {
        for (words, expected) in [
            (&["user=alice"][..], AuthError::Rejected),
            (&[], AuthError::Rejected),
            (&["user=alice", "temp"], AuthError::Unavailable),
            (&["code=temp_fail", "user=alice"], AuthError::Unavailable),
            (&["code=pass_expired", "temp"], AuthError::Unavailable),
            (&["user=alice", "code=pass_expired"], AuthError::ChangeNeeded),
            (&["user=temp", "reason=temp fail", "code=user_disabled"], AuthError::Rejected),
            (&["code=auth_mech_ssl_required"], AuthError::Unavailable),
        ] {
            assert_eq!(why(words.iter().copied()), expected, "{words:?}");
        }
    }
}
