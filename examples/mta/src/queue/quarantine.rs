//! `mta quarantine`: what policies set aside, and what an operator does about it. Requests go over the socket of the queue.

use std::fmt::Write;
use std::time::SystemTime;

use clap::Subcommand;
use smtp_core::SafeText;
use smtp_queue::{Quarantine, QuarantinedMessage, Queue, QueueId, StoredContent};

use crate::AnyError;

use super::answer::{LIST_LIMIT, LISTED, id, in_words, number};
use super::client::{Messages, QueuePlace, ask, each};
use super::report::{Fields, age, count, recipients, size, until};

/// What `mta quarantine` is told.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// What is set aside, the oldest first
    List {
        /// How many at most
        #[arg(long, value_name = "NUMBER", default_value_t = 20)]
        limit: usize,
        /// Those behind that one
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[command(flatten)]
        place: QueuePlace,
    },
    /// A message with all that is known of it, and its header section
    Show(Messages),
    /// Deliver messages after all, once; their senders are told nothing
    Release(Messages),
    /// Remove messages for good, without telling anybody
    Remove(Messages),
}

/// Does what it is told.
///
/// # Errors
/// What the server said, or why it cannot be asked.
pub(crate) fn run(command: &QuarantineCommand) -> Result<(), AnyError> {
    match command {
        QuarantineCommand::List { limit, after, place } => {
            let after = after.as_deref().map_or(String::new(), |after| format!(" {after}"));
            ask(&place.directory()?, &format!("quarantine list {limit}{}", after.replace(['\n', '\r'], "?")))
        }
        QuarantineCommand::Show(messages) => each("quarantine show", messages),
        QuarantineCommand::Release(messages) => each("quarantine release", messages),
        QuarantineCommand::Remove(messages) => each("quarantine remove", messages),
    }
}

/// Answers `list [LIMIT [AFTER]]`, `show ID`, `release ID`, `remove ID`.
///
/// # Errors
/// What the operator is told.
pub(super) async fn answer(queue: &Queue, request: &[&str]) -> Result<String, String> {
    let Some(quarantine) = queue.quarantine() else { return Err("nothing is set aside here".into()) };
    match request {
        ["list"] => list(quarantine, LISTED, None).await,
        ["list", limit] => list(quarantine, number(limit)?, None).await,
        ["list", limit, after] => list(quarantine, number(limit)?, Some(id(after)?)).await,
        ["show", text] => show(quarantine, id(text)?).await,
        ["release", text] => {
            let released = queue.release_quarantined(id(text)?).await.map_err(|error| in_words(&error))?;
            let name = released.ok_or_else(|| absent(text))?;
            Ok(format!("{text} is released and delivered as {name}\n"))
        }
        ["remove", text] => {
            let removed = queue.remove_quarantined(id(text)?).await.map_err(|error| in_words(&error))?;
            let recipients = count(removed.ok_or_else(|| absent(text))?, "recipient");
            Ok(format!("{text} is removed; it was for {recipients}, and nobody is told\n"))
        }
        _ => Err("unknown request".into()),
    }
}

fn absent(text: &str) -> String {
    format!("{text} is not in the quarantine")
}

const HEADING: &str = "id                              age        size  kept      envelope\n";

async fn list(quarantine: &Quarantine, limit: usize, after: Option<QueueId>) -> Result<String, String> {
    let limit = limit.clamp(1, LIST_LIMIT);
    // One more, to know whether there is more.
    let mut listed = quarantine.list(after, limit + 1).await.map_err(|error| in_words(&error))?;
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let now = SystemTime::now();
    let mut text = String::new();
    for message in &listed {
        if text.is_empty() {
            text.push_str(HEADING);
        }
        text.push_str(&line(message, now));
    }
    match listed.last() {
        Some(last) if has_more => {
            let _ = writeln!(text, "more: mta quarantine list --after {}", last.id);
        }
        Some(_) => {}
        None if after.is_some() => text.push_str("no more\n"),
        None => text.push_str("the quarantine is empty\n"),
    }
    Ok(text)
}

fn line(message: &QuarantinedMessage, now: SystemTime) -> String {
    let QuarantinedMessage { id, octets, since, expires, envelope, .. } = message;
    let (age, size, kept) = (age(now, *since), size(*octets), until(now, *expires));
    let reason = message.reasons().map(|(_, reason)| reason).find(|reason| !reason.is_empty()).unwrap_or_default();
    let (from, to, reason) = (&envelope.reverse_path, recipients(envelope), SafeText::new(reason.to_owned()));
    let text = format!("{id}  {age:>7}  {size:>10}  {kept:<8}  {from} -> {to} ({reason})");
    format!("{}\n", text.trim_end_matches(" ()"))
}

async fn show(quarantine: &Quarantine, id: QueueId) -> Result<String, String> {
    let message = quarantine.show(id).await.map_err(|error| in_words(&error))?;
    let message = message.ok_or_else(|| absent(&id.to_string()))?;
    let now = SystemTime::now();
    let mut text = Fields::default();
    text.field("id", message.id);
    text.field("from", &message.envelope.reverse_path);
    for (mailbox, reason) in message.reasons() {
        text.field("to", format_args!("<{mailbox}>: {}", SafeText::new(reason.to_owned())));
    }
    text.field("size", size(message.octets));
    text.field("set aside", format_args!("{} ago", age(now, message.since)));
    text.field("expires", until(now, message.expires));
    if let Some(client) = message.envelope.origin.client {
        text.field("client", client);
    }
    if message.is_leaving {
        text.field("leaves", "its release has begun; ask for it again");
    }
    let content = quarantine.content(id).await.map_err(|error| in_words(&error))?;
    let header = tokio::task::spawn_blocking(move || header_section(&content)).await.unwrap_or_default();
    Ok(format!("{}\n{header}", text.0))
}

/// What is shown of a header section: 16 KiB, and of each line what [`SafeText`] lets through (SECURITY.md D-26).
fn header_section(content: &StoredContent) -> String {
    const SHOWN_OCTETS: usize = 16 << 10;
    let (mut shown, mut place) = (Vec::new(), 0);
    while let Ok(Some(chunk)) = content.chunk(place, SHOWN_OCTETS)
        && shown.len() < SHOWN_OCTETS
    {
        place += chunk.len() as u64;
        shown.extend_from_slice(&chunk);
    }
    shown.truncate(SHOWN_OCTETS);
    let lines = shown.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.take_while(|line| !line.is_empty()).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", SafeText::from_octets(line));
        text
    })
}
