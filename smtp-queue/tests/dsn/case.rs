//! A message, some of whose recipients failed.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{
    Domain, EnhancedStatusCode, ForwardPath, Mailbox, Notify, OriginalRecipient, RecipientDsn, Reply, ReplyCode,
    ReversePath, SafeText,
};
use smtp_queue::{
    Action, Diagnosis, Envelope, Notification, Notified, QueueId, Report, ReportedRecipient, ReturnedContent,
    StoredContent,
};

pub(crate) struct Case {
    pub(crate) envelope: Envelope,
    pub(crate) recipients: Vec<ReportedRecipient>,
    pub(crate) content: StoredContent,
    pub(crate) action: Action,
}

impl Case {
    /// A confirmed sender, and nobody who failed yet.
    pub(crate) fn new(reverse_path: &str) -> Self {
        let id = QueueId::from_u128(0x0006_6156_c5aa_0000_1234_5678_9abc_def0);
        let mut envelope = Envelope::new(id, at(0), ReversePath::parse(reverse_path).expect("a path"));
        envelope.sender_confirmed = true;
        envelope.origin.client = Some("192.0.2.1".parse().expect("an address"));
        let content = content("Subject: hello\r\n\r\nHi.\r\n");
        Self { envelope, recipients: Vec::new(), content, action: Action::Failed }
    }

    /// One recipient more, of whom that was said a minute after the message had arrived.
    pub(crate) fn failed(mut self, to: &str, last: impl Into<Option<Diagnosis>>) -> Self {
        let last = last.into();
        let index = u32::try_from(self.recipients.len()).expect("few");
        self.envelope = self.envelope.with_recipient(Mailbox::parse(to).expect("a mailbox"));
        let last_attempt = last.is_some().then(|| at(60));
        self.recipients.push(ReportedRecipient { index, last, last_attempt });
        self
    }

    /// The client wrote that path for the recipient that was added last.
    pub(crate) fn alias(mut self, path: &str) -> Self {
        let last = self.envelope.recipients.last_mut().expect("a recipient was added");
        last.path = ForwardPath::parse(path).expect("a path");
        self
    }

    /// Of the recipient that was added last, the sender asked to be told so, and called it that.
    pub(crate) fn asked(mut self, notify: Notify, original: Option<(&str, &str)>) -> Self {
        let last = self.envelope.recipients.last_mut().expect("a recipient was added");
        let original = original.map(|(kind, address)| OriginalRecipient::new(kind, address).expect("printable"));
        last.dsn = RecipientDsn { notify: Some(notify), original_recipient: original };
        self
    }

    /// Something else became of them.
    pub(crate) fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    pub(crate) fn content(mut self, octets: impl Into<Bytes>) -> Self {
        self.content = content(octets);
        self
    }

    pub(crate) fn notify(&self) -> Notified {
        let report = Report {
            envelope: &self.envelope,
            action: self.action,
            recipients: &self.recipients,
            returned: &ReturnedContent::whole(&self.content).expect("in memory"),
            host: &Domain::parse("mx.example.org").expect("a domain"),
            postmaster: &Mailbox::parse("admin@example.org").expect("a mailbox"),
            now: at(200),
            retry_until: Some(at(5 * 24 * 3600)),
        };
        report.notify()
    }

    pub(crate) fn notification(&self) -> Notification {
        self.notify().notification.expect("it may be sent")
    }
}

/// So many seconds after Sun, 22 Nov 2026 01:44:23 +0000.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_311_863 + seconds)
}

pub(crate) fn content(octets: impl Into<Bytes>) -> StoredContent {
    StoredContent::in_memory(Bytes::new(), octets.into())
}

/// `550 5.1.1` and a text, from a next hop or from here.
pub(crate) fn said(code: u16, status: &str, text: impl Into<String>, remote: Option<&str>) -> Diagnosis {
    let code = ReplyCode::new(code).expect("in the grammar");
    let numbers: Vec<u16> = status.split('.').filter_map(|number| number.parse().ok()).collect();
    let reply = match numbers[..] {
        [class, subject, detail] => {
            let class = u8::try_from(class).expect("one digit");
            Reply::new(code, EnhancedStatusCode::new(class, subject, detail).expect("in the grammar"), text.into())
        }
        _ => Reply::bare(code, text.into()),
    };
    Diagnosis { reply, remote: remote.map(|remote| SafeText::new(remote.to_owned())) }
}
