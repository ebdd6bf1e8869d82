//! The part for programs: `message/delivery-status` (RFC 3464 §2), and fields that cannot become two.

use smtp_core::{AddressLiteral, ByMode, DateTime, EnhancedStatusCode, HeaderField, Host, Mailbox, Reply};

use super::charset::Charset;
use super::{Action, Entry, Report};

/// Characters of an address too long for any line that are shown all the same.
const SHOWN_OF_LONG: usize = 512;

/// Header fields, and those of a delivery status, while they are written.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) charset: Charset,
    pub(super) octets: Vec<u8>,
}

impl Fields {
    pub(super) fn new(charset: Charset, octets: usize) -> Self {
        Self { charset, octets: Vec::with_capacity(octets) }
    }

    /// Writes one field: what the charset does not have becomes `?`, what is too long for a line is cut.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let shown = shown(value);
        self.field_or(name, value, &shown);
    }

    /// Writes one field; where the value is too long for a line, with the other value instead.
    pub(super) fn field_or(&mut self, name: &str, value: &str, other: &str) {
        let written = HeaderField::new(name, &self.charset.clean(value))
            .or_else(|_| HeaderField::new(name, &self.charset.clean(other)));
        let field = written.expect("a name of ours and some 500 printable characters are a field");
        self.octets.extend_from_slice(field.as_bytes());
    }
}

/// The beginning of a text that is too long for a line.
fn shown(text: &str) -> String {
    text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= SHOWN_OF_LONG).map(|(_, c)| c).collect()
}

/// The fields about the message (RFC 3464 §2.2).
pub(super) fn of_message(report: &Report<'_>, charset: Charset) -> Fields {
    let mut fields = Fields::new(charset, 512);
    if let Some(id) = &report.envelope.dsn.envelope_id {
        // RFC 3461 §6.3 (a): as text, not as xtext.
        fields.field("Original-Envelope-Id", id.as_str());
    }
    fields.field("Reporting-MTA", &format!("dns; {}", report.host.to_ascii()));
    if let Some(client) = report.envelope.origin.client {
        fields.field("Received-From-MTA", &format!("dns; {}", AddressLiteral::from(client)));
    }
    fields.field("Arrival-Date", &DateTime::new(report.envelope.arrival).to_string());
    if let Some(by) = report.envelope.deliver_by {
        // RFC 2852 §5
        fields.field("Deliver-By-Date", &DateTime::new(by.time).to_string());
    }
    fields
}

/// An empty line and the fields about one recipient (RFC 3464 §2.3).
pub(super) fn of_recipient(fields: &mut Fields, report: &Report<'_>, entry: Entry<'_>) {
    let Entry { recipient, reported } = entry;
    fields.octets.extend_from_slice(b"\r\n");
    // RFC 3461 §6.3 (d): what the sender called it, and never anything else; an alias that we know of stands in the text.
    if let Some(original) = &recipient.dsn.original_recipient {
        fields.field("Original-Recipient", &format!("{}; {}", original.address_type(), original.address()));
    }
    address(fields, "Final-Recipient", &recipient.mailbox);
    fields.field("Action", action(report.action));
    let last = reported.last.as_ref().map(|last| &last.reply);
    let status = out_of_time(report, last).unwrap_or_else(|| status(report.action, last));
    fields.field("Status", &status.to_string());
    if let Some(last) = &reported.last {
        if let Some(remote) = &last.remote {
            fields.field("Remote-MTA", &mta(remote.as_str()));
        }
        fields.field("Diagnostic-Code", &format!("smtp; {}", last.reply));
    }
    if let Some(time) = reported.last_attempt {
        fields.field("Last-Attempt-Date", &DateTime::new(time).to_string());
    }
    if let Some(time) = report.retry_until.filter(|_| matches!(report.action, Action::Delayed | Action::Late)) {
        fields.field("Will-Retry-Until", &DateTime::new(time).to_string());
    }
}

/// RFC 3464 §2.3.3.
fn action(action: Action) -> &'static str {
    match action {
        Action::Failed => "failed",
        Action::Delayed | Action::Late => "delayed",
        Action::Delivered => "delivered",
        Action::Relayed => "relayed",
        Action::Expanded => "expanded",
    }
}

/// An address without xtext: RFC 3461 §5 wants that in parameters of `RCPT` only, and RFC 3464 §2.3.1 plain text here.
fn address(fields: &mut Fields, name: &str, mailbox: &Mailbox) {
    // Too long for a line: a type of our own, so that nobody takes what is left for an address.
    let other = format!("x-truncated; {}", shown(&mailbox.to_string()));
    let text = fields.charset.address(mailbox);
    fields.field_or(name, text.as_ref().unwrap_or(&other), &other);
}

/// RFC 2852 §4.1.3: that its time is over is what matters of a message that has one, and not what was said last.
fn out_of_time(report: &Report<'_>, last: Option<&Reply>) -> Option<EnhancedStatusCode> {
    let is_returned = report.envelope.deliver_by.is_some_and(|by| by.mode == ByMode::Return);
    let is_refused = last.is_some_and(|reply| reply.code().is_permanent());
    match report.action {
        Action::Failed if is_returned && !is_refused => EnhancedStatusCode::new(5, 4, 7),
        Action::Late => EnhancedStatusCode::new(4, 4, 7),
        _ => None,
    }
}

/// The status of a recipient: of the last reply, where that says the same as the action (STANDARDS.md Q3).
fn status(action: Action, last: Option<&Reply>) -> EnhancedStatusCode {
    let of_class = |class| EnhancedStatusCode::new(class, 0, 0).expect("2, 4 and 5 are classes of status codes");
    let in_class = |class, status: EnhancedStatusCode| {
        EnhancedStatusCode::new(class, status.subject(), status.detail()).expect("of a status code that came")
    };
    let said = last.filter(|reply| action == Action::Delayed || reply.code().is_positive()).and_then(Reply::status);
    match last {
        _ if matches!(action, Action::Delivered | Action::Relayed | Action::Expanded) => {
            said.map_or_else(|| of_class(2), |status| in_class(2, status))
        }
        // Refused for good by one host, it may still be taken by another: what is tried on is a passing failure.
        _ if action == Action::Delayed => said.map_or_else(|| of_class(4), |status| in_class(4, status)),
        Some(reply) if reply.code().is_permanent() || reply.code().is_transient() => {
            reply.status().unwrap_or_else(|| of_class(reply.code().class()))
        }
        Some(_) => of_class(4),
        None => EnhancedStatusCode::new(4, 4, 7).expect("RFC 3463 §3.5: delivery time expired"),
    }
}

/// The name of a next hop, and in a comment what else is known of it (RFC 3464 §2.3.5).
fn mta(remote: &str) -> String {
    let (name, rest) = remote.split_once(' ').unwrap_or((remote, ""));
    let rest = rest.trim();
    match Host::parse(name) {
        Ok(name) if rest.is_empty() => format!("dns; {}", name.into_ascii()),
        Ok(name) => format!("dns; {} ({})", name.into_ascii(), in_comment(rest)),
        // Something that has no name in DNS, such as a socket.
        Err(_) => format!("x-next-hop; {remote}"),
    }
}

/// In a comment, parentheses and backslashes stand behind a backslash (RFC 5322 §3.2.2).
fn in_comment(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut comment, c| {
        if matches!(c, '(' | ')' | '\\') {
            comment.push('\\');
        }
        comment.push(c);
        comment
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_core::ReplyCode;

    #[test] // RFC 3464 §2.3.4; STANDARDS.md Q3
    fn q3_the_status_is_that_of_the_last_reply() {
        for (code, enhanced, expected) in [
            (550, Some((5, 1, 1)), "5.1.1"),
            (550, Some((4, 1, 1)), "5.1.1"),
            (550, None, "5.0.0"),
            (451, Some((4, 3, 0)), "4.3.0"),
            (421, None, "4.0.0"),
            (250, Some((2, 0, 0)), "4.0.0"),
            (354, None, "4.0.0"),
        ] {
            let code = ReplyCode::new(code).expect("in the grammar");
            let reply = match enhanced {
                Some((class, subject, detail)) => {
                    let status = EnhancedStatusCode::new(class, subject, detail).expect("in the grammar");
                    Reply::new(code, status, "text")
                }
                None => Reply::bare(code, "text"),
            };
            assert_eq!(status(Action::Failed, Some(&reply)).to_string(), expected, "{reply}");
        }
        assert_eq!(status(Action::Failed, None).to_string(), "4.4.7");
    }

    #[test] // RFC 3464 §2.3.4: the class follows from the action.
    fn r3464_the_status_agrees_with_the_action() {
        for (code, (subject, detail), delayed, relayed) in
            [(250, (1, 5), "4.1.5", "2.1.5"), (451, (7, 1), "4.7.1", "2.0.0"), (554, (7, 1), "4.7.1", "2.0.0")]
        {
            let code = ReplyCode::new(code).expect("in the grammar");
            let status_code = EnhancedStatusCode::new(code.class(), subject, detail).expect("in the grammar");
            let (with, bare) = (Reply::new(code, status_code, "text"), Reply::bare(code, "text"));
            assert_eq!(status(Action::Delayed, Some(&with)).to_string(), delayed);
            assert_eq!(status(Action::Delayed, Some(&bare)).to_string(), "4.0.0");
            for action in [Action::Delivered, Action::Relayed, Action::Expanded] {
                assert_eq!(status(action, Some(&with)).to_string(), relayed);
                assert_eq!(status(action, Some(&bare)).to_string(), "2.0.0");
                assert_eq!(status(action, None).to_string(), "2.0.0");
            }
        }
        assert_eq!(status(Action::Delayed, None).to_string(), "4.0.0");
    }

    #[test] // RFC 3464 §2.3.5
    fn next_hops_are_named() {
        for (remote, expected) in [
            ("mx.example.net", "dns; mx.example.net"),
            ("mx.example.net [192.0.2.1]", "dns; mx.example.net ([192.0.2.1])"),
            ("mx.\u{fc}.example [192.0.2.1]", "dns; mx.xn--tda.example ([192.0.2.1])"),
            ("mx.example.net ) evil (\\", "dns; mx.example.net (\\) evil \\(\\\\)"),
            ("[192.0.2.1]", "dns; [192.0.2.1]"),
            ("/run/lmtp", "x-next-hop; /run/lmtp"),
            ("[192.0.2.1]:2525", "x-next-hop; [192.0.2.1]:2525"),
            ("", "x-next-hop; "),
        ] {
            assert_eq!(mta(remote), expected);
        }
    }
}
