//! A report as a message (RFC 9990 §3.5.2).

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::write::GzEncoder;
use smtp_core::{DateTime, Mailbox};

use super::Day;

/// Characters of a line of Base64 (RFC 2045 §6.8).
const BASE64_LINE: usize = 76;

/// A report that is to be sent: to be put into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DmarcReport {
    /// The reverse-path, and the author.
    pub from: Mailbox,
    /// The recipients: at least one.
    pub to: Vec<Mailbox>,
    /// Header section and body. All of it is ASCII, and its lines end with CRLF.
    pub content: Vec<u8>,
}

/// What a message tells of its report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a> {
    /// The same for each attempt (RFC 9990 §3.5.1), of letters and digits.
    pub(super) id: &'a str,
    /// Which domain the report is about.
    pub(super) domain: &'a str,
    /// Who received the mail.
    pub(super) submitter: &'a str,
    pub(super) day: Day,
}

/// Compresses the XML. The same gives the same.
pub(super) fn compressed(xml: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(xml.as_bytes())?;
    encoder.finish()
}

/// The message for these recipients. All but its date and recipients is the same for each attempt.
pub(super) fn message(
    labels: Labels<'_>,
    from: &Mailbox,
    to: &[Mailbox],
    date: SystemTime,
    attached: &[u8],
) -> Vec<u8> {
    let Labels { id, domain, submitter, day } = labels;
    let (begin, end) = (day.begin(), day.begin() + Day::SECONDS - 1);
    let to = to.iter().map(ToString::to_string).collect::<Vec<_>>().join(",\r\n ");
    let date = DateTime::new(date);
    let mut text = format!(
        "Date: {date}\r\n\
         From: {from}\r\n\
         To: {to}\r\n\
         Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}>\r\n\
         Message-ID: <{id}@{submitter}>\r\n\
         Auto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"=_{id}\"\r\n\
         \r\n\
         --=_{id}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         This is an aggregate report of DMARC about mail that {submitter} received\r\n\
         in the name of {domain}. Its record in DNS asks for it.\r\n\
         --=_{id}\r\n\
         Content-Type: application/gzip\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n filename=\"{submitter}!{domain}!{begin}!{end}!{id}.xml.gz\"\r\n\
         \r\n"
    );
    let encoded = BASE64_STANDARD.encode(attached);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(BASE64_LINE));
        text.push_str(line);
        text.push_str("\r\n");
        rest = behind;
    }
    write!(text, "--=_{id}--\r\n").expect("writing to memory works");
    text.into_bytes()
}
