//! A client on tokio: connecting, sending, and the sources of content.
//!
//! [`connection`] is the loop that drives a [`ClientSession`](crate::ClientSession), [`config`] what it is told,
//! [`content_source`] where content comes from, [`body`] what is said of it, [`connecting`] how a connection is made,
//! [`tls`] how it is protected and [`verify`] against whom, [`tls_policy`] what a next hop demands, [`demand`] how that is met, [`mailer`] keeps some in its [`pool`], [`inbound`] is what was read, `unix` how a socket in the file system is reached.

mod body;
pub(crate) mod config;
mod connecting;
pub(crate) mod connection;
pub(crate) mod content_source;
mod demand;
mod inbound;
pub(crate) mod mailer;
mod pool;
mod stream;
pub(crate) mod tls;
pub(crate) mod tls_policy;
pub(crate) mod tls_table;
#[cfg(unix)]
mod unix;
pub(crate) mod verify;

use bytes::Bytes;
use tokio::net::ToSocketAddrs;

use crate::session::client::envelope::Envelope;
use crate::session::client::report::{SendError, SendReport};

use self::config::ClientConfig;
use self::connection::ClientConnection;

/// Sends one message: connects, introduces itself by its address, sends, says `QUIT`.
///
/// Whoever sends often, or with TLS and a password, has a [`Mailer`](crate::Mailer).
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_core::Envelope;
///
/// let envelope = Envelope::parse("alice@client.example", ["bob@example.org"])?;
/// let report = smtp_core::send("mx.example.org:25", &envelope, "Subject: hello\r\n\r\nHello\r\n").await?;
/// assert!(report.is_delivered(), "{:?}", report.recipients());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Where the server cannot be reached or takes no mail at all. What became of each recipient stands in the report.
pub async fn send(
    server: impl ToSocketAddrs,
    envelope: &Envelope,
    content: impl Into<Bytes>,
) -> Result<SendReport, SendError> {
    let mut connection = ClientConnection::connect(server, &ClientConfig::default()).await?;
    let report = connection.send(envelope, content.into()).await;
    connection.quit().await;
    Ok(report)
}
