//! What a request of the control socket does, and how its answer reads.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use smtp_queue::{Diagnosis, Envelope, Listed, Queue, QueueId, Waiting};

/// The most messages in one answer.
const LIST_LIMIT: usize = 10_000;
/// Recipients of a message that a list names.
const NAMED_RECIPIENTS: usize = 2;

/// Answers one request: `list [LIMIT [AFTER]]`, `totals`, `show ID`, `hold ID`, `release ID`, `retry ID`, `remove ID`.
///
/// # Errors
/// What the operator is told.
pub(super) async fn answer(queue: &Queue, request: &str) -> Result<String, String> {
    let mut words = request.split_ascii_whitespace();
    let verb = words.next().unwrap_or("");
    let arguments: Vec<&str> = words.collect();
    match (verb, &arguments[..]) {
        ("list", []) => list(queue, 20, None).await,
        ("list", [limit]) => list(queue, number(limit)?, None).await,
        ("list", [limit, after]) => list(queue, number(limit)?, Some(id(after)?)).await,
        ("totals", []) => Ok(totals(queue)),
        ("show", [text]) => show(queue, id(text)?).await,
        ("hold", [text]) => said(text, "held", queue.hold(id(text)?).await),
        ("release", [text]) => said(text, "released", queue.release(id(text)?).await),
        ("retry", [text]) => said(text, "due now", queue.retry(id(text)?).await),
        ("remove", [text]) => {
            let removed = queue.remove(id(text)?).await.map_err(|error| error.to_string())?;
            let recipients = removed.ok_or_else(|| absent(text))?;
            Ok(format!("{text} removed, with {recipients} recipients that had no outcome; nobody is told\n"))
        }
        _ => Err("unknown request".into()),
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{}` is not a number", text.escape_debug()))
}

fn id(text: &str) -> Result<QueueId, String> {
    text.parse().map_err(|error| format!("`{}`: {error}", text.escape_debug()))
}

fn absent(text: &str) -> String {
    format!("{text} is not in the queue")
}

fn said(text: &str, done: &str, result: Result<bool, smtp_queue::SpoolError>) -> Result<String, String> {
    match result {
        Ok(true) => Ok(format!("{text} {done}\n")),
        Ok(false) => Err(absent(text)),
        Err(error) => Err(error.to_string()),
    }
}

fn totals(queue: &Queue) -> String {
    let totals = queue.totals();
    format!("{totals:#?}\n")
}

async fn list(queue: &Queue, limit: usize, after: Option<QueueId>) -> Result<String, String> {
    let listed = queue.list(after, limit.min(LIST_LIMIT)).await.map_err(|error| error.to_string())?;
    let now = SystemTime::now();
    let mut text = String::new();
    for message in &listed {
        let envelope = queue.show(message.id).await.ok().flatten().map(|entry| entry.shown.envelope);
        line(&mut text, message, envelope.as_deref(), now);
    }
    if listed.is_empty() {
        text.push_str(if after.is_some() { "no more\n" } else { "the queue is empty\n" });
    }
    Ok(text)
}

/// One line for a message.
fn line(text: &mut String, message: &Listed, envelope: Option<&Envelope>, now: SystemTime) {
    let age = age(now, message.id.time());
    let _ = write!(text, "{}  {age:>6}  {:>9}", message.id, size(message.octets));
    if let Some(envelope) = envelope {
        let _ = write!(text, "  {} -> {}", envelope.reverse_path, recipients(envelope));
    }
    if message.held {
        text.push_str("  held");
    }
    for pair in &message.pairs {
        let state =
            if pair.leased { "in flight".to_owned() } else { format!("next {}", until(now, pair.next_attempt)) };
        let _ = write!(text, "  [{}: {} attempts, {state}]", pair.site, pair.attempts);
    }
    text.push('\n');
}

fn recipients(envelope: &Envelope) -> String {
    let mut names: Vec<_> =
        envelope.recipients.iter().take(NAMED_RECIPIENTS).map(|one| format!("<{}>", one.mailbox)).collect();
    if let Some(more) = envelope.recipients.len().checked_sub(NAMED_RECIPIENTS).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

async fn show(queue: &Queue, id: QueueId) -> Result<String, String> {
    let entry = queue.show(id).await.map_err(|error| error.to_string())?.ok_or_else(|| absent(&id.to_string()))?;
    let now = SystemTime::now();
    let envelope = &entry.shown.envelope;
    let mut text = String::new();
    let _ = writeln!(text, "id        {id}");
    let _ = writeln!(text, "from      {}", envelope.reverse_path);
    let _ = writeln!(text, "arrived   {} ago", age(now, envelope.arrival));
    let _ = writeln!(text, "expires   {}", until(now, entry.expires));
    let _ = writeln!(text, "size      {}", size(entry.shown.listed.octets));
    if let Some(client) = envelope.origin.client {
        let _ = writeln!(text, "client    {client}, transaction {}", envelope.origin.transaction);
    }
    if let Some(about) = envelope.origin.notification_of {
        let _ = writeln!(text, "notifies  about {about}");
    }
    for pair in &entry.pairs {
        let progress = &pair.progress;
        let _ =
            writeln!(text, "site      {}, {} attempts: {}", progress.site, progress.attempts, why(now, &pair.waiting));
        for waiting in &progress.waiting {
            let Some(recipient) = envelope.recipients.get(waiting.index as usize) else { continue };
            let last = waiting.last.as_ref().map_or("not tried yet".to_owned(), diagnosis);
            let _ = writeln!(text, "  to      <{}>: {last}", recipient.mailbox);
        }
    }
    Ok(text)
}

fn diagnosis(diagnosis: &Diagnosis) -> String {
    match &diagnosis.remote {
        Some(remote) => format!("{remote} said {}", diagnosis.reply),
        None => diagnosis.reply.to_string(),
    }
}

/// Why it does not move, until when, and because of which limit.
fn why(now: SystemTime, waiting: &Waiting) -> String {
    match waiting {
        Waiting::Held => "held until it is released".into(),
        Waiting::InFlight => "an attempt is made now".into(),
        Waiting::NotDue { until: time, last } => {
            let because = last.as_ref().map_or(String::new(), |last| format!(", because {}", diagnosis(last)));
            format!("next attempt {}{because}", until(now, *time))
        }
        Waiting::SiteConcurrency { limit } => format!("the site has its {limit} attempts at a time"),
        Waiting::SiteRests { until: time } => {
            format!("the site could not be reached; it is tried again {}", until(now, *time))
        }
        Waiting::TotalConcurrency { limit } => format!("all sites have their {limit} attempts at a time"),
        Waiting::WindowFull { limit } => format!("{limit} others come first"),
        Waiting::Next => "it is tried next".into(),
        Waiting::SpoolReadOnly => "a write failed, so nothing is tried until a restart".into(),
        Waiting::ShutDown => "the server stops".into(),
        other => format!("{other:?}"),
    }
}

fn age(now: SystemTime, then: SystemTime) -> String {
    short(now.duration_since(then).unwrap_or_default())
}

fn until(now: SystemTime, then: SystemTime) -> String {
    match then.duration_since(now) {
        Ok(wait) if !wait.is_zero() => format!("in {}", short(wait)),
        _ => "now".into(),
    }
}

fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn size(octets: u64) -> String {
    match octets {
        0..1024 => format!("{octets} B"),
        1024..1_048_576 => format!("{}.{} KiB", octets / 1024, octets % 1024 * 10 / 1024),
        _ => format!("{}.{} MiB", octets >> 20, (octets >> 10) % 1024 * 10 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        let seconds = Duration::from_secs;
        for (time, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(short(seconds(time)), text);
        }
        for (octets, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10_240, "10.0 KiB"), (3 << 19, "1.5 MiB")]
        {
            assert_eq!(size(octets), text);
        }
    }
}
