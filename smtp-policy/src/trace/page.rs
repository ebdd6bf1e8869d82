//! How the trace of a session reads: when, what was said, what each check found, and why the verdict is what it is.

use std::fmt;
use std::time::{Duration, SystemTime};

use smtp_core::DateTime;

use super::entry::TraceEntry;
use super::event::{Judged, JudgedFinding, Traced};
use crate::finding::Action;

/// Writes the page: the first entry with its date, each later one with the time since then.
pub(super) fn write(f: &mut fmt::Formatter<'_>, entries: &[TraceEntry]) -> fmt::Result {
    let Some(first) = entries.first() else { return Ok(()) };
    if let Some(session) = entries.iter().find_map(TraceEntry::session) {
        writeln!(f, "session {session}")?;
    }
    writeln!(f, "{}\n", DateTime::new(first.at()))?;
    for entry in entries {
        let time = format!("{:>11}", since(first.at(), entry.at()));
        match entry.traced() {
            Traced::Judged(judged) => write_judged(f, &time, judged)?,
            other => writeln!(f, "{time}  {}", line(other))?,
        }
    }
    Ok(())
}

/// How long after the first.
fn since(first: SystemTime, at: SystemTime) -> String {
    let after = at.duration_since(first).unwrap_or(Duration::ZERO);
    let seconds = after.as_secs();
    match seconds {
        0..60 => format!("+{seconds}.{:03} s", after.subsec_millis()),
        60..3600 => format!("+{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("+{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("+{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn line(traced: &Traced) -> String {
    match traced {
        Traced::Rules { practices } => format!("the server looks at {} practices", practices.len()),
        Traced::Connected { peer, local } => format!("connected: {peer} to {local}"),
        Traced::Greeted { name, protocol } => format!("greeted: {name} ({protocol})"),
        Traced::Tls { version, cipher } => format!("TLS: {version}, {cipher}"),
        Traced::TlsFailed { cause } => format!("no TLS: {cause}"),
        Traced::PassedOn { peer, by } => format!("passed on: {by} speaks for {peer}"),
        Traced::Authenticated { identity, mechanism } => format!("authenticated: {identity} ({mechanism})"),
        Traced::LoginDelayed { user, seconds } => {
            format!("login of {user} delayed by {seconds} s: too many have failed")
        }
        Traced::Sender { transaction, reverse_path } => format!("MAIL {reverse_path}: ok (transaction {transaction})"),
        Traced::Recipient { recipient, .. } => format!("RCPT {recipient}: ok"),
        Traced::Refused { stage, subject, reply, policy, held, .. } => {
            let by = if policy.as_str().is_empty() { String::new() } else { format!(" (by `{policy}`)") };
            let held = if *held { ", which is said at RCPT" } else { "" };
            format!("refused at {stage}: {subject}: {reply}{by}{held}")
        }
        Traced::Accepted { reverse_path, recipients, octets, id, .. } => {
            let id = if id.as_str().is_empty() { String::new() } else { format!(", queue id {id}") };
            format!("accepted: {octets} octets of {reverse_path}, recipients: {recipients}{id}")
        }
        Traced::Trouble { problem } => format!("trouble: {problem}"),
        Traced::Closed { reason } => format!("closed: {reason}"),
        Traced::Cut => "the session said more than is kept of one".into(),
        Traced::Queued { id, reverse_path, recipients, .. } => {
            format!("queued: {id} of {reverse_path}, recipients: {recipients}")
        }
        Traced::Attempted { id, recipient, site, number, result, reply, remote } => {
            let by = if remote.as_str().is_empty() { String::new() } else { format!(" ({remote})") };
            format!("{result}: {id} to <{recipient}> by {site}, attempt {number}: {reply}{by}")
        }
        Traced::Notified { about, id, recipient } => format!("notification: {id} about {about} to <{recipient}>"),
        Traced::Noted { id, note } => format!("{id}: {note}"),
        Traced::Judged(judged) => format!("`{}` judged {}", judged.policy, judged.recipient),
    }
}

fn write_judged(f: &mut fmt::Formatter<'_>, time: &str, judged: &Judged) -> fmt::Result {
    let when = if judged.content_seen { "with the content" } else { "at RCPT" };
    let role = if judged.is_role { ", a role mailbox" } else { "" };
    let done = in_words(judged.action.as_str(), judged.reply.as_str());
    if !judged.is_by_rules() {
        let whom =
            if judged.recipient.as_str().is_empty() { String::new() } else { format!(" on {}", judged.recipient) };
        writeln!(f, "{time}  `{}`{whom}: {done}", judged.policy)?;
        return judged.findings.iter().try_for_each(|finding| write_finding(f, finding));
    }
    writeln!(f, "{time}  `{}` on {}{role}, {when}: {done}", judged.policy, judged.recipient)?;
    for finding in &judged.findings {
        write_finding(f, finding)?;
    }
    writeln!(f, "{INDENT}{}", sum(judged))?;
    writeln!(f, "{INDENT}{}", because(judged))?;
    if !judged.shadow.as_str().is_empty() {
        let done = in_words(judged.shadow.as_str(), judged.shadow_reply.as_str());
        writeln!(f, "{INDENT}without shadow: {done}")?;
    }
    Ok(())
}

/// Below what was judged.
const INDENT: &str = "                 ";

fn write_finding(f: &mut fmt::Formatter<'_>, finding: &JudgedFinding) -> fmt::Result {
    let JudgedFinding { number, practice, outcome, action, weight, evidence, shadow, .. } = finding;
    let action = match (action.as_str(), weight) {
        // It says nothing of what passed.
        ("off", _) => String::new(),
        ("score", weight) => format!("score {weight}"),
        (action, _) => action.to_owned(),
    };
    let shadow =
        if shadow.as_str().is_empty() { String::new() } else { format!(" [in shadow: the preset would {shadow}]") };
    writeln!(
        f,
        "{INDENT}{:<8} {:<24} {:<8} {action:<10} {evidence}{shadow}",
        number.as_str(),
        practice.as_str(),
        outcome.as_str()
    )
}

/// PRACTICES P9: the weights are the score.
fn sum(judged: &Judged) -> String {
    let parts: Vec<_> = judged.findings.iter().filter(|finding| finding.weight > 0).collect();
    let parts: Vec<_> = parts.iter().map(|finding| format!("{} ({})", finding.weight, finding.practice)).collect();
    if parts.is_empty() {
        format!("score {}", judged.score)
    } else {
        format!("score {} = {}", judged.score, parts.join(" + "))
    }
}

/// What decided.
fn because(judged: &Judged) -> String {
    let word = judged.judged.as_str();
    if Action::from_word(word).is_none_or(|action| action <= Action::Score) {
        return "nothing that was found asks for more".into();
    }
    let decisive: Vec<_> = judged.findings.iter().filter(|finding| finding.action == judged.judged).collect();
    let names: Vec<_> = decisive.iter().map(|finding| finding.practice.as_str()).collect();
    let why = if names.is_empty() { "the score".to_owned() } else { names.join(", ") };
    if judged.judged == judged.action {
        format!("because of {why}")
    } else {
        format!("{word} because of {why}, but it came again or is known")
    }
}

/// What an action means to whom it happens.
pub(crate) fn in_words(action: &str, reply: &str) -> String {
    match (Action::from_word(action), reply) {
        (Some(Action::Off | Action::Observe | Action::Score), _) => "let pass".into(),
        (Some(Action::Tag), _) => "delivered as junk".into(),
        (Some(Action::Quarantine), _) => "set aside".into(),
        (Some(Action::Greylist), "") => "asked to come again, unless it came before".into(),
        (Some(Action::Greylist | Action::Defer), reply) => format!("asked to come again: {reply}"),
        (Some(Action::Reject), reply) => format!("refused: {reply}"),
        (None, _) if action == "tempfail" => "asked to come again".into(),
        (None, _) if action == "accept" => "let pass".into(),
        (None, _) if action == "discard" => "dropped".into(),
        _ => action.to_owned(),
    }
}
