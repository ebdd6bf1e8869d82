//! `TLS-Required: No`: a sender who would rather have the message delivered than protected says so in its header section
//! (RFC 8689 §3). It is read once, when the message comes in, and stays in the content.

use crate::envelope::Envelope;
use crate::header_section::HeaderSection;
use crate::spool::NewContent;

use super::accept::stored;
use super::expansion::start;

/// Octets of a header section that are looked at: 64 KiB, in one that is longer nothing is said. What a policy demands then holds.
const LIMIT_OCTETS: usize = 64 << 10;

/// Whether a message may go where the demands of a [`TlsPolicy`](smtp_core::TlsPolicy) are not met. With `REQUIRETLS` the
/// header field means nothing (RFC 8689 §4.1).
///
/// Blocks nowhere: content in a file is read beside. What cannot be read there cannot be kept either, so that its put fails.
pub(super) async fn is_optional(envelope: &Envelope, content: &NewContent) -> bool {
    if envelope.requires_tls {
        return false;
    }
    let content = match stored(content) {
        Some(content) => content,
        None => start(content).await,
    };
    HeaderSection::read(&content, LIMIT_OCTETS).is_ok_and(|section| says_no(&section))
}

/// One such field and no other: of two, who knows which the sender has written.
fn says_no(section: &HeaderSection) -> bool {
    section.is_complete() && matches!(&section.values("TLS-Required")[..], [value] if value.eq_ignore_ascii_case(b"no"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::StoredContent;
    use bytes::Bytes;

    #[test] // RFC 8689 §3: the value is `No` in any case, and there is one such field. Each row: a header section, and what it says.
    fn r8689_3_no_is_said_once_and_in_full() {
        let long = format!("TLS-Required: No\r\nX: {}\r\n", "x".repeat(LIMIT_OCTETS));
        for (header, expected) in [
            ("TLS-Required: No\r\n", true),
            ("tls-required:NO\r\n", true),
            ("TLS-Required:\r\n no \r\n", true),
            ("TLS-Required : No\r\n", true),
            ("Subject: x\r\nTLS-Required: no\r\nTo: y\r\n", true),
            ("", false),
            ("TLS-Required: Yes\r\n", false),
            ("TLS-Required:\r\n", false),
            ("TLS-Required: No, No\r\n", false),
            ("TLS-Required: No (really)\r\n", false),
            ("TLS-Required: N o\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: Yes\r\n", false),
            ("X-TLS-Required: No\r\n", false),
            ("Subject: TLS-Required: No\r\n", false),
            ("Subject: x\r\n TLS-Required: No\r\n", false),
            ("\r\nTLS-Required: No\r\n", false),
            (&long, false),
        ] {
            let body = format!("{header}\r\nTLS-Required: body\r\n");
            let content = StoredContent::in_memory(Bytes::from("Received: x\r\n"), Bytes::from(body));
            let section = HeaderSection::read(&content, LIMIT_OCTETS).expect("in memory");
            assert_eq!(says_no(&section), expected, "{header:.60}");
        }
    }
}
