//! The coding of challenges and responses (RFC 4648 §4), strict: padding is needed, unused bits are zero, and nothing
//! else is let pass.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// `None` where that is not Base64.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(crate) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY.md D-20: each length mod 4, and each place of `=`.
    fn d20_only_strict_base64_is_decoded() {
        for (text, valid) in [
            ("", true),
            ("A", false),
            ("AA", false),
            ("AAA", false),
            ("AAAA", true),
            ("AAAAA", false),
            ("AAAAAA", false),
            ("AAAAAAA", false),
            ("AAAAAAAA", true),
            ("AAA=", true),
            ("AA==", true),
            ("A===", false),
            ("====", false),
            ("=AAA", false),
            ("A=AA", false),
            ("AA=A", false),
            ("AAA=AAAA", false),
            ("AAAA=", false),
            ("AAAA====", false),
            ("AA=", false),
            ("AAAAA===", false),
            ("AAB=", false), // RFC 4648 §3.5: the unused bits are zero.
            ("AB==", false),
            ("AA A", false),
            ("AAAA\n", false),
            ("AAA\0", false),
            ("AA-_", false),
            ("AA+/", true),
            ("AA\u{e9}", false),
        ] {
            let decoded = decode(text.as_bytes());
            assert_eq!(decoded.is_some(), valid, "{text:?}");
            assert_eq!(decoded.map(|octets| encode(&octets)), valid.then(|| text.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn every_length_is_encoded_and_read_back() {
        for length in 0..=32_u8 {
            let octets: Vec<u8> = (0..length).collect();
            assert_eq!(decode(encode(&octets).as_bytes()), Some(octets));
        }
    }
}
