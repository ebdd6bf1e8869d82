//! Final delivery to Maildirs of this host (RFC 5321 §4.4, RFC 9228).
//!
//! Each Maildir gets one copy, whatever number of recipients leads there. All copies are made together, so that they
//! share their syncs; where that fails they are made one by one, so that no mailbox suffers for another. Trouble of our
//! own is deferred, never failed (STANDARDS.md Q10).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use smtp_core::{Disposition, Mailbox, Refusal, async_trait, delivered_to, return_path};

use crate::content::StoredContent;
use crate::envelope::QueuedRecipient;
use crate::header_section::HeaderSection;
use crate::maildir::{MaildirError, MaildirStore, mailbox_directory};
use crate::outcome::Outcome;

use super::{Attempt, Transport};

/// The Maildir of what policies set aside. No domain has a directory that starts with a dot.
const QUARANTINE: &str = ".quarantine";
/// The folder of what policies take for junk, named as Maildir++ does it.
const JUNK: &str = ".Junk";
/// The most octets of a header section that are searched for `Delivered-To`: 1 MiB. A loop that adds fields behind
/// that ends by its number of `Received` fields.
const SEARCHED_OCTETS: usize = 1 << 20;
/// Octets that are read of a content and written at once.
const CHUNK_OCTETS: usize = 256 << 10;

/// Delivers to `<root>/<domain>/<user>`, junk to the folder `.Junk` in it, and what is quarantined to
/// `<root>/.quarantine`.
///
/// A message that has been in a mailbox before (`Delivered-To`, RFC 9228) fails with `5.4.6`.
#[derive(Clone)]
pub struct MaildirTransport {
    store: Arc<MaildirStore>,
    report: Arc<Report>,
    left_out: Arc<[String]>,
}

type Report = dyn Fn(&Attempt, &MaildirError) + Send + Sync;

impl MaildirTransport {
    /// Delivers to the Maildirs of that store.
    pub fn new(store: Arc<MaildirStore>) -> Self {
        Self { store, report: Arc::new(|_, _| {}), left_out: Arc::new([]) }
    }

    /// Tells `report` of each failure in full, for the log: outcomes say what went wrong, but not with which file. It is
    /// called on a thread that may block.
    #[must_use]
    pub fn on_failure(mut self, report: impl Fn(&Attempt, &MaildirError) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// Leaves out the header fields of these names, in any case of letters: final delivery is where what asks for receipts
    /// stops, behind every verification (PRACTICES.md S22). Of a header section over 1 MiB only the first 1 MiB is looked
    /// at.
    #[must_use]
    pub fn leaving_out(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.left_out = names.into_iter().map(Into::into).collect();
        self
    }

    fn deliver_blocking(&self, attempt: &Attempt) -> Vec<Outcome> {
        let header = match HeaderSection::read(attempt.content(), SEARCHED_OCTETS) {
            Ok(header) => header,
            Err(error) => return attempt.recipients().map(|_| unreadable(&error)).collect(),
        };
        let visited: HashSet<_> = header.values("Delivered-To").into_iter().filter_map(visited).collect();
        let mut copies = Copies::default();
        let plans: Vec<_> = attempt.recipients().map(|recipient| copies.plan(recipient, &visited)).collect();
        let outcomes = self.deliver_copies(attempt, &copies, &header);
        let outcome = |plan| match plan {
            Plan::Copy(place) => outcomes[place].clone(),
            Plan::Decided(outcome) => outcome,
        };
        plans.into_iter().map(outcome).collect()
    }

    /// One outcome for each copy.
    fn deliver_copies(&self, attempt: &Attempt, copies: &Copies<'_>, header: &HeaderSection) -> Vec<Outcome> {
        let shown = header.without(&self.left_out);
        let begins_with_space = matches!(*shown, [b' ' | b'\t', ..]);
        let body = header.octets().len() as u64;
        let write = |place: usize, file: &mut dyn Write| {
            file.write_all(return_path(&attempt.envelope().reverse_path).as_bytes())?;
            file.write_all(delivered_to(copies.mailboxes[place]).as_bytes())?;
            if begins_with_space {
                // Its first line is no field, and must not continue ours.
                file.write_all(b"\r\n")?;
            }
            file.write_all(&shown)?;
            write_content(attempt.content(), body, file)
        };
        let deliver = |places: std::ops::Range<usize>| {
            let first = places.start;
            let delivered = self.store.deliver(&copies.maildirs[places], |place, file| write(first + place, file));
            delivered.inspect_err(|error| (self.report)(attempt, error))
        };
        let all = copies.maildirs.len();
        match deliver(0..all) {
            Ok(names) => names.iter().map(|name| delivered(name)).collect(),
            Err(error) if all == 1 => vec![deferred(error.io())],
            Err(_) => (0..all)
                .map(|place| match deliver(place..place + 1) {
                    Ok(names) => names.first().map_or_else(panicked, |name| delivered(name)),
                    Err(error) => deferred(error.io()),
                })
                .collect(),
        }
    }
}

#[async_trait]
impl Transport for MaildirTransport {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        let (transport, recipients) = (self.clone(), attempt.recipients().len());
        let outcomes = tokio::task::spawn_blocking(move || transport.deliver_blocking(&attempt)).await;
        outcomes.unwrap_or_else(|_panicked| (0..recipients).map(|_| panicked()).collect())
    }
}

impl fmt::Debug for MaildirTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaildirTransport").field("root", &self.store.root()).finish_non_exhaustive()
    }
}

/// What is done for a recipient.
#[derive(Debug)]
enum Plan {
    /// The copy with that number is made, and decides.
    Copy(usize),
    /// Nothing.
    Decided(Outcome),
}

/// The copies to be made: one for each Maildir.
#[derive(Debug, Default)]
struct Copies<'a> {
    maildirs: Vec<PathBuf>,
    /// The first of the mailboxes that lead to each.
    mailboxes: Vec<&'a Mailbox>,
    places: HashMap<PathBuf, usize>,
}

impl<'a> Copies<'a> {
    fn plan(&mut self, recipient: &'a QueuedRecipient, visited: &HashSet<String>) -> Plan {
        let mailbox = &recipient.mailbox;
        let maildir = match &recipient.disposition {
            Disposition::Discard(_) => return Plan::Decided(Outcome::delivered("Discarded")),
            Disposition::Quarantine(_) => Ok(PathBuf::from(QUARANTINE)),
            _ if visited.contains(&caseless(mailbox)) => {
                let text = "Mail loop: it was in this mailbox before";
                return Plan::Decided(Refusal::permanent(4, 6, text).with_code(554).into());
            }
            Disposition::Junk => mailbox_directory(mailbox).map(|directory| directory.join(JUNK)),
            // To deliver; and whatever a later version adds, because that is certain not to lose mail.
            _ => mailbox_directory(mailbox),
        };
        let Ok(maildir) = maildir else {
            return Plan::Decided(Refusal::permanent(1, 1, "No such mailbox").into());
        };
        Plan::Copy(*self.places.entry(maildir).or_insert_with_key(|maildir| {
            self.maildirs.push(maildir.clone());
            self.mailboxes.push(mailbox);
            self.maildirs.len() - 1
        }))
    }
}

/// A mailbox as it is compared here, where no two differ in the case of letters alone.
fn caseless(mailbox: &Mailbox) -> String {
    mailbox.to_string().to_ascii_lowercase()
}

fn visited(value: Vec<u8>) -> Option<String> {
    Mailbox::parse(value).ok().map(|mailbox| caseless(&mailbox))
}

/// From that place on.
fn write_content(content: &StoredContent, mut place: u64, file: &mut dyn Write) -> io::Result<()> {
    while let Some(chunk) = content.chunk(place, CHUNK_OCTETS)? {
        file.write_all(&chunk)?;
        place += chunk.len() as u64;
    }
    Ok(())
}

fn delivered(name: &str) -> Outcome {
    Outcome::delivered(format!("Delivered as {name}"))
}

/// Trouble of our own: never permanent (STANDARDS.md Q10; SECURITY.md D-32, G5).
fn deferred(error: &io::Error) -> Outcome {
    let refusal = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::transient(3, 1, "Insufficient storage for the mailbox").with_code(452)
        }
        kind => Refusal::transient(3, 0, format!("The mailbox cannot be written to: {}", words(error, kind))),
    };
    refusal.into()
}

fn unreadable(error: &io::Error) -> Outcome {
    Refusal::transient(3, 0, format!("The message cannot be read: {}", words(error, error.kind()))).into()
}

/// What the system said, without names of files.
fn words(error: &io::Error, kind: io::ErrorKind) -> String {
    if error.raw_os_error().is_some() { error.to_string() } else { kind.to_string() }
}

fn panicked() -> Outcome {
    Refusal::transient(3, 0, "The delivery ended unexpectedly").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use crate::id::QueueId;
    use crate::storage::{FileStorage, Storage};
    use bytes::Bytes;
    use smtp_core::ReversePath;
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::SystemTime;

    const CONTENT: &str = "Received: from a by b\r\nSubject: x\r\n\r\nDelivered-To: alice@example.org\r\n";

    fn store() -> (tempfile::TempDir, MaildirTransport) {
        let root = tempfile::tempdir().expect("a directory");
        let store = MaildirStore::open(root.path(), "mx.example.org").expect("it opens");
        (root, MaildirTransport::new(Arc::new(store)))
    }

    fn attempt(recipients: &[(&str, Disposition)], content: StoredContent) -> Attempt {
        let reverse_path = ReversePath::parse("<sender@client.example>").expect("a path");
        let mut envelope = Envelope::new(QueueId::from_u128(1), SystemTime::UNIX_EPOCH, reverse_path);
        for (mailbox, disposition) in recipients {
            envelope = envelope.with_recipient(Mailbox::parse(mailbox).expect("a mailbox"));
            envelope.recipients.last_mut().expect("just added").disposition = disposition.clone();
        }
        let count = u32::try_from(recipients.len()).expect("few");
        Attempt::new(Arc::new(envelope), 0..count, content, "local".into(), 1)
    }

    fn in_memory(text: &str) -> StoredContent {
        StoredContent::in_memory(Bytes::new(), Bytes::from(text.to_owned()))
    }

    /// What lies in `new`, by Maildir.
    fn delivered_files(root: &Path) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    directories.push(entry);
                } else {
                    let maildir = directory.parent().expect("a parent").strip_prefix(root).expect("beneath");
                    assert!(directory.ends_with("new"), "{}", entry.display());
                    let copies: &mut Vec<_> = found.entry(maildir.to_string_lossy().into_owned()).or_default();
                    copies.push(fs::read_to_string(&entry).expect("a copy"));
                }
            }
        }
        found
    }

    fn words_of(outcomes: &[Outcome]) -> Vec<String> {
        let reply = |outcome: &Outcome| outcome.diagnosis().reply.to_string();
        outcomes
            .iter()
            .map(reply)
            .map(|text| text.split_once(" as ").map_or(text.clone(), |(all, _)| all.into()))
            .collect()
    }

    #[tokio::test] // PRACTICES.md S22: each field, arriving; and nothing but these fields.
    async fn s22_requests_for_receipts_end_at_the_mailbox() {
        let names = ["Return-Receipt-To", "Disposition-Notification-To", "X-Confirm-Reading-To"];
        let content = "Received: x\r\nreturn-receipt-to : <a@b>\r\nSubject: x\r\nDISPOSITION-NOTIFICATION-TO:\r\n <a@b>,\r\n\t<c@d>\r\n\
                       X-Confirm-Reading-To: <a@b>\r\nX-Return-Receipt-To: stays\r\nReturn-Receipt-To no field\r\n\r\n\
                       Return-Receipt-To: body\r\n";
        let without = "Received: x\r\nSubject: x\r\nX-Return-Receipt-To: stays\r\nReturn-Receipt-To no field\r\n\r\n\
                       Return-Receipt-To: body\r\n";
        for (left_out, expected) in [(&names[..], without), (&[], content)] {
            // Wherever the head ends and the content begins.
            for cut in [0, 13, 40, content.len()] {
                let (root, transport) = store();
                let (head, body) = content.split_at(cut);
                let content = StoredContent::in_memory(Bytes::from(head.to_owned()), Bytes::from(body.to_owned()));
                let transport = transport.leaving_out(left_out.iter().copied());
                transport.deliver(attempt(&[("alice@example.org", Disposition::Deliver)], content)).await;
                let delivered = delivered_files(root.path()).remove("example.org/alice").expect("a copy").remove(0);
                let (_, shown) = delivered.split_once("Delivered-To: alice@example.org\r\n").expect("ours");
                assert_eq!(shown, expected);
            }
        }
    }

    #[tokio::test]
    async fn each_copy_lies_where_its_disposition_says() {
        let (root, transport) = store();
        let recipients = [
            ("alice@example.org", Disposition::Deliver),
            ("Alice+lists@EXAMPLE.org", Disposition::Deliver),
            ("bob@example.org", Disposition::Junk),
            ("carol@example.org", Disposition::Quarantine("virus".into())),
            ("dave@example.org", Disposition::Quarantine("virus".into())),
            ("erin@example.org", Disposition::Discard("rule".into())),
            ("nobody@[192.0.2.1]", Disposition::Deliver),
        ];
        let outcomes = transport.deliver(attempt(&recipients, in_memory(CONTENT))).await;
        let delivered = "250 Delivered";
        assert_eq!(
            words_of(&outcomes),
            [delivered, delivered, delivered, delivered, delivered, "250 Discarded", "550 5.1.1 No such mailbox"]
        );
        assert!(outcomes.iter().all(Outcome::is_final));
        let copy = |mailbox: &str| {
            vec![format!("Return-Path: <sender@client.example>\r\nDelivered-To: {mailbox}\r\n{CONTENT}")]
        };
        assert_eq!(
            delivered_files(root.path()),
            BTreeMap::from([
                ("example.org/alice".to_owned(), copy("alice@example.org")),
                ("example.org/bob/.Junk".to_owned(), copy("bob@example.org")),
                (".quarantine".to_owned(), copy("carol@example.org")),
            ])
        );
    }

    #[tokio::test] // STANDARDS.md Q10; SECURITY.md G5
    async fn q10_a_mailbox_that_fails_is_deferred_and_holds_up_no_other() {
        let (root, transport) = store();
        let failures = Arc::new(Mutex::new(Vec::new()));
        let seen = failures.clone();
        let transport = transport.on_failure(move |attempt, error| {
            seen.lock().expect("no panic").push((attempt.number(), error.io().kind()));
        });
        fs::create_dir(root.path().join("example.org")).expect("made");
        fs::write(root.path().join("example.org/bob"), "").expect("made");
        let recipients = ["alice", "bob", "carol"].map(|user| format!("{user}@example.org"));
        let recipients: Vec<_> = recipients.iter().map(|user| (user.as_str(), Disposition::Deliver)).collect();
        let outcomes = transport.deliver(attempt(&recipients, in_memory(CONTENT))).await;
        assert_eq!(
            words_of(&outcomes),
            ["250 Delivered", "451 4.3.0 The mailbox cannot be written to: not a directory", "250 Delivered"]
        );
        assert_eq!(outcomes.iter().map(Outcome::is_final).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(*failures.lock().expect("no panic"), [(1, io::ErrorKind::NotADirectory); 2], "together, and alone");
        fs::remove_file(root.path().join("example.org/bob")).expect("removed");
        assert_eq!(delivered_files(root.path()).len(), 2);
    }

    #[tokio::test] // RFC 9228; SECURITY.md D-18: alias a → b → a.
    async fn r9228_a_message_that_comes_back_is_a_loop() {
        let (root, transport) = store();
        let recipients = [("alice@example.org", Disposition::Deliver), ("bob@example.org", Disposition::Deliver)];
        for field in ["Delivered-To: alice@example.org", "delivered-to:\r\n \"ALICE\"@Example.ORG "] {
            let content = format!("Received: x\r\n{field}\r\n{CONTENT}");
            let outcomes = transport.deliver(attempt(&recipients, in_memory(&content))).await;
            let expected = ["554 5.4.6 Mail loop: it was in this mailbox before", "250 Delivered"];
            assert_eq!(words_of(&outcomes), expected, "{field}");
            assert!(matches!(outcomes[0], Outcome::Failed(_)));
        }
        assert_eq!(delivered_files(root.path()).into_keys().collect::<Vec<_>>(), ["example.org/bob"]);
    }

    #[tokio::test] // SECURITY.md D-11: a first line that is no field does not become part of ours.
    async fn d11_content_does_not_continue_our_fields() {
        let (root, transport) = store();
        let outcomes =
            transport.deliver(attempt(&[("bob@example.org", Disposition::Deliver)], in_memory(" x: y\r\n\r\n"))).await;
        assert_eq!(words_of(&outcomes), ["250 Delivered"]);
        let copies = &delivered_files(root.path())["example.org/bob"];
        assert!(copies[0].ends_with("Delivered-To: bob@example.org\r\n\r\n x: y\r\n\r\n"), "{copies:?}");
    }

    #[tokio::test] // RFC 5321 §6.1: the copy is what was taken, wherever it was kept.
    async fn content_in_a_file_is_copied_octet_for_octet() {
        let (root, transport) = store();
        let spool = tempfile::tempdir().expect("a directory");
        let storage = FileStorage::open(spool.path()).expect("it opens");
        let file = storage.create(Path::new("content")).expect("made");
        let body = "0123456789abcde\n".repeat(3 * CHUNK_OCTETS / 16 + 1);
        file.write_at(7, &[io::IoSlice::new(body.as_bytes())]).expect("written");
        let octets = body.len() as u64;
        let recipients = [("bob@example.org", Disposition::Deliver)];
        let content = StoredContent::in_file(Bytes::from_static(b"A: b\r\n\r\n"), file.clone(), 7, octets);
        assert_eq!(words_of(&transport.deliver(attempt(&recipients, content)).await), ["250 Delivered"]);
        let copies = &delivered_files(root.path())["example.org/bob"];
        assert!(copies[0].ends_with(&format!("\r\nA: b\r\n\r\n{body}")));

        // A file that is shorter than it was: deferred, and no copy is left.
        let content = StoredContent::in_file(Bytes::from_static(b"A: b\r\n\r\n"), file, 7, octets + 1);
        let outcomes = transport.deliver(attempt(&recipients, content)).await;
        assert_eq!(words_of(&outcomes), ["451 4.3.0 The mailbox cannot be written to: unexpected end of file"]);
        assert_eq!(delivered_files(root.path())["example.org/bob"].len(), 1);
    }

    #[test] // SECURITY.md D-32, G5: no trouble with the disk is a permanent answer.
    fn d32_trouble_with_the_disk_is_transient() {
        for (errno, expected) in
            [(28, "452 4.3.1"), (122, "452 4.3.1"), (5, "451 4.3.0"), (24, "451 4.3.0"), (30, "451 4.3.0")]
        {
            for outcome in
                [deferred(&io::Error::from_raw_os_error(errno)), unreadable(&io::Error::from_raw_os_error(5))]
            {
                assert!(!outcome.is_final(), "errno {errno}");
            }
            let reply = deferred(&io::Error::from_raw_os_error(errno)).diagnosis().reply.to_string();
            assert!(reply.starts_with(expected), "errno {errno}: {reply}");
        }
    }
}
