//! `mta send`: hands one message to a server, so that trying needs nothing else.
//!
//! [`client`] speaks with the server, [`content`] makes the message what may be sent. Neither knows of the rest of this
//! program.

mod client;
mod content;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use smtp_core::{Mailbox, ReversePath};

use self::client::{Client, SendError};

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

/// Sends, and prints what the server said in the end.
///
/// # Errors
/// [`SendError`] unless the server took the message for every recipient.
pub(crate) fn send(options: &SendOptions) -> Result<(), SendError> {
    let content = match &options.file {
        Some(file) => content::read(file)?,
        None => content::test_message(&options.from, &options.to, SystemTime::now()),
    };
    let mut client = Client::connect(&options.server, options.verbose)?;
    let sent = client.send(&options.from, &options.to, &content);
    // Who is no longer understood gets no farewell.
    if !matches!(sent, Err(SendError::NoReply(_) | SendError::Network(_))) {
        client.quit();
    }
    let sent = sent?;
    for (mailbox, reply) in &sent.refused {
        let _ = writeln!(io::stderr(), "{mailbox}: {reply}");
    }
    let _ = writeln!(io::stdout(), "{}", sent.reply);
    if sent.refused.is_empty() { Ok(()) } else { Err(SendError::SomeRefused(sent.refused.len())) }
}
