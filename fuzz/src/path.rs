//! The law of addresses: parse undoes format, what is formatted is short and printable, and the same in ASCII is the same.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};

use smtp_core::{Domain, ForwardPath, Host, Mailbox, PATH_LIMIT_OCTETS, ReversePath, SyntaxError};

use crate::text::is_visible;

/// Checks the input as each kind of address.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    undone(data, ReversePath::parse, PATH_LIMIT_OCTETS);
    undone(data, ForwardPath::parse, PATH_LIMIT_OCTETS);
    undone(data, Mailbox::parse, PATH_LIMIT_OCTETS - 2);
    undone(data, Host::parse, PATH_LIMIT_OCTETS);
    undone(data, Domain::parse, PATH_LIMIT_OCTETS);
    the_same_in_ascii_is_the_same(data);
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
    // SECURITY.md D-9, D-42: no constructor lets a line break, NUL or another control through, nor what is no text.
    assert!(std::str::from_utf8(data).is_ok_and(is_visible), "{value} from {data:?}");
    let text = value.to_string();
    assert!(is_visible(&text), "{text:?}");
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

/// RFC 5890 §2.3.2.1: an A-label and its U-label are one label.
fn the_same_in_ascii_is_the_same(data: &[u8]) {
    let Ok(domain) = Domain::parse(data) else { return };
    let ascii = domain.to_ascii();
    assert!(ascii.as_str().is_ascii() && ascii.as_str().len() <= 255, "{ascii} from {domain}");
    assert!(ascii == domain && hash(&ascii) == hash(&domain), "{ascii} from {domain}");
    assert_eq!(Domain::parse(ascii.as_str()), Ok(domain));
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
