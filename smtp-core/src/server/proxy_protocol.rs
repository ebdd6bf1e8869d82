//! Reads the header of a proxy from a connection, and not an octet more (SECURITY D-21).

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::syntax::proxy::ProxyHeader;
use crate::syntax::text::SafeText;

/// How long a proxy may take to send its header.
const LIMIT: Duration = Duration::from_secs(5);

/// Whose connection it is, or why that cannot be told.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<ProxyHeader, SafeText> {
    match timeout(LIMIT, read_header(stream)).await {
        Ok(Ok(header)) => header,
        Ok(Err(error)) => Err(SafeText::new(error.to_string())),
        Err(_elapsed) => Err(SafeText::new("the header of the proxy took too long")),
    }
}

async fn read_header(stream: &mut TcpStream) -> io::Result<Result<ProxyHeader, SafeText>> {
    let mut header = Vec::new();
    let mut ahead = [0; 512];
    loop {
        let seen = stream.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let known = header.len();
        header.extend_from_slice(&ahead[..seen]);
        let parsed = match ProxyHeader::parse(&header) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Err(SafeText::new(error.to_string()))),
        };
        // All that was seen belongs to a header that goes on; of one that ends, only its own octets are taken.
        let taken = parsed.map_or(seen, |(_, length)| length - known);
        stream.read_exact(&mut ahead[..taken]).await?;
        if let Some((found, length)) = parsed {
            let is_twice = matches!(ProxyHeader::parse(&header[length..]), Ok(Some(_)));
            return Ok(if is_twice { Err(SafeText::new("two headers of proxies")) } else { Ok(found) });
        }
    }
}
