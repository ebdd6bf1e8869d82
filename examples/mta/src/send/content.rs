//! What is sent: a file with its line ends made right, or a small test message.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use smtp_core::{DateTime, HeaderField, Mailbox, ReversePath};
use thiserror::Error;

/// The most octets that are read from a file: 1 GiB.
const LIMIT_OCTETS: u64 = 1 << 30;

/// The message cannot be read.
#[derive(Debug, Error)]
#[error("{path}: cannot be read")]
pub(super) struct ContentError {
    path: String,
    source: io::Error,
}

/// Reads a file, or standard input for `-`. An LF without a CR becomes CRLF.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ContentError> {
    let failed = |source| ContentError { path: path.display().to_string(), source };
    let mut content = Vec::new();
    let source: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
    source.take(LIMIT_OCTETS + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LIMIT_OCTETS {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(with_crlf(&content))
}

/// A bare CR stays what it is: nobody can say what it meant, and the encoder refuses it.
fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(content.len() + content.len() / 32);
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                canonical.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                canonical.extend_from_slice(b"\r\n");
            }
            None => canonical.extend_from_slice(line),
        }
    }
    canonical
}

/// A message with the fields that RFC 5322 §3.6 asks for.
pub(super) fn test_message(from: &ReversePath, to: &[Mailbox], time: SystemTime) -> Vec<u8> {
    let author = from.mailbox().map_or_else(|| "postmaster@localhost".to_owned(), ToString::to_string);
    let recipients = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let random = RandomState::new().hash_one(time);
    let mut content = Vec::new();
    for (name, value) in [
        ("Date", DateTime::new(time).to_string()),
        ("Message-ID", format!("<{random:016x}.{}@localhost>", std::process::id())),
        ("From", author),
        ("To", recipients),
        ("Subject", "A test message".to_owned()),
    ] {
        // A list of recipients may be too long for one field; the message is a test with or without it.
        if let Ok(field) = HeaderField::new(name, &value) {
            content.extend_from_slice(field.as_bytes());
        }
    }
    content.extend_from_slice(b"\r\nSent by `mta send`.\r\n");
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ends_of_lines_change() {
        for (content, expected) in [
            (&b""[..], &b""[..]),
            (b"a\nb\r\nc", b"a\r\nb\r\nc"),
            (b"\n.\n\xff\n", b"\r\n.\r\n\xff\r\n"),
            (b"a\rb\n", b"a\rb\r\n"),
            (b"a\r\r\n", b"a\r\r\n"),
        ] {
            assert_eq!(with_crlf(content), expected, "{content:?}");
        }
    }

    #[test] // RFC 5322 §3.6
    fn a_test_message_has_its_fields() {
        let to = ["alice@localhost", "bob@localhost"].map(|text| Mailbox::parse(text).expect("a mailbox"));
        let message = String::from_utf8(test_message(&ReversePath::Null, &to, SystemTime::UNIX_EPOCH)).expect("ASCII");
        let (header, _) = message.split_once("\r\n\r\n").expect("a header section");
        let names: Vec<_> = header.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        assert_eq!(names, ["Date", "Message-ID", "From", "To", "Subject"]);
        assert!(header.contains("To: alice@localhost, bob@localhost"));
    }
}
