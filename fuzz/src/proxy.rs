//! The law of the PROXY protocol: what a header is does not depend on how much of what follows is there.

use smtp_core::{ProxyError, ProxyHeader};

/// The longest header that is read.
const LONGEST: usize = 4096;

/// Reads each start of the input. Until a header is whole there is none, and then it is the same for ever; what is
/// certainly none stays so.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let whole = ProxyHeader::parse(data);
    let mut before = Ok(None);
    for end in 0..=data.len().min(LONGEST + 1) {
        let found = ProxyHeader::parse(&data[..end]);
        match (before, found) {
            (Ok(None), _) => {}
            (before, found) => assert_eq!(before, found, "{end} octets"),
        }
        if let Ok(Some((header, length))) = found {
            assert!(length == end || before == found, "it was whole before");
            assert!(length <= LONGEST);
            check(header, &data[..length]);
        }
        before = found;
    }
    if data.len() > LONGEST {
        assert!(before != Ok(None), "so many octets are enough to tell");
    }
    assert!(before == whole || (data.len() > LONGEST + 1 && before.is_ok() == whole.is_ok()));
}

/// What version 1 says can be said again, and means the same.
fn check(header: ProxyHeader, octets: &[u8]) {
    let ProxyHeader::Client { source, destination } = header else { return };
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    assert_eq!(ProxyHeader::parse(line.as_bytes()), Ok(Some((header, line.len()))));
    let is_v1 = octets.starts_with(b"PROXY ");
    assert!(is_v1 || octets.len() >= 28);
    // Nothing shorter is a header.
    assert!(matches!(ProxyHeader::parse(&octets[..octets.len() - 1]), Ok(None)), "{:?}", ProxyError::Malformed);
}
