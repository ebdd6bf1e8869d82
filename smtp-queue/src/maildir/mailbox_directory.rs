//! From a mailbox to the name of its directory: `alice+lists@Example.org` is `example.org/alice`.
//!
//! A name holds `a` to `z`, digits, `_`, `-`, and single dots between them; every other octet becomes `%` and two
//! hexadecimal digits. So no mailbox leads out of its root, no two mailboxes share a directory unless they
//! are one mailbox, and no name is hidden, special or too long (SECURITY.md D-13).

use std::fmt::Write;
use std::path::PathBuf;

use smtp_core::Mailbox;
use thiserror::Error;

/// The most octets of an encoded name: below the 255 that file systems have, so that a suffix fits.
const NAME_LIMIT_OCTETS: usize = 200;

/// A mailbox that cannot have a directory: the user is empty, the name too long, or the host an address literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this mailbox cannot have a directory")]
pub struct NoDirectory;

/// The directory of a mailbox, relative to the root: the domain, and in it the user without `+detail` (RFC 5233).
///
/// # Errors
/// [`NoDirectory`].
pub fn mailbox_directory(mailbox: &Mailbox) -> Result<PathBuf, NoDirectory> {
    let domain = mailbox.domain().ok_or(NoDirectory)?;
    let local = mailbox.local_part().to_nfc();
    // RFC 5233
    let user = local.split_once('+').map_or(&*local, |(user, _)| user);
    Ok(PathBuf::from(name(domain.to_ascii().as_str())?).join(name(user)?))
}

fn name(text: &str) -> Result<String, NoDirectory> {
    let text = text.to_ascii_lowercase();
    let octets = text.as_bytes();
    let mut name = String::with_capacity(octets.len());
    for (at, &octet) in octets.iter().enumerate() {
        let is_plain = match octet {
            b'a'..=b'z' => at > 0 || !is_device(&text),
            b'0'..=b'9' | b'_' | b'-' => true,
            b'.' => at > 0 && octets[at - 1] != b'.' && octets.get(at + 1).is_some_and(|&next| next != b'.'),
            _ => false,
        };
        if is_plain {
            name.push(char::from(octet));
        } else {
            write!(name, "%{octet:02x}").map_err(|_| NoDirectory)?;
        }
    }
    if name.is_empty() || name.len() > NAME_LIMIT_OCTETS { Err(NoDirectory) } else { Ok(name) }
}

/// Names that some systems, and shares of theirs, take for devices, with or without an extension.
fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default();
    match stem.as_bytes() {
        b"con" | b"prn" | b"aux" | b"nul" => true,
        [b'c', b'o', b'm', number] | [b'l', b'p', b't', number] => number.is_ascii_digit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    fn of_text(text: &str) -> Option<String> {
        let mailbox = Mailbox::parse(text).expect("a mailbox");
        mailbox_directory(&mailbox).ok().map(|path| path.to_string_lossy().into_owned())
    }

    #[test] // SECURITY.md D-13
    fn d13_names_of_directories() {
        let exactly = format!("{}@localhost", "a".repeat(200));
        for (mailbox, expected) in [
            ("alice@localhost", Some("localhost/alice")),
            ("j\u{f6}rg@b\u{fc}cher.example", Some("xn--bcher-kva.example/j%c3%b6rg")),
            ("jo\u{308}rg@xn--bcher-kva.example", Some("xn--bcher-kva.example/j%c3%b6rg")),
            ("ALICE@LocalHost", Some("localhost/alice")),
            ("alice+Lists+x@localhost", Some("localhost/alice")),
            ("first.last@mx.example.org", Some("mx.example.org/first.last")),
            ("\"../../x\"@localhost", Some("localhost/%2e%2e%2f%2e%2e%2fx")),
            ("\"/etc/passwd\"@localhost", Some("localhost/%2fetc%2fpasswd")),
            ("a/b@localhost", Some("localhost/a%2fb")),
            ("\".\"@localhost", Some("localhost/%2e")),
            ("\"..\"@localhost", Some("localhost/%2e%2e")),
            ("\".hidden\"@localhost", Some("localhost/%2ehidden")),
            ("\"dot.\"@localhost", Some("localhost/dot%2e")),
            ("\"a..b\"@localhost", Some("localhost/a%2e%2eb")),
            ("%2e%2e@localhost", Some("localhost/%252e%252e")),
            ("\"a b\\\\c\"@localhost", Some("localhost/a%20b%5cc")),
            ("\"a:b\"@localhost", Some("localhost/a%3ab")),
            ("con@localhost", Some("localhost/%63on")),
            ("Aux.txt@localhost", Some("localhost/%61ux.txt")),
            ("com1@nul.example", Some("%6eul.example/%63om1")),
            ("con-tact@localhost", Some("localhost/con-tact")),
            ("\"\"@localhost", None),
            ("+detail@localhost", None),
            (exactly.as_str(), Some(&*format!("localhost/{}", "a".repeat(200)))),
            (&format!("a{exactly}"), None),
            (&format!("{}@localhost", "=".repeat(67)), None),
            ("alice@[127.0.0.1]", None),
        ] {
            assert_eq!(of_text(mailbox).as_deref(), expected, "{mailbox}");
        }
    }

    #[test] // SECURITY.md D-13: `..`, empty labels and NUL do not get past the parser.
    fn d13_hostile_domains_are_no_domains() {
        for mailbox in ["a@..", "a@.", "a@", "a@../x", "a@a..b", "a@x\0", "\"a\0b\"@localhost"] {
            assert!(Mailbox::parse(mailbox).is_err(), "{mailbox:?}");
        }
    }

    #[test] // SECURITY.md D-13: whatever the octet, the path has two ordinary components, and only equal users share it.
    fn d13_each_octet_stays_beneath_the_root() {
        let mut seen = std::collections::HashMap::new();
        for octet in (b' '..=b'~').filter(|octet| *octet != b'+') {
            for shape in ["\\?", "\\?\\?", "a\\?", "\\?a", "a\\?a", ".\\?", "\\?."] {
                let local = shape.replace('?', &char::from(octet).to_string());
                let mailbox = Mailbox::parse(format!("\"{local}\"@localhost")).expect("a mailbox");
                let path = mailbox_directory(&mailbox).expect("neither empty nor long");
                assert_eq!(path.components().filter(|part| matches!(part, Component::Normal(_))).count(), 2);
                assert_eq!(path.components().count(), 2, "{path:?}");
                let user = mailbox.local_part().as_str().to_ascii_lowercase();
                assert_eq!(seen.entry(path).or_insert_with(|| user.clone()), &user);
            }
        }
    }
}
