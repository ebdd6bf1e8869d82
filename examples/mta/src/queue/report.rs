//! How messages and numbers of the queue read: aligned, one fact in each line.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use smtp_queue::{Diagnosis, Entry, EntryPair, Envelope, Listed, QueueTotals, Waiting};

/// Recipients of a message that a list names.
const NAMED_RECIPIENTS: usize = 2;

/// What stands above the first [`line()`].
pub(super) const HEADING: &str =
    "id                              age        size  state                         envelope\n";

/// A message of a list.
pub(super) fn line(message: &Listed, envelope: Option<&Envelope>, now: SystemTime) -> String {
    let age = age(now, message.id.time());
    let mut text = format!("{}  {age:>7}  {:>10}  {:<28}", message.id, size(message.octets), state(message, now));
    if let Some(envelope) = envelope {
        let _ = write!(text, "  {} -> {}", envelope.reverse_path, recipients(envelope));
    }
    let text = text.trim_end();
    let first = message.pairs.first().map(|pair| format!(" via {}", pair.site)).unwrap_or_default();
    let more = message.pairs.len().saturating_sub(1);
    let more = if more > 0 { format!(" and {}", count(more, "other site")) } else { String::new() };
    format!("{text}{first}{more}\n")
}

/// What stands below the last [`line()`], where there are others.
pub(super) fn more(last: &Listed) -> String {
    format!("more: mta queue list --after {}\n", last.id)
}

/// The next thing that happens to it, at whatever site that is.
fn state(message: &Listed, now: SystemTime) -> String {
    let attempts = message.pairs.iter().map(|pair| pair.attempts).max().unwrap_or(0);
    let attempts = if attempts > 0 { format!(", {}", count(attempts, "attempt")) } else { String::new() };
    let next = message.pairs.iter().filter(|pair| !pair.leased).map(|pair| pair.next_attempt).min();
    match next {
        _ if message.held => format!("held{attempts}"),
        _ if message.pairs.iter().any(|pair| pair.leased) => format!("in work{attempts}"),
        Some(next) => format!("next {}{attempts}", until(now, next)),
        None => String::new(),
    }
}

pub(super) fn recipients(envelope: &Envelope) -> String {
    let some = envelope.recipients.iter().take(NAMED_RECIPIENTS);
    let mut names: Vec<_> = some.map(|one| format!("<{}>", one.mailbox)).collect();
    if let Some(more) = envelope.recipients.len().checked_sub(NAMED_RECIPIENTS).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// Everything that is known of a message.
pub(super) fn message(entry: &Entry, now: SystemTime) -> String {
    let (listed, envelope) = (&entry.shown.listed, &entry.shown.envelope);
    let all = envelope.recipients.len();
    let waiting: usize = entry.pairs.iter().map(|pair| pair.progress.waiting.len()).sum();
    let mut text = Fields::default();
    text.field("id", listed.id);
    text.field("from", &envelope.reverse_path);
    text.field("to", format_args!("{}, {waiting} without an outcome", count(all, "recipient")));
    text.field("size", size(listed.octets));
    text.field("arrived", format_args!("{} ago", age(now, envelope.arrival)));
    if listed.held {
        text.field("held", "until it is released or removed; it does not expire meanwhile");
    } else {
        text.field("expires", until(now, entry.expires));
    }
    if let Some(client) = envelope.origin.client {
        text.field("client", client);
    }
    let transaction = String::from(envelope.origin.transaction.clone());
    if !transaction.is_empty() {
        text.field("transaction", transaction);
    }
    if let Some(about) = envelope.origin.notification_of {
        text.field("notifies", format_args!("of {about}"));
    }
    for EntryPair { progress, waiting, .. } in &entry.pairs {
        text.field("via", format_args!("{}, {}", progress.site, count(progress.attempts, "attempt")));
        text.field("", why(now, waiting));
        for waiting in &progress.waiting {
            let Some(recipient) = envelope.recipients.get(waiting.index as usize) else { continue };
            let last = waiting.last.as_ref().map_or("not tried yet".to_owned(), diagnosis);
            text.field("", format_args!("<{}>: {last}", recipient.mailbox));
        }
    }
    text.0
}

/// Names and values, one below the other.
#[derive(Default)]
pub(super) struct Fields(pub(super) String);

impl Fields {
    pub(super) fn field(&mut self, name: &str, value: impl fmt::Display) {
        let _ = writeln!(self.0, "{name:<12}{value}");
    }
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
        Waiting::Held => "held".into(),
        Waiting::InFlight => "an attempt is made now".into(),
        // What the last attempt met with stands beside each recipient.
        Waiting::NotDue { until: time, .. } => format!("next attempt {}", until(now, *time)),
        Waiting::SiteConcurrency { limit } => {
            format!("due; waits because the next hop has its {} at a time", count(*limit, "attempt"))
        }
        Waiting::SiteRests { until: time } => {
            format!("due; waits because the next hop could not be reached; it is tried again {}", until(now, *time))
        }
        Waiting::TotalConcurrency { limit } => {
            format!("due; waits because all next hops have their {} at a time", count(*limit, "attempt"))
        }
        Waiting::WindowFull { limit } => format!("due; waits because {} come first", count(*limit, "other message")),
        Waiting::Next => "due; it is tried next".into(),
        Waiting::SpoolReadOnly => "not tried before a restart, because a write to the queue failed".into(),
        Waiting::ShutDown => "not tried, because the server stops".into(),
        _ => "waits".into(),
    }
}

/// What became of every recipient, and that none is missing (STANDARDS.md, after C10).
pub(super) fn totals(totals: &QueueTotals) -> String {
    let (mail, notifications) = (&totals.mail, &totals.notifications);
    let mut text = "recipients since the start      mail  notifications\n".to_owned();
    for (name, mail, notifications) in [
        ("taken", mail.taken, notifications.taken),
        ("delivered", mail.delivered, notifications.delivered),
        ("failed", mail.failed, notifications.failed),
        ("quarantined", mail.quarantined, notifications.quarantined),
        ("discarded", mail.discarded, notifications.discarded),
    ] {
        let _ = writeln!(text, "{name:<24}{mail:>12}{notifications:>15}");
    }
    let sum = |of: fn(&smtp_queue::Flow) -> u64| of(mail) + of(notifications);
    let terms = [
        totals.at_start,
        sum(|flow| flow.taken),
        sum(|flow| flow.delivered),
        sum(|flow| flow.failed),
        sum(|flow| flow.quarantined),
        sum(|flow| flow.discarded),
        totals.removed,
        totals.queued,
    ];
    let [at_start, taken, delivered, failed, quarantined, discarded, removed, queued] = terms;
    let _ = writeln!(
        text,
        "\nat start + taken = delivered + failed + quarantined + discarded + removed + queued\n\
         {at_start} + {taken} = {delivered} + {failed} + {quarantined} + {discarded} + {removed} + {queued}, {}",
        match totals.difference() {
            0 => "none is missing".to_owned(),
            // Counters are read one after the other.
            difference => format!("{difference} on the way from one number to another"),
        }
    );
    let spool = &totals.spool;
    let _ = writeln!(
        text,
        "\nnow: {}, {} held, {} ready or in work, {} in flight",
        count(spool.messages, "message"),
        spool.held,
        totals.in_window,
        totals.in_flight
    );
    text
}

/// `1 attempt`, `2 attempts`.
pub(super) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

pub(super) fn age(now: SystemTime, then: SystemTime) -> String {
    short(now.duration_since(then).unwrap_or_default())
}

pub(super) fn until(now: SystemTime, then: SystemTime) -> String {
    match then.duration_since(now) {
        Ok(wait) if !wait.is_zero() => format!("in {}", short(wait)),
        _ => "now".into(),
    }
}

fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

pub(super) fn size(octets: u64) -> String {
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
        for (time, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")]
        {
            assert_eq!(short(seconds(time)), text);
        }
        for (octets, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10_240, "10.0 KiB"), (3 << 19, "1.5 MiB")]
        {
            assert_eq!(size(octets), text);
        }
        assert_eq!([count(0_u32, "attempt"), count(1_u64, "attempt")], ["0 attempts", "1 attempt"]);
    }
}
