//! What a request of the control socket does.

use std::collections::BTreeSet;
use std::time::SystemTime;

use smtp_core::Mailbox;
use smtp_queue::{Queue, QueueId, SpoolError};

use super::open::LOCAL;
use super::{quarantine, report};

/// The most messages in one answer.
pub(super) const LIST_LIMIT: usize = 10_000;
/// How many are listed where nothing is said.
pub(super) const LISTED: usize = 20;

/// Answers one request: `list [LIMIT [AFTER]]`, `domains`, `totals`, `show ID`, `hold ID`, `release ID`, `retry ID`, `remove ID`, and
/// what `quarantine` knows, with that word in front.
///
/// # Errors
/// What the operator is told.
pub(super) async fn answer(queue: &Queue, request: &str) -> Result<String, String> {
    let mut words = request.split_ascii_whitespace();
    let verb = words.next().unwrap_or("");
    let arguments: Vec<&str> = words.collect();
    match (verb, &arguments[..]) {
        ("quarantine", asked) => quarantine::answer(queue, asked).await,
        ("list", []) => list(queue, LISTED, None).await,
        ("list", [limit]) => list(queue, number(limit)?, None).await,
        ("list", [limit, after]) => list(queue, number(limit)?, Some(id(after)?)).await,
        ("domains", []) => domains(queue).await,
        ("totals", []) => Ok(report::totals(&queue.totals())),
        ("show", [text]) => show(queue, id(text)?).await,
        ("hold", [text]) => said(text, "is held", queue.hold(id(text)?).await),
        ("release", [text]) => said(text, "is released", queue.release(id(text)?).await),
        ("retry", [text]) => said(text, "is due now", queue.retry(id(text)?).await),
        ("remove", [text]) => {
            let removed = queue.remove(id(text)?).await.map_err(|error| in_words(&error))?;
            let recipients = report::count(removed.ok_or_else(|| absent(text))?, "recipient");
            Ok(format!("{text} is removed; {recipients} had no outcome, and nobody is told\n"))
        }
        _ => Err("unknown request".into()),
    }
}

pub(super) fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{}` is not a number", text.escape_debug()))
}

pub(super) fn id(text: &str) -> Result<QueueId, String> {
    text.parse().map_err(|error| format!("`{}`: {error}", text.escape_debug()))
}

fn absent(text: &str) -> String {
    format!("{text} is not in the queue")
}

pub(super) fn in_words(error: &SpoolError) -> String {
    crate::describe(error)
}

fn said(text: &str, done: &str, result: Result<bool, SpoolError>) -> Result<String, String> {
    match result {
        Ok(true) => Ok(format!("{text} {done}\n")),
        Ok(false) => Err(absent(text)),
        Err(error) => Err(in_words(&error)),
    }
}

async fn list(queue: &Queue, limit: usize, after: Option<QueueId>) -> Result<String, String> {
    let limit = limit.clamp(1, LIST_LIMIT);
    // One more, to know whether there is more.
    let mut listed = queue.list(after, limit + 1).await.map_err(|error| in_words(&error))?;
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let now = SystemTime::now();
    let mut text = String::new();
    for message in &listed {
        // What has left the queue meanwhile, or cannot be read, is listed without its envelope.
        let envelope = queue.show(message.id).await.ok().flatten().map(|entry| entry.shown.envelope);
        if text.is_empty() {
            text.push_str(report::HEADING);
        }
        text.push_str(&report::line(message, envelope.as_deref(), now));
    }
    match listed.last() {
        Some(last) if has_more => text += &report::more(last),
        Some(_) => {}
        None if after.is_some() => text.push_str("no more\n"),
        None => text.push_str("the queue is empty\n"),
    }
    Ok(text)
}

/// Under which domains of reverse-paths mail leaves, a line each: of the oldest messages, as many as a list may have.
async fn domains(queue: &Queue) -> Result<String, String> {
    let mut domains = BTreeSet::new();
    for message in queue.list(None, LIST_LIMIT).await.map_err(|error| in_words(&error))? {
        let Ok(Some(entry)) = queue.show(message.id).await else { continue };
        let envelope = &entry.shown.envelope;
        for progress in entry.shown.progress.iter().filter(|progress| *progress.site != *LOCAL) {
            for waiting in &progress.waiting {
                let Some(recipient) = envelope.recipients.get(waiting.index as usize) else { continue };
                let sender = envelope.outgoing_of(recipient).mailbox().and_then(Mailbox::domain);
                domains.extend(sender.map(ToString::to_string));
            }
        }
    }
    Ok(domains.into_iter().map(|domain| domain + "\n").collect())
}

async fn show(queue: &Queue, id: QueueId) -> Result<String, String> {
    let entry = queue.show(id).await.map_err(|error| in_words(&error))?;
    Ok(report::message(&entry.ok_or_else(|| absent(&id.to_string()))?, SystemTime::now()))
}
