//! Over a socket in the file system, as to a mail store on the same host.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::session::client::report::{SendCause, SendError, SendStage};

use super::config::ClientConfig;
use super::connection::ClientConnection;

impl ClientConnection<UnixStream> {
    /// Connects to the Unix socket at that path, and reads the greeting and the answer to `EHLO` or `LHLO`.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_core::{ClientConfig, ClientConnection, Envelope};
    ///
    /// let config = ClientConfig::new("mx.example.org")?.with_lmtp();
    /// let mut store = ClientConnection::connect_unix("/run/dovecot/lmtp", &config).await?;
    /// let envelope = Envelope::parse("alice@client.example", ["bob@example.org"])?;
    /// let report = store.send(&envelope, smtp_core::Bytes::from("Subject: hello\r\n\r\nHello\r\n")).await;
    /// println!("{:?}", report.recipients());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ClientConnection::connect`].
    pub async fn connect_unix(path: impl AsRef<Path>, config: &ClientConfig) -> Result<Self, SendError> {
        Self::connect_unix_with(path, config, |stream| stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ClientConnection<S> {
    /// The same over what `wrap` makes of the connection: see [`ClientConnection::connect_with`].
    ///
    /// # Errors
    /// As [`ClientConnection::connect`].
    pub async fn connect_unix_with(
        path: impl AsRef<Path>,
        config: &ClientConfig,
        wrap: impl FnOnce(UnixStream) -> S,
    ) -> Result<Self, SendError> {
        let failed = |cause| SendError::new(SendStage::Connect, cause);
        match timeout(config.limits().connect_timeout, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Self::over(wrap(stream), config).await,
            Ok(Err(error)) => Err(failed(SendCause::Network(error.kind()))),
            Err(_elapsed) => Err(failed(SendCause::TimedOut)),
        }
    }
}
