//! A message as filters have changed it so far: each filter sees what those before it did, and all of it is applied at once.

use smtp_core::{
    Command as SmtpCommand, ForwardPath, HeaderField, Mailbox, Notify, PolicyContext, RcptParameters, RecipientDsn,
    ReversePath, SafeText, Transaction,
};
use thiserror::Error;

use crate::header::fields;

use super::wire::Change;

/// What a filter wants cannot be done; it is as if the filter had been lost (SECURITY D-50).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(super) struct Impossible(String);

/// The message so far.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// Above `Received`, which no filter sees.
    top: Vec<Field>,
    fields: Vec<Field>,
    body: Option<Vec<u8>>,
    added: Vec<(Mailbox, RecipientDsn)>,
    removed: Vec<ForwardPath>,
    reverse_path: Option<ReversePath>,
    quarantine: Option<SafeText>,
}

/// One field.
#[derive(Debug, Clone)]
pub(super) struct Field {
    name: Vec<u8>,
    /// What stands behind the colon, with CRLF between its lines.
    value: Vec<u8>,
    /// Which of the arriving fields of its name it was; `None` where a filter wrote it.
    arrived: Option<usize>,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Untouched,
    Written(HeaderField),
    Removed,
}

impl Field {
    fn written(field: HeaderField) -> Self {
        let name = field.name().as_bytes().to_vec();
        let value = field.as_bytes()[name.len() + 1..].strip_suffix(b"\r\n").unwrap_or_default().to_vec();
        Self { name, value, arrived: None, state: State::Written(field) }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// As filters are told it: its lines end with LF, and unless it wants that space, without the one behind the colon.
    pub(super) fn value(&self, with_leading_space: bool) -> Vec<u8> {
        let value = self.value.strip_prefix(b" ").filter(|_| !with_leading_space).unwrap_or(&self.value);
        let mut told = Vec::with_capacity(value.len());
        for (at, &octet) in value.iter().enumerate() {
            if !(octet == b'\r' && value.get(at + 1) == Some(&b'\n')) {
                told.push(octet);
            }
        }
        told
    }
}

impl Draft {
    /// Of a message with that header section.
    pub(super) fn new(section: &[u8]) -> Self {
        let mut found: Vec<Field> = Vec::new();
        for field in fields(section) {
            let earlier = found.iter().filter(|other| other.name.eq_ignore_ascii_case(field.name)).count();
            found.push(Field {
                name: field.name.to_vec(),
                value: field.value.strip_suffix(b"\r\n").unwrap_or(field.value).to_vec(),
                arrived: Some(earlier),
                state: State::Untouched,
            });
        }
        Self {
            top: Vec::new(),
            fields: found,
            body: None,
            added: Vec::new(),
            removed: Vec::new(),
            reverse_path: None,
            quarantine: None,
        }
    }

    /// The fields that a filter is told of.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.top.iter().chain(&self.fields).filter(|field| field.state != State::Removed)
    }

    /// The body, where a filter wrote another.
    pub(super) fn body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// Who was added gets no copy: the message is not delivered as it is.
    pub(super) fn forget_added(&mut self) {
        self.added.clear();
    }

    /// Why the last filter wants it set aside; told once.
    pub(super) fn take_quarantine(&mut self) -> Option<SafeText> {
        self.quarantine.take()
    }

    /// The same with these changes. Whether values bring the space behind the colon with them was agreed with the filter.
    ///
    /// # Errors
    /// [`Impossible`]; then nothing of it holds.
    pub(super) fn changed(&self, changes: Vec<Change>, with_leading_space: bool) -> Result<Self, Impossible> {
        let mut draft = self.clone();
        let mut body: Option<Vec<u8>> = None;
        for change in changes {
            match change {
                Change::AddHeader { name, value } => {
                    draft.fields.push(Field::written(field(&name, &value, with_leading_space)?));
                }
                Change::InsertHeader { place, name, value } => {
                    let field = Field::written(field(&name, &value, with_leading_space)?);
                    draft.insert(usize::try_from(place).unwrap_or(usize::MAX), field);
                }
                Change::SetHeader { nth, name, value } => draft.change(nth, &name, &value, with_leading_space)?,
                Change::AddRecipient { path, parameters } => draft.add_recipient(&path, &parameters)?,
                Change::DeleteRecipient(path) => draft.delete_recipient(&path)?,
                Change::From { path, parameters } => {
                    if !parameters.trim().is_empty() {
                        return Err(Impossible(format!("parameters for MAIL: {}", SafeText::new(parameters))));
                    }
                    let path = ReversePath::parse(bracketed(&path)).map_err(|error| no_address(&path, &error))?;
                    draft.reverse_path = Some(path);
                }
                Change::Body(octets) => body.get_or_insert_default().extend(octets),
                Change::Quarantine(reason) => draft.quarantine = Some(reason),
            }
        }
        draft.body = body.or(draft.body);
        Ok(draft)
    }

    /// At that place among all that filters see; the place of `Received` counts, although no filter sees it, as with Sendmail.
    fn insert(&mut self, place: usize, field: Field) {
        if place <= self.top.len() {
            return self.top.insert(place, field);
        }
        let place = place - self.top.len() - 1;
        // Counted among those that are still there.
        let there = self.fields.iter().enumerate().filter(|(_, field)| field.state != State::Removed);
        let at = there.map(|(at, _)| at).nth(place).unwrap_or(self.fields.len());
        self.fields.insert(at, field);
    }

    /// The nth field of that name, from 1, becomes another, or goes where that is empty. Where there are fewer, it is added.
    fn change(&mut self, nth: u32, name: &[u8], value: &[u8], with_leading_space: bool) -> Result<(), Impossible> {
        let nth = usize::try_from(nth.saturating_sub(1)).unwrap_or(usize::MAX);
        let there = self.top.iter_mut().chain(&mut self.fields);
        let mut there = there.filter(|field| field.state != State::Removed && field.name.eq_ignore_ascii_case(name));
        match (there.nth(nth), value) {
            (None, b"") => {}
            (Some(found), b"") => found.state = State::Removed,
            (Some(found), _) => {
                let written = Field::written(field(name, value, with_leading_space)?);
                *found = Field { arrived: found.arrived, ..written };
            }
            (None, _) => self.fields.push(Field::written(field(name, value, with_leading_space)?)),
        }
        // What arrived is still needed, to be left out.
        let is_needed = |field: &Field| field.state != State::Removed || field.arrived.is_some();
        self.top.retain(is_needed);
        self.fields.retain(is_needed);
        Ok(())
    }

    /// Unless the filter says otherwise, nobody is told of its copy: the sender did not name it (RFC 3461 §4.1).
    fn add_recipient(&mut self, path: &str, parameters: &str) -> Result<(), Impossible> {
        let recipient = ForwardPath::parse(bracketed(path)).map_err(|error| no_address(path, &error))?;
        let Some(mailbox) = recipient.mailbox() else {
            return Err(Impossible("a recipient without a domain".to_owned()));
        };
        let RcptParameters { mut dsn, valid_since: None, unrecognized: None } = rcpt_parameters(parameters)? else {
            return Err(Impossible(format!("parameters for RCPT: {}", SafeText::new(parameters.to_owned()))));
        };
        dsn.notify.get_or_insert(Notify::NEVER);
        self.removed.retain(|removed| *removed != recipient);
        self.added.push((mailbox.clone(), dsn));
        Ok(())
    }

    fn delete_recipient(&mut self, path: &str) -> Result<(), Impossible> {
        let recipient = ForwardPath::parse(bracketed(path)).map_err(|error| no_address(path, &error))?;
        self.added.retain(|(mailbox, _)| Some(mailbox) != recipient.mailbox());
        self.removed.push(recipient);
        Ok(())
    }

    /// Makes all of it so.
    ///
    /// # Errors
    /// [`Impossible`]; then the message must not pass, since a part of it holds.
    pub(super) fn apply(&self, cx: &mut PolicyContext<'_>) -> Result<(), Impossible> {
        let impossible = |error: &dyn std::fmt::Display| Impossible(error.to_string());
        for field in self.top.iter().rev() {
            // The last one that is put in front stands first.
            if let State::Written(field) = &field.state {
                cx.prepend_field(field.clone());
            }
        }
        let mut place = 0;
        for field in &self.fields {
            match (&field.state, field.arrived) {
                (State::Untouched, _) | (State::Removed, None) => {}
                (State::Removed, Some(nth)) => {
                    let name = String::from_utf8_lossy(&field.name);
                    cx.remove_header_at(&name, [nth]).map_err(|error| impossible(&error))?;
                }
                (State::Written(field), Some(nth)) => cx.replace_header_at(nth, field.clone()),
                (State::Written(field), None) => cx.insert_header_at(place, field.clone()),
            }
            place += usize::from(field.arrived.is_some());
        }
        if let Some(body) = &self.body {
            cx.replace_body(body.clone()).map_err(|defect| impossible(&defect))?;
        }
        let recipients = cx.transaction().map(Transaction::recipients).unwrap_or_default();
        for (place, recipient) in recipients.iter().enumerate() {
            if self.removed.contains(recipient.path()) {
                cx.remove_recipient(place);
            }
        }
        for (mailbox, dsn) in &self.added {
            cx.add_recipient(mailbox.clone(), dsn.clone()).map_err(|error| impossible(&error))?;
        }
        if let Some(path) = &self.reverse_path {
            cx.set_reverse_path(path.clone()).map_err(|error| impossible(&error))?;
        }
        Ok(())
    }
}

/// A field as a filter wrote it. Its lines end with LF or CRLF; octets that are no text become U+FFFD.
fn field(name: &[u8], value: &[u8], with_leading_space: bool) -> Result<HeaderField, Impossible> {
    let name = String::from_utf8_lossy(name);
    let value = String::from_utf8_lossy(value).replace("\r\n", "\n").replace('\n', "\r\n");
    let space = if with_leading_space || value.is_empty() { "" } else { " " };
    let wrong = |error| Impossible(format!("{}: {error}", SafeText::new(name.clone().into_owned())));
    HeaderField::as_written(&name, &format!("{space}{value}")).map_err(wrong)
}

/// Some filters leave the brackets away.
fn bracketed(path: &str) -> String {
    if path.starts_with('<') { path.to_owned() } else { format!("<{path}>") }
}

fn no_address(text: &str, error: &dyn std::fmt::Display) -> Impossible {
    Impossible(format!("no address: {}: {error}", SafeText::new(text.to_owned())))
}

/// What stands behind the path of `RCPT`.
fn rcpt_parameters(parameters: &str) -> Result<RcptParameters, Impossible> {
    let line = format!("RCPT TO:<a@b.example> {}", parameters.trim());
    match SmtpCommand::parse(line.trim_end().as_bytes()) {
        Ok(SmtpCommand::Rcpt(_, parameters)) => Ok(parameters),
        _ => Err(Impossible(format!("no parameters: {}", SafeText::new(parameters.to_owned())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &[u8] = b"A: 1\r\nSubject:s\r\n t\r\nno field\r\na :\t2\r\n";

    fn insert(place: u32, name: &str) -> Change {
        Change::InsertHeader { place, name: name.into(), value: b"v".to_vec() }
    }

    fn change(nth: u32, name: &str, value: &str) -> Change {
        Change::SetHeader { nth, name: name.into(), value: value.into() }
    }

    fn told(draft: &Draft, with_leading_space: bool) -> Vec<String> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        draft.fields().map(|field| text(field.name()) + ":" + &text(&field.value(with_leading_space))).collect()
    }

    #[test]
    fn each_filter_sees_what_those_before_it_did() -> Result<(), Impossible> {
        let draft = Draft::new(SECTION);
        assert_eq!(told(&draft, true), ["A: 1", "Subject:s\n t", "a:\t2"]);
        assert_eq!(told(&draft, false), ["A:1", "Subject:s\n t", "a:\t2"], "one space, and no tab");
        let draft =
            draft.changed(vec![insert(0, "Top"), insert(2, "First"), insert(99, "Last"), insert(4, "X")], false)?;
        assert_eq!(told(&draft, false), ["Top:v", "First:v", "A:1", "X:v", "Subject:s\n t", "a:\t2", "Last:v"]);
        let changes =
            vec![change(2, "a", ""), change(1, "subject", "n\n m"), change(1, "Top", "w"), change(7, "New", "x")];
        let draft = draft.changed(changes, false)?;
        assert_eq!(told(&draft, true), ["Top: w", "First: v", "A: 1", "X: v", "subject: n\n m", "Last: v", "New: x"]);
        let draft = draft.changed(vec![change(1, "Last", ""), change(1, "Nowhere", ""), change(2, "A", "y")], true)?;
        assert_eq!(told(&draft, true), ["Top: w", "First: v", "A: 1", "X: v", "subject: n\n m", "New: x", "A:y"]);
        Ok(())
    }

    #[test] // SECURITY D-50, G2
    fn d50_what_is_no_field_no_address_and_no_parameter_is_impossible() {
        let words = |text: &str| text.to_owned();
        let added =
            |path: &str, parameters: &str| Change::AddRecipient { path: words(path), parameters: words(parameters) };
        let from = |path: &str, parameters: &str| Change::From { path: words(path), parameters: words(parameters) };
        let field = |name: &str, value: &str| Change::AddHeader { name: name.into(), value: value.into() };
        for (change, is_possible) in [
            (added("<a@b.example>", ""), true),
            (added("a@b.example", "NOTIFY=SUCCESS ORCPT=rfc822;x@y"), true),
            (added("<a@b.example>", "NOTIFY=MAYBE"), false),
            (added("<a@b.example>", "X=1"), false),
            (added("<a@b.example>", "RRVS=2014-04-03T23:01:00Z"), false),
            (added("<a>", ""), false),
            (added("<postmaster>", ""), false),
            (added("<a@b.example> NOTIFY=NEVER", ""), false),
            (added("<a@b.example>\r\nDATA", ""), false),
            (added("", ""), false),
            (from("<>", ""), true),
            (from("", ""), true),
            (from("a@b.example", ""), true),
            (from("<a@b.example>", "BODY=7BIT"), false),
            (from("<a b@c>", ""), false),
            (Change::DeleteRecipient(words("<postmaster>")), true),
            (Change::DeleteRecipient(words("nobody")), false),
            (field("X", "a\n b\r\n\tc"), true),
            (field("X", "a\nB: c"), false),
            (field("X", "a\r b"), false),
            (field("X", "a\n"), false),
            (field("X:", "a"), false),
            (field("", "a"), false),
            (field("X", "\u{8}"), false),
        ] {
            assert_eq!(Draft::new(SECTION).changed(vec![change.clone()], false).is_ok(), is_possible, "{change:?}");
        }
    }

    #[test]
    fn who_was_added_may_be_taken_away_again_and_the_other_way_round() -> Result<(), Impossible> {
        let words = |text: &str| text.to_owned();
        let add = || Change::AddRecipient { path: words("<a@b.example>"), parameters: String::new() };
        let delete = || Change::DeleteRecipient(words("<a@b.example>"));
        let draft = Draft::new(b"").changed(vec![add(), delete()], false)?;
        assert_eq!((draft.added.len(), draft.removed.len()), (0, 1));
        let draft = draft.changed(vec![add()], false)?;
        assert_eq!((draft.added.len(), draft.removed.len()), (1, 0));
        assert_eq!(draft.added[0].1.notify, Some(Notify::NEVER), "the sender did not name it");
        Ok(())
    }
}
