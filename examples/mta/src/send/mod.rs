//! `mta send`: hands one message to a server, so that trying needs nothing else.
//!
//! The client of `smtp_core` speaks with the server; [`content`] makes the message what may be sent, and [`transcript`]
//! shows the dialogue. Neither knows of the rest of this program.

mod content;
mod transcript;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use smtp_core::{
    Bytes, ClientConfig, ClientConnection, ClientLimits, Envelope, ForwardPath, Mailbox, ReversePath, SendCause,
    SendError, SendReport, SendStage,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::AnyError;

use self::transcript::Transcript;

/// A farewell is not worth a wait.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What `mta send` is told.
#[derive(Debug, Args)]
pub(crate) struct SendOptions {
    /// The server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525")]
    server: String,
    /// The reverse-path: a mailbox, or `<>`
    #[arg(long, value_name = "MAILBOX", default_value = "sender@localhost", value_parser = reverse_path)]
    from: ReversePath,
    /// A recipient; can be given several times
    #[arg(long, value_name = "MAILBOX", required = true, value_parser = mailbox)]
    to: Vec<Mailbox>,
    /// Send the content by BDAT where the server offers CHUNKING
    #[arg(long)]
    chunking: bool,
    /// Show the dialogue
    #[arg(long, short)]
    verbose: bool,
    /// The message, `-` for standard input; lines that end with LF alone are sent with CRLF, nothing else is changed.
    /// Without it, a small test message
    file: Option<PathBuf>,
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    Mailbox::parse(text).map_err(|error| error.to_string())
}

fn reverse_path(text: &str) -> Result<ReversePath, String> {
    match text {
        "" | "<>" => Ok(ReversePath::Null),
        _ => mailbox(text).map(ReversePath::Mailbox),
    }
}

/// Why not everybody gets the message.
#[derive(Debug, Error)]
enum NotSent {
    /// There is no connection.
    #[error("cannot connect to {server}: {cause}")]
    Connect {
        /// As it was given.
        server: String,
        /// Why.
        cause: SendCause,
    },
    /// The server takes no mail, or not this message.
    #[error(transparent)]
    Server(SendError),
    /// The server took the message, but not for these.
    #[error("not sent to {refused} of {all} recipients")]
    SomeRefused {
        /// How many.
        refused: usize,
        /// Of how many.
        all: usize,
    },
    /// The server took none of the recipients.
    #[error("not sent: no recipient was taken")]
    AllRefused,
}

/// Sends, and prints what the server said in the end.
///
/// # Errors
/// Unless the server took the message for every recipient.
pub(crate) fn send(options: &SendOptions) -> Result<(), AnyError> {
    let content = match &options.file {
        Some(file) => content::read(file)?,
        None => content::test_message(&options.from, &options.to, SystemTime::now()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(transact(options, content.into()));
    // A name that the system is still looking up is not waited for.
    runtime.shutdown_background();
    print(&options.to, report.map_err(|error| not_sent(options, error))?)?;
    Ok(())
}

async fn transact(options: &SendOptions, content: Bytes) -> Result<SendReport, SendError> {
    let mut limits = ClientLimits::default();
    limits.quit_timeout = QUIT_TIMEOUT;
    let (server, config) = (options.server.as_str(), ClientConfig::default().with_limits(limits));
    let config = if options.chunking { config.with_chunking() } else { config };
    let envelope = Envelope::new(options.from.clone(), options.to.iter().cloned().map(ForwardPath::Mailbox));
    if options.verbose {
        let show = |stream| Transcript::new(stream, io::stderr());
        Ok(send_over(ClientConnection::connect_with(server, &config, show).await?, &envelope, content).await)
    } else {
        Ok(send_over(ClientConnection::connect(server, &config).await?, &envelope, content).await)
    }
}

async fn send_over<S: AsyncRead + AsyncWrite + Unpin + Send>(
    mut connection: ClientConnection<S>,
    envelope: &Envelope,
    content: Bytes,
) -> SendReport {
    let report = connection.send(envelope, content).await;
    connection.quit().await;
    report
}

fn not_sent(options: &SendOptions, error: SendError) -> NotSent {
    match error.stage() {
        SendStage::Connect => NotSent::Connect { server: options.server.clone(), cause: error.cause().clone() },
        _ => NotSent::Server(error),
    }
}

/// The reply to the message; a line for each recipient that was refused.
fn print(to: &[Mailbox], report: SendReport) -> Result<(), NotSent> {
    let (mut taken, mut failed, mut refused) = (None, None, 0);
    for (mailbox, result) in to.iter().zip(report.into_recipients()) {
        match result {
            Ok(reply) => taken = Some(reply),
            Err(error) => match (error.stage(), error.reply()) {
                (SendStage::Rcpt, Some(reply)) if !matches!(error.cause(), SendCause::Misplaced(_)) => {
                    let _ = writeln!(io::stderr(), "{mailbox}: {reply}");
                    refused += 1;
                }
                // What is about the message is the same for all that are left.
                _ => failed = Some(error),
            },
        }
    }
    if let Some(reply) = &taken {
        let _ = writeln!(io::stdout(), "{reply}");
    }
    match (taken, failed) {
        (_, Some(error)) => Err(NotSent::Server(error)),
        (Some(_), None) if refused == 0 => Ok(()),
        (Some(_), None) => Err(NotSent::SomeRefused { refused, all: to.len() }),
        (None, None) => Err(NotSent::AllRefused),
    }
}
