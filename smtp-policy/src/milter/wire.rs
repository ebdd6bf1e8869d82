//! The milter protocol as octets: what is said to a filter, and what it answers (version 6, as Sendmail 8.14 and Postfix speak
//! it). Nothing here waits or decides.

use std::net::{IpAddr, SocketAddr};

use smtp_core::SafeText;
use thiserror::Error;

/// The most octets of a packet that a filter may send: a chunk of a body, or one header field. What is longer is no milter.
pub(super) const PACKET_LIMIT_OCTETS: usize = 1 << 20;
/// How many octets of a body are said at once.
pub(super) const BODY_CHUNK_OCTETS: usize = 65_535;
/// The version that is spoken.
pub(super) const VERSION: u32 = 6;

/// What a filter may do to a message (`SMFIF_…`).
pub(super) mod action {
    pub(in super::super) const ADD_HEADERS: u32 = 0x01;
    pub(in super::super) const CHANGE_BODY: u32 = 0x02;
    pub(in super::super) const ADD_RECIPIENT: u32 = 0x04;
    pub(in super::super) const DELETE_RECIPIENT: u32 = 0x08;
    pub(in super::super) const CHANGE_HEADERS: u32 = 0x10;
    pub(in super::super) const QUARANTINE: u32 = 0x20;
    pub(in super::super) const CHANGE_FROM: u32 = 0x40;
    pub(in super::super) const ADD_RECIPIENT_WITH_PARAMETERS: u32 = 0x80;
}

/// What a filter wants to be told, and what it does not answer (`SMFIP_…`).
pub(super) mod protocol {
    pub(in super::super) const NO_CONNECT: u32 = 0x01;
    pub(in super::super) const NO_HELO: u32 = 0x02;
    pub(in super::super) const NO_MAIL: u32 = 0x04;
    pub(in super::super) const NO_RCPT: u32 = 0x08;
    pub(in super::super) const NO_BODY: u32 = 0x10;
    pub(in super::super) const NO_HEADERS: u32 = 0x20;
    pub(in super::super) const NO_END_OF_HEADER: u32 = 0x40;
    pub(in super::super) const NO_REPLY_TO_HEADER: u32 = 0x80;
    pub(in super::super) const NO_UNKNOWN: u32 = 0x100;
    pub(in super::super) const NO_DATA: u32 = 0x200;
    pub(in super::super) const SKIP: u32 = 0x400;
    pub(in super::super) const NO_REPLY_TO_CONNECT: u32 = 0x1000;
    pub(in super::super) const NO_REPLY_TO_HELO: u32 = 0x2000;
    pub(in super::super) const NO_REPLY_TO_MAIL: u32 = 0x4000;
    pub(in super::super) const NO_REPLY_TO_RCPT: u32 = 0x8000;
    pub(in super::super) const NO_REPLY_TO_DATA: u32 = 0x1_0000;
    pub(in super::super) const NO_REPLY_TO_UNKNOWN: u32 = 0x2_0000;
    pub(in super::super) const NO_REPLY_TO_END_OF_HEADER: u32 = 0x4_0000;
    pub(in super::super) const NO_REPLY_TO_BODY: u32 = 0x8_0000;
    pub(in super::super) const LEADING_SPACE: u32 = 0x10_0000;
}

/// One thing that is said to a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Negotiate {
        actions: u32,
        protocol: u32,
    },
    /// Macros for the command of that letter: name, value, name, value.
    Macros {
        before: u8,
        values: &'a [(&'a str, &'a str)],
    },
    Connect {
        name: &'a str,
        client: Option<SocketAddr>,
    },
    Helo(&'a str),
    /// The path in angle brackets, and its parameters.
    Mail(&'a str, &'a [&'a str]),
    Rcpt(&'a str, &'a [&'a str]),
    Data,
    Header {
        name: &'a [u8],
        value: &'a [u8],
    },
    EndOfHeader,
    Body(&'a [u8]),
    EndOfBody,
    Abort,
    Quit,
}

impl Command<'_> {
    /// Its letter.
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Negotiate { .. } => b'O',
            Self::Macros { .. } => b'D',
            Self::Connect { .. } => b'C',
            Self::Helo(_) => b'H',
            Self::Mail(..) => b'M',
            Self::Rcpt(..) => b'R',
            Self::Data => b'T',
            Self::Header { .. } => b'L',
            Self::EndOfHeader => b'N',
            Self::Body(_) => b'B',
            Self::EndOfBody => b'E',
            Self::Abort => b'A',
            Self::Quit => b'Q',
        }
    }

    /// Writes it behind what is there. A NUL in a text would end it early, and becomes a question mark.
    pub(super) fn write_to(self, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend([0; 4]);
        output.push(self.letter());
        match self {
            Self::Negotiate { actions, protocol } => {
                for number in [VERSION, actions, protocol] {
                    output.extend(number.to_be_bytes());
                }
            }
            Self::Macros { before, values } => {
                output.push(before);
                for (name, value) in values {
                    put(output, name.as_bytes());
                    put(output, value.as_bytes());
                }
            }
            Self::Connect { name, client } => {
                put(output, name.as_bytes());
                match client {
                    Some(client) => {
                        let address = client.ip().to_canonical();
                        output.push(if address.is_ipv4() { b'4' } else { b'6' });
                        output.extend(client.port().to_be_bytes());
                        put(output, address_text(address).as_bytes());
                    }
                    None => output.push(b'U'),
                }
            }
            Self::Helo(name) => put(output, name.as_bytes()),
            Self::Mail(path, parameters) | Self::Rcpt(path, parameters) => {
                put(output, path.as_bytes());
                for parameter in parameters {
                    put(output, parameter.as_bytes());
                }
            }
            Self::Header { name, value } => {
                put(output, name);
                put(output, value);
            }
            Self::Body(octets) => output.extend(octets),
            Self::Data | Self::EndOfHeader | Self::EndOfBody | Self::Abort | Self::Quit => {}
        }
        let octets = u32::try_from(output.len() - start - 4).expect("a chunk or a line of limited length");
        output[start..start + 4].copy_from_slice(&octets.to_be_bytes());
    }
}

/// An address as Sendmail writes it for filters: that of IPv6 with its tag (RFC 5321 §4.1.3).
pub(super) fn address_text(address: IpAddr) -> String {
    if address.is_ipv4() { address.to_string() } else { format!("IPv6:{address}") }
}

fn put(output: &mut Vec<u8>, text: &[u8]) {
    output.extend(text.iter().map(|octet| if *octet == 0 { b'?' } else { *octet }));
    output.push(0);
}

/// One thing that a filter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Negotiate {
        version: u32,
        actions: u32,
        protocol: u32,
    },
    Continue,
    /// Nothing more of this message or connection is of interest.
    Accept,
    Discard,
    Reject,
    TempFail,
    /// `551 5.7.1 words`, as it wants the client to be told.
    ReplyCode(String),
    /// No more of the body is of interest.
    Skip,
    /// It still works.
    Progress,
    /// It asks to end the connection with `421`.
    Shutdown,
    /// It cannot go on, and asks to be taken for one that is not there.
    ConnectionFails,
    Change(Change),
}

/// What a filter changes, behind the end of the body only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    AddHeader {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    InsertHeader {
        place: u32,
        name: Vec<u8>,
        value: Vec<u8>,
    },
    /// The nth field of that name, from 1; without a value it goes.
    SetHeader {
        nth: u32,
        name: Vec<u8>,
        value: Vec<u8>,
    },
    /// Its parameters are those of `RCPT`.
    AddRecipient {
        path: String,
        parameters: String,
    },
    DeleteRecipient(String),
    /// Its parameters are those of `MAIL`.
    From {
        path: String,
        parameters: String,
    },
    Body(Vec<u8>),
    Quarantine(SafeText),
}

/// What came is no milter, or none of this version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum WireError {
    #[error("a packet of {0} octets")]
    Length(usize),
    #[error("a packet of the unknown kind {0:?}")]
    Unknown(char),
    #[error("a packet of the kind {0:?} that is cut short")]
    Short(char),
}

/// The first packet of these octets and how many octets it has; `None` where it has not come whole.
///
/// # Errors
/// [`WireError`].
pub(super) fn read(input: &[u8]) -> Result<Option<(Answer, usize)>, WireError> {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if !(1..=PACKET_LIMIT_OCTETS).contains(&length) {
        return Err(WireError::Length(length));
    }
    let Some(packet) = rest.get(..length) else { return Ok(None) };
    Ok(Some((parse(packet[0], &packet[1..])?, 4 + length)))
}

fn parse(kind: u8, data: &[u8]) -> Result<Answer, WireError> {
    let short = || WireError::Short(kind.into());
    let mut fields = Fields(data);
    Ok(match kind {
        b'O' => Answer::Negotiate {
            version: fields.number().ok_or_else(short)?,
            actions: fields.number().ok_or_else(short)?,
            protocol: fields.number().ok_or_else(short)?,
        },
        b'c' => Answer::Continue,
        b'a' => Answer::Accept,
        b'd' => Answer::Discard,
        b'r' => Answer::Reject,
        b't' => Answer::TempFail,
        b's' => Answer::Skip,
        b'p' => Answer::Progress,
        b'4' => Answer::Shutdown,
        b'f' => Answer::ConnectionFails,
        b'y' => Answer::ReplyCode(fields.words().ok_or_else(short)?),
        b'h' => Answer::Change(Change::AddHeader {
            name: fields.text().ok_or_else(short)?,
            value: fields.text().ok_or_else(short)?,
        }),
        b'i' => Answer::Change(Change::InsertHeader {
            place: fields.number().ok_or_else(short)?,
            name: fields.text().ok_or_else(short)?,
            value: fields.text().ok_or_else(short)?,
        }),
        b'm' => Answer::Change(Change::SetHeader {
            nth: fields.number().ok_or_else(short)?,
            name: fields.text().ok_or_else(short)?,
            value: fields.text().ok_or_else(short)?,
        }),
        b'+' => {
            Answer::Change(Change::AddRecipient { path: fields.words().ok_or_else(short)?, parameters: String::new() })
        }
        // `SMFIR_ADDRCPT_PAR`; the parameters may be left away, as in `SMFIR_CHGFROM`.
        b'2' => {
            let path = fields.words().ok_or_else(short)?;
            Answer::Change(Change::AddRecipient { path, parameters: fields.words_if_any().ok_or_else(short)? })
        }
        b'-' => Answer::Change(Change::DeleteRecipient(fields.words().ok_or_else(short)?)),
        b'e' => {
            let path = fields.words().ok_or_else(short)?;
            Answer::Change(Change::From { path, parameters: fields.words_if_any().ok_or_else(short)? })
        }
        b'b' => Answer::Change(Change::Body(data.to_vec())),
        b'q' => Answer::Change(Change::Quarantine(SafeText::new(fields.words().ok_or_else(short)?))),
        other => return Err(WireError::Unknown(other.into())),
    })
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    /// Up to its NUL, which must be there.
    fn text(&mut self) -> Option<Vec<u8>> {
        let end = self.0.iter().position(|octet| *octet == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(text.to_vec())
    }

    fn words(&mut self) -> Option<String> {
        self.text().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// Nothing, where the packet has ended.
    fn words_if_any(&mut self) -> Option<String> {
        if self.0.is_empty() { Some(String::new()) } else { self.words() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(command: Command<'_>) -> Vec<u8> {
        let mut output = Vec::new();
        command.write_to(&mut output);
        output
    }

    #[test]
    fn what_is_said_to_a_filter() {
        for (command, expected) in [
            (
                Command::Negotiate { actions: 0x1ff, protocol: 0x1f_ffff },
                &b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff"[..],
            ),
            (Command::Helo("client.example"), b"\0\0\0\x10Hclient.example\0"),
            (
                Command::Connect { name: "mx.example", client: Some("192.0.2.1:37".parse().expect("an address")) },
                b"\0\0\0\x19Cmx.example\x004\0\x25192.0.2.1\0",
            ),
            (
                Command::Connect { name: "mx.example", client: Some("[2001:db8::1]:37".parse().expect("an address")) },
                b"\0\0\0\x20Cmx.example\x006\0\x25IPv6:2001:db8::1\0",
            ),
            (Command::Connect { name: "localhost", client: None }, b"\0\0\0\x0cClocalhost\0U"),
            (Command::Mail("<a@b>", &["SIZE=1"]), b"\0\0\0\x0eM<a@b>\0SIZE=1\0"),
            (Command::Rcpt("<a\0b>", &[]), b"\0\0\0\x07R<a?b>\0"),
            (Command::Macros { before: b'C', values: &[("j", "mx")] }, b"\0\0\0\x07DCj\0mx\0"),
            (Command::Header { name: b"A", value: b" b\n c" }, b"\0\0\0\x09LA\0 b\n c\0"),
            (Command::Body(b"x\0y"), b"\0\0\0\x04Bx\0y"),
            (Command::EndOfBody, b"\0\0\0\x01E"),
        ] {
            assert_eq!(written(command), expected, "{command:?}: {}", written(command).escape_ascii());
        }
    }

    #[test] // SECURITY D-50
    fn d50_what_a_filter_answers() {
        let change = Answer::Change;
        for (packet, expected) in [
            (&b"\0\0\0\x01c"[..], Ok(Some((Answer::Continue, 5)))),
            (b"\0\0\0\x01cmore", Ok(Some((Answer::Continue, 5)))),
            (b"\0\0\0\x0dO\0\0\0\x06\0\0\0\x01\0\0\0\x02", {
                Ok(Some((Answer::Negotiate { version: 6, actions: 1, protocol: 2 }, 17)))
            }),
            (b"\0\0\0\x0by550 5.7.1\0", Ok(Some((Answer::ReplyCode("550 5.7.1".to_owned()), 15)))),
            (b"\0\0\0\x05hA\0b\0", {
                Ok(Some((change(Change::AddHeader { name: b"A".to_vec(), value: b"b".to_vec() }), 9)))
            }),
            (b"\0\0\0\x08m\0\0\0\x02A\0\0", {
                Ok(Some((change(Change::SetHeader { nth: 2, name: b"A".to_vec(), value: Vec::new() }), 12)))
            }),
            (b"\0\0\0\x06qa\r\nb\0", Ok(Some((change(Change::Quarantine(SafeText::new("a??b"))), 10)))),
            (b"\0\0\0\x09+<a@b.c>\0", {
                let (path, parameters) = ("<a@b.c>".to_owned(), String::new());
                Ok(Some((change(Change::AddRecipient { path, parameters }), 13)))
            }),
            (b"\0\0\0\x092<a@b.c>\0", {
                let (path, parameters) = ("<a@b.c>".to_owned(), String::new());
                Ok(Some((change(Change::AddRecipient { path, parameters }), 13)))
            }),
            (b"\0\0\0\x0b2<a@b.c>\0x\0", {
                let (path, parameters) = ("<a@b.c>".to_owned(), "x".to_owned());
                Ok(Some((change(Change::AddRecipient { path, parameters }), 15)))
            }),
            (b"\0\0\0\x06e<>\0x\0", {
                Ok(Some((change(Change::From { path: "<>".to_owned(), parameters: "x".to_owned() }), 10)))
            }),
            (b"\0\0\0\x05e<>\0x", Err(WireError::Short('e'))),
            (b"\0\0\0\x01f", Ok(Some((Answer::ConnectionFails, 5)))),
            (b"\0\0\0\x03bx\0", Ok(Some((change(Change::Body(b"x\0".to_vec())), 7)))),
            (b"", Ok(None)),
            (b"\0\0\0", Ok(None)),
            (b"\0\0\0\x02c", Ok(None)),
            (b"\0\0\0\0", Err(WireError::Length(0))),
            (b"\xff\xff\xff\xff", Err(WireError::Length(0xffff_ffff))),
            (b"\0\0\0\x01?", Err(WireError::Unknown('?'))),
            (b"\0\0\0\x03hA\0", Err(WireError::Short('h'))),
            (b"\0\0\0\x03i\0\0", Err(WireError::Short('i'))),
            (b"\0\0\0\x02yx", Err(WireError::Short('y'))),
            (b"\0\0\0\x02O\0", Err(WireError::Short('O'))),
        ] {
            assert_eq!(read(packet), expected, "{}", packet.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((_, read))) = read(&octets) {
                prop_assert!(read <= octets.len() && read > 4);
            }
        }
    }
}
