//! The law of notifications: a strict reader finds in them what went in, each field once and no other, whatever the
//! sender, the recipients, the next hop and the content say (RFC 3464, RFC 6522; SECURITY.md D-11).

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use memchr::memmem;
use smtp_core::{
    Disposition, Domain, EnhancedStatusCode, EnvelopeId, ForwardPath, Host, Mailbox, Notify, OriginalRecipient,
    RecipientDsn, Reply, ReplyCode, ReversePath, SafeText,
};
use smtp_queue::{
    Action, Diagnosis, Envelope, Notification, NotificationKind, QueueId, QueuedRecipient, Report, ReportedRecipient,
    ReturnedContent, StoredContent, Withheld,
};

use crate::control::{Control, split};

/// The date of everything, and how it is written.
const SINCE: Duration = Duration::from_secs(1_795_311_863);
const DATE: &str = "Sun, 22 Nov 2026 01:44:23 +0000";
/// Addresses with a word that is longer may be cut, because no line can hold them.
const LONG_OCTETS: usize = 900;

/// Checks the notification about a message made of the lines of the input: reverse-path, path and mailbox of a
/// recipient, name of the next hop, words of its reply; what follows is the content. Each `@` in the content is
/// replaced by boundaries in a second try.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (octets, control) = split(data);
    let mut lines = octets.splitn(6, |octet| *octet == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let reverse_path = ReversePath::parse(line()).unwrap_or(ReversePath::Null);
    let path = ForwardPath::parse(line());
    let mailbox = Mailbox::parse(line()).unwrap_or_else(|_| Mailbox::postmaster_at(domain("b.example")));
    let remote = line();
    let words = line();
    let last = diagnosis(remote, words, control);
    let octets = line();
    // Some are larger than what goes back.
    let times = if control.choice(2) < 250 { 1 } else { 100_000 / (octets.len() + 1) + 2 };
    let content = Bytes::from(octets.repeat(times));

    let mut envelope = Envelope::new(QueueId::from_u128(0x5eed), UNIX_EPOCH + SINCE, reverse_path);
    let count = u32::from(control.choice(3)) % 4 + 1;
    envelope.recipients = (0..count)
        .map(|_| QueuedRecipient {
            path: path.clone().unwrap_or_else(|_| mailbox.clone().into()),
            disposition: disposition(control.choice(4)),
            ..QueuedRecipient::new(mailbox.clone())
        })
        .collect();
    // What the sender calls them are the words of the reply, as far as a command can have said them.
    let words: String = String::from_utf8_lossy(words).chars().filter(|c| matches!(c, ' '..='~')).take(30).collect();
    let original = OriginalRecipient::new("x-a", &words).ok().filter(|_| control.choice(7) % 2 == 1);
    let notify = match control.choice(7) / 2 {
        0 => None,
        choice if choice % 8 == 1 => Some(Notify::NEVER),
        _ => Some(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY),
    };
    for recipient in &mut envelope.recipients {
        recipient.dsn = RecipientDsn { notify, original_recipient: original.clone() };
    }
    envelope.dsn.envelope_id = EnvelopeId::new(&words).ok().filter(|_| control.choice(8) % 2 == 1);
    let action = ACTIONS[usize::from(control.choice(8)) / 2 % ACTIONS.len()].0;
    envelope.sender_confirmed = control.choice(5) % 4 != 1;
    envelope.origin.client = (control.choice(6) % 2 == 1).then(|| [192, 0, 2, 1].into());
    envelope.origin.notification_of = (control.choice(5) % 4 == 2).then_some(QueueId::from_u128(1));
    let failed: Vec<_> = (0..count)
        .map(|index| ReportedRecipient { index, last: last.clone(), last_attempt: Some(UNIX_EPOCH + SINCE) })
        .collect();
    if let Some(id) = is_told(&envelope, action, &failed, &content).filter(|_| times == 1) {
        // The sender cannot know the boundary; if it could, that would change nothing.
        let boundaries = [0, 1].map(|number| format!("=_{id}.{number:016x}"));
        let guess = content.split(|octet| *octet == b'@').collect::<Vec<_>>().join(boundaries.join("--").as_bytes());
        is_told(&envelope, action, &failed, &Bytes::from(guess));
    }
}

/// Checks what is told, where something may be; the id of the notification.
fn is_told(envelope: &Envelope, action: Action, failed: &[ReportedRecipient], content: &Bytes) -> Option<QueueId> {
    let returned = ReturnedContent::whole(&StoredContent::in_memory(Bytes::new(), content.clone()));
    let report = Report {
        envelope,
        action,
        recipients: failed,
        returned: &returned.expect("in memory"),
        host: &domain("mx.example.org"),
        postmaster: &Mailbox::postmaster_at(domain("example.org")),
        now: UNIX_EPOCH + SINCE,
        retry_until: Some(UNIX_EPOCH + SINCE),
    };
    let notified = report.notify();
    match expected_kind(&report) {
        Err(reason) => {
            assert!(notified.notification.is_none());
            assert!(notified.withheld.len() == failed.len() && notified.withheld.iter().all(|(_, why)| *why == reason));
            None
        }
        Ok(kind) => {
            let notification = notified.notification.expect("it may be sent");
            assert!(notification.kind == kind && notified.withheld.is_empty());
            let again = report.notify().notification.expect("as before");
            assert!(again.content == notification.content && again.envelope == notification.envelope);
            reads_back(&report, &notification, content);
            Some(notification.envelope.id)
        }
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a domain")
}

fn diagnosis(remote: &[u8], text: &[u8], control: Control<'_>) -> Option<Diagnosis> {
    let text = String::from_utf8_lossy(text).into_owned();
    let code = ReplyCode::new(u16::from(control.choice(0)) + 304).or(ReplyCode::new(550)).expect("550 is a code");
    let number = u16::from(control.choice(1)) * 4;
    let reply = match EnhancedStatusCode::new(5, number, number / 2) {
        Some(status) if control.choice(1) % 2 == 1 => Reply::new(code, status, text),
        _ => Reply::bare(code, text),
    };
    let remote = (!remote.is_empty()).then(|| SafeText::from_octets(remote));
    (control.choice(0) != 1).then_some(Diagnosis { reply, remote })
}

fn disposition(choice: u8) -> Disposition {
    match choice {
        0..240 => Disposition::Deliver,
        240..245 => Disposition::Junk,
        245..250 => Disposition::Quarantine(String::new()),
        _ => Disposition::Discard(String::new()),
    }
}

/// STANDARDS.md Q5, Q6, Q8: the same for all recipients here.
fn expected_kind(report: &Report<'_>) -> Result<NotificationKind, Withheld> {
    let envelope = report.envelope;
    let recipient = &envelope.recipients[0];
    let to_postmaster = recipient.path == ForwardPath::Postmaster || recipient.mailbox == *report.postmaster;
    let kind = match report.action {
        Action::Failed => NotificationKind::Failure,
        Action::Delayed => NotificationKind::Delay,
        Action::Late => NotificationKind::Late,
        Action::Delivered => NotificationKind::Delivery,
        Action::Relayed => NotificationKind::Relay,
        Action::Expanded => NotificationKind::Expansion,
    };
    let is_failure = report.action == Action::Failed;
    match (&envelope.origin.notification_of, &recipient.disposition) {
        (Some(_), _) if is_failure && to_postmaster => Err(Withheld::ToPostmaster),
        (Some(_), _) if is_failure => Ok(NotificationKind::PostmasterCopy),
        _ if envelope.reverse_path.is_null() => Err(Withheld::NullReversePath),
        _ if !recipient.dsn.notify().contains(report.action.notify()) => Err(Withheld::NotAskedFor),
        (_, Disposition::Deliver) if envelope.sender_confirmed => Ok(kind),
        (_, Disposition::Deliver) => Err(Withheld::SenderNotConfirmed),
        (_, Disposition::Discard(_)) => Err(Withheld::Discarded),
        _ => Err(Withheld::JunkOrQuarantine),
    }
}

fn reads_back(report: &Report<'_>, notification: &Notification, content: &[u8]) {
    let octets = &notification.content[..];
    let id = notification.envelope.id;
    let (header, body) = cut(octets, b"\r\n\r\n").expect("an empty line");
    let header = fields(&[header, b"\r\n"].concat());
    let boundary = header[7].1.split('"').nth(1).expect("a boundary in quotes").to_owned();
    assert!(boundary.len() <= 70 && boundary.starts_with(&format!("=_{id}.")), "{boundary:?}");
    let is_eight_bit = notification.envelope.body.is_some();
    assert_eq!(is_eight_bit, notification.envelope.smtputf8 || !octets.is_ascii());

    let mut expected: Vec<(String, String)> = Vec::new();
    let mut expect = |name: &str, value: &str| expected.push((name.to_owned(), value.to_owned()));
    let [recipient] = &notification.envelope.recipients[..] else { panic!("one recipient") };
    let subject = if notification.kind == NotificationKind::PostmasterCopy {
        assert_eq!((&recipient.mailbox, &recipient.path), (report.postmaster, &ForwardPath::Postmaster));
        "Undelivered notification"
    } else {
        assert_eq!(Some(&recipient.mailbox), report.envelope.reverse_path.mailbox());
        ACTIONS[report.action as usize].2
    };
    assert!(notification.envelope.reverse_path.is_null());
    let to = format!("<{}>", recipient.mailbox);
    expect("From", "Mail Delivery System <mailer-daemon@mx.example.org>");
    expect("To", if header[1].1 == to || !is_long(&to) { &to } else { "undisclosed-recipients:;" });
    expect("Subject", subject);
    expect("Date", DATE);
    expect("Message-ID", &format!("<{id}@mx.example.org>"));
    expect("Auto-Submitted", "auto-generated");
    expect("MIME-Version", "1.0");
    expect("Content-Type", &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""));
    if is_eight_bit {
        expect("Content-Transfer-Encoding", "8bit");
    }
    assert_eq!(header, expected);

    let parts = parts(body, &boundary);
    let [text, status, returned @ ..] = &parts[..] else { panic!("{} parts", parts.len()) };
    // RFC 6533: only where the reader needs SMTPUTF8 anyway.
    let is_ascii = recipient.mailbox.is_ascii();
    assert_eq!(notification.envelope.smtputf8, !is_ascii);
    let (text_type, status_type) = if is_ascii {
        ("text/plain; charset=us-ascii", "message/delivery-status")
    } else {
        ("text/plain; charset=utf-8", "message/global-delivery-status")
    };
    for (part, media_type) in [(text, text_type), (status, status_type)] {
        let encoding = ("Content-Transfer-Encoding".to_owned(), "8bit".to_owned());
        let expected = [("Content-Type".to_owned(), media_type.to_owned()), encoding];
        assert_eq!(part.0, expected[..if is_ascii { 1 } else { 2 }]);
        assert!(!is_ascii || part.1.is_ascii());
    }
    assert!(!is_ascii || header.iter().all(|(_, value)| value.is_ascii()));
    readable(text.1, report);
    let blocks = blocks(status.1);
    assert_eq!(blocks.len(), 1 + report.recipients.len());
    about_message(&fields(blocks[0]), report);
    for (block, failed) in blocks[1..].iter().zip(report.recipients) {
        about_recipient(&fields(block), report, failed, is_ascii);
    }
    match returned {
        [] => assert!(header_section(content).is_empty()),
        [part] => goes_back(part, content, is_eight_bit, is_ascii),
        _ => panic!("{} parts", parts.len()),
    }
}

/// The part for people: lines that can be shown, with the reply in its words.
fn readable(text: &[u8], report: &Report<'_>) {
    let text = std::str::from_utf8(text).expect("ASCII");
    for line in text.strip_suffix("\r\n").expect("a last CRLF").split("\r\n") {
        assert!(line.len() <= 998 && !line.chars().any(char::is_control), "{line:?}");
    }
    let words = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(last) = &report.recipients[0].last {
        let reply = words(&last.reply.to_string());
        assert_eq!(words(text).matches(&format!("{reply} ")).count().min(1), 1, "{reply:?} in {text:?}");
    }
}

fn about_message(found: &[(String, String)], report: &Report<'_>) {
    let mut expected = Vec::new();
    if let Some(id) = &report.envelope.dsn.envelope_id {
        expected.push(("Original-Envelope-Id", id.as_str().trim()));
    }
    expected.push(("Reporting-MTA", "dns; mx.example.org"));
    if report.envelope.origin.client.is_some() {
        expected.push(("Received-From-MTA", "dns; [192.0.2.1]"));
    }
    expected.push(("Arrival-Date", DATE));
    assert_eq!(found.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(), expected);
}

fn about_recipient(found: &[(String, String)], report: &Report<'_>, failed: &ReportedRecipient, is_ascii: bool) {
    let recipient = &report.envelope.recipients[failed.index as usize];
    let mut found = found.iter();
    let mut field = |expected: &str| {
        let (name, value) = found.next().unwrap_or_else(|| panic!("{expected} is missing"));
        assert_eq!(name, expected);
        value.as_str()
    };
    let is_address = |value: &str, address: &str| {
        let beginning = value.strip_prefix("x-truncated; ").map(str::to_owned);
        let escape = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\x{{{:02X}}}", c as u32) };
        let (kind, written) = match (address.is_ascii(), is_ascii) {
            (true, _) => ("rfc822", address.to_owned()),
            (false, false) => ("utf-8", address.to_owned()),
            (false, true) => ("utf-8", address.chars().map(escape).collect()),
        };
        let question: String = address.chars().map(|c| if c.is_ascii() || !is_ascii { c } else { '?' }).collect();
        let is_cut = beginning.is_some_and(|beginning| question.starts_with(&beginning));
        // Escapes are limited by what ORCPT= can say.
        let is_long = is_long(address) || (kind == "utf-8" && is_ascii && written.len() > 160);
        assert!(value == format!("{kind}; {written}") || is_cut && is_long, "{value:?}, not {address:?}");
    };
    if let Some(original) = &recipient.dsn.original_recipient {
        let value = format!("{}; {}", original.address_type(), original.address());
        assert_eq!(field("Original-Recipient"), value.trim());
    }
    is_address(field("Final-Recipient"), &recipient.mailbox.to_string());
    assert_eq!(field("Action"), ACTIONS[report.action as usize].1);
    assert_eq!(field("Status"), status(report.action, failed.last.as_ref().map(|last| &last.reply)));
    if let Some(last) = &failed.last {
        if let Some(remote) = &last.remote {
            is_next_hop(field("Remote-MTA"), remote.as_str(), is_ascii);
        }
        assert_eq!(field("Diagnostic-Code"), format!("smtp; {}", last.reply).trim_end());
    }
    assert_eq!(field("Last-Attempt-Date"), DATE);
    if matches!(report.action, Action::Delayed | Action::Late) {
        assert_eq!(field("Will-Retry-Until"), DATE);
    }
    assert!(found.next().is_none());
}

/// Each, as it is written, and the subject that it gives.
const ACTIONS: [(Action, &str, &str); 6] = [
    (Action::Failed, "failed", "Undelivered mail"),
    (Action::Delayed, "delayed", "Delayed mail"),
    (Action::Late, "delayed", "Delayed mail"),
    (Action::Delivered, "delivered", "Delivered mail"),
    (Action::Relayed, "relayed", "Mail passed on"),
    (Action::Expanded, "expanded", "Mail passed on"),
];

/// RFC 3464 §2.3.4: a class that agrees with the action, and the rest from a reply that agrees with it too.
fn status(action: Action, last: Option<&Reply>) -> String {
    let said = last.map_or(0, |reply| reply.code().class());
    let (class, agrees) = match action {
        Action::Late => return "4.4.7".to_owned(),
        Action::Failed if last.is_none() => return "4.4.7".to_owned(),
        Action::Failed => (said.max(4), said >= 4),
        Action::Delayed => (4, true),
        Action::Delivered | Action::Relayed | Action::Expanded => (2, said == 2),
    };
    match last.and_then(Reply::status).filter(|_| agrees) {
        Some(status) => format!("{class}.{}.{}", status.subject(), status.detail()),
        None => format!("{class}.0.0"),
    }
}

/// A host, and in a comment what else is known; or something else.
fn is_next_hop(value: &str, remote: &str, is_ascii: bool) {
    let shown = |text: &str| text.chars().map(|c| if c.is_ascii() || !is_ascii { c } else { '?' }).collect::<String>();
    let (name, rest) = remote.split_once(' ').unwrap_or((remote, ""));
    let Ok(name) = Host::parse(name) else {
        assert_eq!(value, format!("x-next-hop; {}", shown(remote)).trim_end());
        return;
    };
    let (name, rest) = (name.into_ascii().to_string(), shown(rest));
    let behind = value.strip_prefix("dns; ").and_then(|value| value.strip_prefix(&name)).expect("the name");
    let mut characters = behind.strip_prefix(" (").and_then(|text| text.strip_suffix(')')).unwrap_or_default().chars();
    let mut comment = String::new();
    while let Some(c) = characters.next() {
        assert!(!matches!(c, '(' | ')'), "a comment that ends: {value:?}");
        comment.push(if c == '\\' { characters.next().expect("something is escaped") } else { c });
    }
    assert_eq!(comment, rest.trim());
}

/// What goes back is what was there: all of it, or its header section.
fn goes_back((found, octets): &Part<'_>, content: &[u8], is_eight_bit: bool, is_ascii: bool) {
    let [(first, media_type), (second, encoding)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&**first, &**second), ("Content-Type", "Content-Transfer-Encoding"));
    let limit_octets = ReturnedContent::LIMIT_OCTETS;
    match (&**media_type, &**encoding) {
        ("message/rfc822" | "message/global", "7bit" | "8bit") => {
            assert_eq!(is_ascii, media_type == "message/rfc822");
            assert!(*octets == content && content.len() <= limit_octets && is_canonical(content));
            assert_eq!(is_eight_bit, encoding == "8bit" || !is_ascii);
        }
        ("text/rfc822-headers" | "message/global-headers", encoding) => {
            assert_eq!(is_ascii, media_type == "text/rfc822-headers");
            assert!(content.len() > limit_octets || !is_canonical(content));
            let octets = match encoding {
                "7bit" => octets.to_vec(),
                "quoted-printable" => unquoted(octets),
                _ => panic!("{encoding}"),
            };
            let section = header_section(content);
            let is_cut = section.len() > limit_octets && section.starts_with(&octets) && octets.len() <= limit_octets;
            assert!(octets == section || is_cut);
        }
        other => panic!("{other:?}"),
    }
}

/// Lines of at most 998 octets, CRLF behind each but perhaps the last, no bare CR or LF, no NUL.
fn is_canonical(content: &[u8]) -> bool {
    let mut lines = content.split(|octet| *octet == b'\n').rev();
    let last = lines.next().unwrap_or_default();
    let is_line = |line: &[u8]| line.len() <= 998 && !line.contains(&b'\r') && !line.contains(&0);
    is_line(last) && lines.all(|line| line.strip_suffix(b"\r").is_some_and(is_line))
}

/// Line by line up to the first empty one.
fn header_section(content: &[u8]) -> &[u8] {
    let mut octets = 0;
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
        octets += line.len();
    }
    &content[..octets]
}

fn unquoted(octets: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(octets).expect("ASCII");
    for line in text.split("\r\n") {
        assert!(line.len() <= 76 && !line.ends_with([' ', '\t']), "{line:?}");
    }
    let text = text.replace("=\r\n", "");
    let mut pieces = text.split('=');
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        octets.push(u8::from_str_radix(&piece[..2], 16).expect("two hexadecimal digits"));
        octets.extend_from_slice(&piece.as_bytes()[2..]);
    }
    octets
}

/// The fields of a part, and its octets.
type Part<'a> = (Vec<(String, String)>, &'a [u8]);

/// Cuts a body at its delimiters; nothing stands before the first or behind the last (RFC 2046 §5.1.1).
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<Part<'a>> {
    let mut rest = body.strip_prefix(format!("--{boundary}\r\n").as_bytes()).expect("the first delimiter");
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    loop {
        let (part, behind) = cut(rest, delimiter.as_bytes()).expect("another delimiter");
        let (header, octets) = cut(part, b"\r\n\r\n").expect("an empty line");
        parts.push((fields(&[header, b"\r\n"].concat()), octets));
        if behind == b"--\r\n" {
            assert_eq!(memmem::find_iter(body, &boundary).count(), parts.len() + 1);
            return parts;
        }
        rest = behind.strip_prefix(b"\r\n").expect("the end of the line of the delimiter");
    }
}

fn cut<'a>(octets: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = memmem::find(octets, at)?;
    Some((&octets[..place], &octets[place + at.len()..]))
}

/// Cuts fields at empty lines.
fn blocks(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    while let Some((_, behind)) = cut(octets, b"\r\n\r\n") {
        blocks.push(&octets[..octets.len() - behind.len() - 2]);
        octets = behind;
    }
    blocks.push(octets);
    blocks
}

/// Reads header fields, each on lines of printable ASCII of at most 998 octets, and unfolds them.
fn fields(octets: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(octets).expect("ASCII");
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.strip_suffix("\r\n").expect("a last CRLF").split("\r\n") {
        assert!(line.len() <= 998 && !line.chars().any(char::is_control), "{line:?}");
        assert!(!line.trim().is_empty(), "a line of white space in {text:?}");
        if line.starts_with(' ') {
            fields.last_mut().expect("a field before").1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            assert!(name.bytes().all(|octet| octet.is_ascii_alphabetic() || octet == b'-'), "{line:?}");
            fields.push((name.to_owned(), value.to_owned()));
        }
    }
    fields.into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect()
}

fn is_long(text: &str) -> bool {
    text.split(' ').any(|word| word.len() > LONG_OCTETS) || text.contains(&" ".repeat(50))
}
