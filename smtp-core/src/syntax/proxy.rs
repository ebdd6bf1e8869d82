//! The header by which a proxy says whose connection it passes on: PROXY protocol, versions 1 and 2.
//!
//! The specification is that of `HAProxy` (`proxy-protocol.txt`, 2020). What a header says is believed only of proxies that
//! the operator lists; here it is only read, and strictly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header of version 1, CRLF included.
const V1_LIMIT_OCTETS: usize = 107;
const V1_START: &[u8] = b"PROXY ";
/// What version 2 begins with.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_OCTETS: usize = 16;
/// The longest header of version 2 that is read: 4 KiB (ours). What is longer carries more than anybody asked for.
const V2_LIMIT_OCTETS: usize = 4096;
/// The type of the checksum among the values behind the addresses.
const V2_CRC32C: u8 = 3;

/// Why octets are no header of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// They begin as no header does.
    #[error("no header of the PROXY protocol")]
    NoHeader,
    /// They begin as one, and go on otherwise.
    #[error("a malformed header of the PROXY protocol")]
    Malformed,
    /// It is longer than it may be.
    #[error("a header of the PROXY protocol that is too long")]
    TooLong,
    /// What it passes on is no TCP connection.
    #[error("a header of the PROXY protocol for something else than TCP")]
    NotTcp,
    /// Its checksum is not that of its octets.
    #[error("a header of the PROXY protocol with a wrong checksum")]
    Checksum,
}

impl ProxyError {
    /// Never: the proxy is set up otherwise than the listener.
    pub fn is_transient(&self) -> bool {
        false
    }
}

/// Whose connection a proxy passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyHeader {
    /// Its own, to see whether the server is there (`LOCAL`), or that of somebody whom it cannot name (`UNKNOWN`).
    Own,
    /// That of a client.
    Client {
        /// The client.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
}

impl ProxyHeader {
    /// Reads a header at the start of `octets`, and how long it is. `None` where more octets are needed to tell.
    ///
    /// # Errors
    /// [`ProxyError`], as soon as it is certain.
    pub fn parse(octets: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        if begins_alike(octets, V2_SIGNATURE) {
            Self::parse_v2(octets)
        } else if begins_alike(octets, V1_START) {
            Self::parse_v1(octets)
        } else {
            Err(ProxyError::NoHeader)
        }
    }

    fn parse_v1(octets: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        let window = &octets[..octets.len().min(V1_LIMIT_OCTETS)];
        let Some(end) = window.iter().position(|octet| *octet == b'\n') else {
            return if window.len() == V1_LIMIT_OCTETS { Err(ProxyError::TooLong) } else { Ok(None) };
        };
        let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed)?;
        let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
        let words: Vec<&str> = line.split(' ').collect();
        let header = match words[..] {
            // What follows UNKNOWN is to be ignored.
            ["PROXY", "UNKNOWN", ..] => Self::Own,
            ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => Self::Client {
                source: SocketAddr::new(address(family, source)?, port(source_port)?),
                destination: SocketAddr::new(address(family, destination)?, port(destination_port)?),
            },
            _ => return Err(ProxyError::Malformed),
        };
        Ok(Some((header, end + 1)))
    }

    fn parse_v2(octets: &[u8]) -> Result<Option<(Self, usize)>, ProxyError> {
        let Some(fixed) = octets.first_chunk::<V2_FIXED_OCTETS>() else { return Ok(None) };
        let [.., command, family, high, low] = *fixed;
        let is_local = match command {
            0x20 => true,
            0x21 => false,
            _ => return Err(ProxyError::Malformed),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let end = V2_FIXED_OCTETS + length;
        if end > V2_LIMIT_OCTETS {
            return Err(ProxyError::TooLong);
        }
        let Some(header) = octets.get(..end) else { return Ok(None) };
        let rest = &header[V2_FIXED_OCTETS..];
        let (addresses, values) = match family {
            _ if is_local => return Ok(Some((Self::Own, end))),
            0x00 => return Ok(Some((Self::Own, end))),
            0x11 => {
                let (fixed, values) = rest.split_first_chunk::<12>().ok_or(ProxyError::Malformed)?;
                let at = |from: usize| {
                    IpAddr::V4(Ipv4Addr::from([fixed[from], fixed[from + 1], fixed[from + 2], fixed[from + 3]]))
                };
                ((at(0), at(4), [fixed[8], fixed[9]], [fixed[10], fixed[11]]), values)
            }
            0x21 => {
                let (fixed, values) = rest.split_first_chunk::<36>().ok_or(ProxyError::Malformed)?;
                let at = |from: usize| {
                    let octets: [u8; 16] = fixed[from..from + 16].try_into().expect("sixteen of them");
                    IpAddr::V6(Ipv6Addr::from(octets))
                };
                ((at(0), at(16), [fixed[32], fixed[33]], [fixed[34], fixed[35]]), values)
            }
            _ => return Err(ProxyError::NotTcp),
        };
        check_values(header, values)?;
        let (source, destination, source_port, destination_port) = addresses;
        let header = Self::Client {
            source: SocketAddr::new(source, u16::from_be_bytes(source_port)),
            destination: SocketAddr::new(destination, u16::from_be_bytes(destination_port)),
        };
        Ok(Some((header, end)))
    }
}

/// Whether both say the same as far as both go.
fn begins_alike(octets: &[u8], start: &[u8]) -> bool {
    octets.iter().zip(start).all(|(left, right)| left == right)
}

fn address(family: &str, text: &str) -> Result<IpAddr, ProxyError> {
    let parsed = if family == "TCP4" { text.parse().map(IpAddr::V4) } else { text.parse().map(IpAddr::V6) };
    parsed.map_err(|_| ProxyError::Malformed)
}

/// Decimal digits, without a sign or a leading zero.
fn port(text: &str) -> Result<u16, ProxyError> {
    let is_plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(ProxyError::Malformed)
}

/// The values behind the addresses: type, length, octets. Of these, only the checksum says something here.
fn check_values(header: &[u8], mut values: &[u8]) -> Result<(), ProxyError> {
    while let [kind, high, low, rest @ ..] = values {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = rest.split_at_checked(length).ok_or(ProxyError::Malformed)?;
        if *kind == V2_CRC32C {
            let said = u32::from_be_bytes(value.try_into().map_err(|_| ProxyError::Malformed)?);
            let at = header.len() - next.len() - value.len();
            let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&header[..at]), &[0; 4]), next);
            if sum != said {
                return Err(ProxyError::Checksum);
            }
        }
        values = next;
    }
    if values.is_empty() { Ok(()) } else { Err(ProxyError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, destination: &str) -> ProxyHeader {
        let parse = |text: &str| text.parse().expect("an address");
        ProxyHeader::Client { source: parse(source), destination: parse(destination) }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 25, 0x9c, 0x40, 0, 25];

    #[test]
    fn version_1_line_by_line() {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n";
        let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LIMIT_OCTETS - 15));
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.25 40000 25\r\n", Ok(client("192.0.2.1:40000", "192.0.2.25:25"))),
            ("PROXY TCP6 2001:db8::1 2001:db8::25 0 65535\r\n", Ok(client("[2001:db8::1]:0", "[2001:db8::25]:65535"))),
            ("PROXY UNKNOWN\r\n", Ok(ProxyHeader::Own)),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Ok(ProxyHeader::Own)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25 40000\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25 40000 25 \r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4  192.0.2.1 192.0.2.25 40000 25\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25 65536 25\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25 025 25\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25 +25 25\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25  25\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.01 192.0.2.25 1 2\r\n", Err(ProxyError::Malformed)),
            ("PROXY UDP4 192.0.2.1 192.0.2.25 1 2\r\n", Err(ProxyError::Malformed)),
            ("PROXY TCP4 192.0.2.1 192.0.2.25 40000 25\n", Err(ProxyError::Malformed)),
            ("proxy TCP4 192.0.2.1 192.0.2.25 40000 25\r\n", Err(ProxyError::NoHeader)),
            ("EHLO client.example\r\n", Err(ProxyError::NoHeader)),
            (
                longest,
                Ok(client(
                    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
                )),
            ),
            (&too_long, Err(ProxyError::TooLong)),
        ] {
            let found = ProxyHeader::parse(line.as_bytes());
            assert_eq!(found, expected.map(|header| Some((header, line.len()))), "{line:?}");
        }
        let empty = ProxyHeader::parse(b"PROXY TCP4 192.0.2.1 192.0.2.25  25\r\n");
        assert_eq!(empty, Err(ProxyError::Malformed));
    }

    #[test]
    fn version_2_octet_by_octet() {
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1, 0x20, 1, 0xd, 0xb8], &[0; 11], &[2, 0, 1, 0, 25]].concat();
        let with = |values: &[u8]| [&V4[..], values].concat();
        for (what, octets, expected) in [
            ("TCP over IPv4", v2(0x21, 0x11, &V4), Ok(client("192.0.2.1:40000", "192.0.2.25:25"))),
            ("TCP over IPv6", v2(0x21, 0x21, &v6), Ok(client("[2001:db8::1]:1", "[2001:db8::2]:25"))),
            ("LOCAL", v2(0x20, 0, &[]), Ok(ProxyHeader::Own)),
            ("LOCAL with addresses", v2(0x20, 0x11, &V4), Ok(ProxyHeader::Own)),
            ("unspecified", v2(0x21, 0, &[1, 2, 3]), Ok(ProxyHeader::Own)),
            (
                "values",
                v2(0x21, 0x11, &with(&[4, 0, 2, 0, 0, 0xea, 0, 0])),
                Ok(client("192.0.2.1:40000", "192.0.2.25:25")),
            ),
            ("a value that is cut off", v2(0x21, 0x11, &with(&[4, 0, 3, 0, 0])), Err(ProxyError::Malformed)),
            ("half a value", v2(0x21, 0x11, &with(&[4, 0])), Err(ProxyError::Malformed)),
            ("a wrong checksum", v2(0x21, 0x11, &with(&[3, 0, 4, 1, 2, 3, 4])), Err(ProxyError::Checksum)),
            ("half a checksum", v2(0x21, 0x11, &with(&[3, 0, 2, 1, 2])), Err(ProxyError::Malformed)),
            ("addresses that are cut off", v2(0x21, 0x11, &V4[..11]), Err(ProxyError::Malformed)),
            ("UDP", v2(0x21, 0x12, &V4), Err(ProxyError::NotTcp)),
            ("a socket of Unix", v2(0x21, 0x31, &[0; 216]), Err(ProxyError::NotTcp)),
            ("another version", v2(0x11, 0x11, &V4), Err(ProxyError::Malformed)),
            ("another command", v2(0x22, 0x11, &V4), Err(ProxyError::Malformed)),
            ("65,535 octets", v2(0x21, 0x11, &vec![0; 65_535]), Err(ProxyError::TooLong)),
        ] {
            let found = ProxyHeader::parse(&octets);
            assert_eq!(found, expected.map(|header| Some((header, octets.len()))), "{what}");
        }
        let mut summed = v2(0x21, 0x11, &with(&[3, 0, 4, 0, 0, 0, 0, 4, 0, 1, 9]));
        let at = summed.len() - 8;
        let sum = crc32c::crc32c(&summed).to_be_bytes();
        summed[at..at + 4].copy_from_slice(&sum);
        assert!(ProxyHeader::parse(&summed).is_ok_and(|found| found.is_some()));
    }

    #[test]
    fn a_part_is_no_header_yet_and_what_follows_is_not_part_of_it() {
        for whole in [v2(0x21, 0x11, &V4), b"PROXY TCP4 192.0.2.1 192.0.2.25 40000 25\r\n".to_vec()] {
            for end in 0..whole.len() {
                assert_eq!(ProxyHeader::parse(&whole[..end]), Ok(None), "{end}");
            }
            let followed = [&whole[..], b"EHLO a\r\n"].concat();
            let length = ProxyHeader::parse(&followed).map(|found| found.map(|(_, length)| length));
            assert_eq!(length, Ok(Some(whole.len())));
        }
    }
}
