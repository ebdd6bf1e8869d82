//! Programs of others that judge content: where they listen, what they may cost, and how they are spoken to.

pub(crate) mod clamd;
pub(crate) mod rspamd;
pub(crate) mod spamd;

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use smtp_core::{Content, ContentSource, StoredContent};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Where a filter listens: `host:port`, which may have `inet:` in front, or `unix:/run/filter.sock`.
///
/// ```
/// use smtp_policy::FilterAddress;
///
/// let address: FilterAddress = "unix:/run/clamav/clamd.ctl".parse()?;
/// assert_eq!(address.to_string(), "unix:/run/clamav/clamd.ctl");
/// assert!("localhost".parse::<FilterAddress>().is_err());
/// # Ok::<(), smtp_policy::NotAFilterAddress>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterAddress(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(String),
    Unix(PathBuf),
}

/// A text says neither `host:port` nor `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is neither host:port nor unix:/path")]
pub struct NotAFilterAddress(String);

impl FromStr for FilterAddress {
    type Err = NotAFilterAddress;

    fn from_str(text: &str) -> Result<Self, NotAFilterAddress> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self(Place::Unix(path.into())));
        }
        let text = text.strip_prefix("inet:").unwrap_or(text);
        let port = text.rsplit_once(':').filter(|(host, _)| is_host(host)).and_then(|(_, port)| port.parse().ok());
        match port {
            Some(1_u16..) => Ok(Self(Place::Tcp(text.to_owned()))),
            _ => Err(NotAFilterAddress(text.to_owned())),
        }
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets. Whoever writes a URL here learns of it before mail waits.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // The names of hosts in a file may have an underscore.
        None => !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet)),
    }
}

impl fmt::Display for FilterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Tcp(address) => f.write_str(address),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What one look may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterLimits {
    /// How long it may take, connecting included. Default: 60 s. Then the answer is unknown.
    pub time: Duration,
    /// How large content may be. Default: 32 MiB. Larger content is not shown to the filter, and passes it.
    pub octets: u64,
}

impl Default for FilterLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), octets: 32 << 20 }
    }
}

/// The most octets that an answer may have; what a filter says beyond is no answer.
const ANSWER_LIMIT_OCTETS: u64 = 256 << 10;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl FilterAddress {
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.0 {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }

    /// Says `before`, the content in chunks as `frame` writes each, and `behind`; then reads to the end of the answer.
    ///
    /// A filter may answer and leave before it has read all: then that is its answer.
    async fn ask(
        &self,
        before: &[u8],
        content: &Content,
        frame: impl Fn(&mut Vec<u8>, &[u8]),
        behind: &[u8],
    ) -> io::Result<Vec<u8>> {
        let (mut reader, mut writer) = tokio::io::split(self.connect().await?);
        let say = async {
            writer.write_all(before).await?;
            let mut source = StoredContent::from(content);
            let mut framed = Vec::new();
            while let Some(chunk) = source.next_chunk().await? {
                for part in chunk.chunks(CHUNK_OCTETS) {
                    framed.clear();
                    frame(&mut framed, part);
                    writer.write_all(&framed).await?;
                }
            }
            writer.write_all(behind).await?;
            writer.flush().await
        };
        let hear = async {
            let mut answer = Vec::new();
            let read = (&mut reader).take(ANSWER_LIMIT_OCTETS).read_to_end(&mut answer).await;
            // Who resets the connection behind its answer has still answered.
            if answer.is_empty() {
                read?;
            }
            Ok::<_, io::Error>(answer)
        };
        let (said, heard) = tokio::join!(say, hear);
        match (said, heard?) {
            (Err(error), answer) if answer.is_empty() => Err(error),
            (_, answer) => Ok(answer),
        }
    }
}

/// How much content is written at once.
const CHUNK_OCTETS: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_or_a_path() {
        for (text, is_one) in [
            ("127.0.0.1:3310", true),
            ("[::1]:3310", true),
            ("scanner.example:783", true),
            ("inet:127.0.0.1:8891", true),
            ("inet:8891", false),
            ("unix:/run/x", true),
            ("unix:x", false),
            ("scanner.example", false),
            (":3310", false),
            ("x:0", false),
            ("x:65536", false),
            ("http://127.0.0.1:11333", false),
            ("::1:3310", false),
            ("[x]:3310", false),
            ("a b:3310", false),
            ("user@host:3310", false),
            ("", false),
        ] {
            let parsed = text.parse::<FilterAddress>();
            assert_eq!(parsed.is_ok(), is_one, "{text}");
            assert!(parsed.is_err() || parsed.is_ok_and(|address| text.ends_with(&address.to_string())));
        }
    }
}
