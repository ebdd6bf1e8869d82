//! A message as a delivery takes it: envelope, header fields of ours, content, and what was found out about it.

use std::fmt;
use std::io::{self, Chain, Cursor, Read};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::message::content::{Content, ContentReader};
use crate::message::edits::HeaderEdits;
use crate::message::header_field::HeaderField;
use crate::message::trace::Received;
use crate::session::connection::{Connection, Greeting, TransactionId, Treatment};
use crate::session::extensions::Extensions;
use crate::session::server::SessionConfig;
use crate::session::transaction::{Recipient, Transaction};
use crate::syntax::address::Host;
use crate::syntax::domain::Domain;
use crate::syntax::parameter::MailParameters;
use crate::syntax::path::ReversePath;
use crate::syntax::text::to_text;
use crate::syntax::xclient::Forwarded;

/// One message, complete and not yet accepted.
pub struct Message {
    id: TransactionId,
    connection: Arc<Connection>,
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
    hostname: Domain,
    /// The header section ends within so many octets: the session has refused longer ones.
    header_octets: u64,
    edits: HeaderEdits,
    content: Content,
    sender_confirmed: bool,
    forwarded: Option<Box<Forwarded>>,
    extensions: Extensions,
    answers_each: bool,
    deliver_by: Option<SystemTime>,
    time: SystemTime,
}

impl Message {
    pub(crate) fn new(
        transaction: Transaction,
        connection: Arc<Connection>,
        config: &SessionConfig,
        content: Content,
        time: SystemTime,
    ) -> Self {
        let parts = transaction.into_parts();
        Self {
            id: parts.id,
            connection,
            reverse_path: parts.reverse_path,
            parameters: parts.parameters,
            recipients: parts.recipients,
            hostname: config.hostname.clone(),
            header_octets: config.limits.header_octets,
            edits: parts.edits,
            content,
            sender_confirmed: parts.sender_confirmed,
            forwarded: parts.forwarded,
            extensions: parts.extensions,
            answers_each: parts.answers_each,
            deliver_by: parts.deliver_by,
            time,
        }
    }

    /// Its name in the log and in its `Received` field.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// The client it came from.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Which rules held for it: those of a mail server, or of submission.
    pub fn treatment(&self) -> Treatment {
        self.connection.treatment()
    }

    /// Where notifications about it go: the argument of `MAIL`.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// The parameters of `MAIL`.
    pub fn parameters(&self) -> &MailParameters {
        &self.parameters
    }

    /// Who it is for: at least one.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The octets without the fields of ours: as they arrived, but with the body that a policy wrote instead, where one did
    /// ([`PolicyContext::replace_body`](crate::PolicyContext::replace_body)); see [`Message::reader`].
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether a policy vouches for the reverse-path. Default: no; then no notification may be sent.
    pub fn sender_confirmed(&self) -> bool {
        self.sender_confirmed
    }

    /// What policies attached to the transaction.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What a listed peer said with `XFORWARD` of where the message came from. It is for the log, and gives no right.
    pub fn forwarded(&self) -> Option<&Forwarded> {
        self.forwarded.as_deref()
    }

    /// When its content had arrived.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Until when it is to be delivered, where the client said so (RFC 2852 §4): counted from `MAIL`, and possibly over. What is
    /// to happen then stands in [`MailParameters::deliver_by`].
    pub fn deliver_by_time(&self) -> Option<SystemTime> {
        self.deliver_by
    }

    /// Whether each recipient gets an answer of its own ([`Accepted::each`](crate::Accepted::each)), as in LMTP (RFC 2033
    /// §4.2) and with `PRDR`: a recipient that the delivery does not take then stays with the client. Plain SMTP has one answer for all.
    pub fn answers_each(&self) -> bool {
        self.answers_each
    }

    /// The fields that go in front of the content: what policies prepended, `Received`, and what they completed it with.
    pub fn header_prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::with_capacity(512);
        for field in self.edits.prepended() {
            prefix.extend_from_slice(field.as_bytes());
        }
        prefix.extend_from_slice(self.received().as_bytes());
        for field in self.edits.completing() {
            prefix.extend_from_slice(field.as_bytes());
        }
        prefix
    }

    /// The `Received` field of this hop (RFC 5321 §4.4). Made when it is asked for, the same each time.
    fn received(&self) -> HeaderField {
        let by = Host::Domain(self.hostname.clone());
        let greeting = self.connection.greeting();
        let protocol = self.connection.protocol();
        let received = Received {
            helo: greeting.map_or(&by, Greeting::host),
            client: self.connection.peer().ip(),
            by: &by,
            with: if self.parameters.smtputf8 { protocol.with_smtputf8() } else { protocol },
            id: &to_text(&self.id),
            reverse_path: &self.reverse_path,
            recipient: match &self.recipients[..] {
                [only] => Some(only.path()),
                _ => None,
            },
            priority: self.parameters.priority,
            time: self.time,
        };
        received.to_field()
    }

    /// What a store writes in front of the content, and how many octets of the content it leaves out: usually the
    /// [`Message::header_prefix`] and none; where policies removed fields, the filtered header section is in the head.
    ///
    /// The message as it is to be stored or passed on is the head, then the content without its first octets. Blocks
    /// only where fields were removed and the content is in a file.
    ///
    /// # Errors
    /// What opening or reading the file of large content gave.
    pub fn head(&self) -> io::Result<(Vec<u8>, u64)> {
        let mut head = self.header_prefix();
        if !self.edits.touches_arriving() {
            return Ok((head, 0));
        }
        let mut start = Vec::new();
        self.content.reader()?.take(self.header_octets).read_to_end(&mut start)?;
        head.extend_from_slice(&self.edits.filter(&start));
        Ok((head, start.len() as u64))
    }

    /// The message as it is to be stored or passed on: fields in front, content without the fields that policies
    /// removed.
    ///
    /// Reading blocks where the content is in a file; call it where that is allowed (`tokio::task::spawn_blocking`).
    ///
    /// # Errors
    /// What opening or reading the file of large content gave.
    pub fn reader(&self) -> io::Result<MessageReader> {
        let (head, skipped) = self.head()?;
        MessageReader::new(head.into(), &self.content, skipped)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("reverse_path", &self.reverse_path)
            .field("recipients", &self.recipients)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

/// Reads a message as it is to be stored or passed on.
#[derive(Debug)]
pub struct MessageReader {
    inner: Chain<Cursor<Bytes>, ContentReader>,
}

impl MessageReader {
    /// Reads a head, then content without its first octets.
    pub(crate) fn new(head: Bytes, content: &Content, skipped_octets: u64) -> io::Result<Self> {
        let mut content = content.reader()?;
        content.skip(skipped_octets)?;
        Ok(Self { inner: Cursor::new(head).chain(content) })
    }
}

impl Read for MessageReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}
