//! The law of addresses: parse undoes format, and what is formatted is short, printable ASCII.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};

use smtp_core::{Domain, ForwardPath, Host, Mailbox, PATH_LIMIT_OCTETS, ReversePath, SyntaxError};

/// Checks the input as each kind of address.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    undone(data, ReversePath::parse, PATH_LIMIT_OCTETS);
    undone(data, ForwardPath::parse, PATH_LIMIT_OCTETS);
    undone(data, Mailbox::parse, PATH_LIMIT_OCTETS - 2);
    undone(data, Host::parse, PATH_LIMIT_OCTETS);
    undone(data, Domain::parse, 255);
    a_path_is_a_mailbox_in_brackets(data);
    a_mailbox_falls_apart_into_its_parts(data);
}

fn undone<T: Display + Debug + Eq + Hash>(
    data: &[u8],
    parse: impl Fn(Vec<u8>) -> Result<T, SyntaxError>,
    limit_octets: usize,
) {
    let value = match parse(data.to_vec()) {
        Ok(value) => value,
        Err(error) => return assert!(error.offset() <= data.len(), "{error} in {} octets", data.len()),
    };
    // SECURITY.md D-9: no constructor lets a line break, NUL or non-ASCII octet through.
    assert!(data.iter().all(|octet| matches!(octet, b' '..=b'~')), "{value} from {data:?}");
    let text = value.to_string();
    assert!(text.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{text:?}");
    assert!(text.len() <= limit_octets, "{} octets", text.len());
    let uppercase = text.to_ascii_uppercase();
    let again = parse(text.clone().into_bytes());
    assert_eq!(again.as_ref(), Ok(&value), "{text:?}");
    assert_eq!(again.map(|again| again.to_string()), Ok(text), "a second format changes nothing");
    if let Ok(other) = parse(uppercase.into_bytes())
        && other == value
    {
        assert_eq!(hash(&other), hash(&value), "equal values have equal hashes");
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// RFC 5321 §4.1.2: both paths are `<mailbox>`, besides `<>` and `<postmaster>`.
fn a_path_is_a_mailbox_in_brackets(data: &[u8]) {
    let Ok(mailbox) = Mailbox::parse(data) else { return };
    let path = [b"<", data, b">"].concat();
    assert_eq!(ReversePath::parse(&path), Ok(ReversePath::Mailbox(mailbox.clone())));
    assert_eq!(ForwardPath::parse(&path), Ok(ForwardPath::Mailbox(mailbox)));
}

fn a_mailbox_falls_apart_into_its_parts(data: &[u8]) {
    let Ok(mailbox) = Mailbox::parse(data) else { return };
    let (local_part, host) = (mailbox.local_part().to_string(), mailbox.host().to_string());
    assert_eq!(format!("{local_part}@{host}"), mailbox.to_string());
    assert_eq!(Host::parse(&host).as_ref(), Ok(mailbox.host()));
    assert_eq!(mailbox.domain().is_some(), !host.starts_with('['));
}
