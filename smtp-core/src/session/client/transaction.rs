//! One transaction as the client sees it: its commands, which of them were sent, and what became of each recipient.

use std::collections::HashSet;
use std::io::Write;

use super::envelope::Envelope;
use super::offers::{Limits, Offers};
use super::report::{SendCause, SendError, SendReport, SendStage};
use crate::syntax::domain::Domain;
use crate::syntax::notification::{MessageDsn, RecipientDsn};
use crate::syntax::parameter::Body;
use crate::syntax::path::ForwardPath;
use crate::syntax::reply::{EnhancedStatusCode, Reply, ReplyCode};

/// The envelope of the current message, as command lines, and the replies to them.
///
/// Its memory is kept from one message to the next.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that holds or not")]
pub(super) struct Transaction {
    /// `MAIL`, complete once the size is known.
    mail: Vec<u8>,
    /// Where in it stands what octets the content has.
    body: std::ops::Range<usize>,
    /// Every `RCPT`, ready for the wire.
    lines: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// How many commands were sent.
    sent: usize,
    recipients: Vec<Recipient>,
    accepted: usize,
    /// Why the message as a whole fails, once that is known.
    failure: Option<SendError>,
    /// Whether what the sender wants to be told goes along.
    passes_dsn_on: bool,
    /// Whether the time that it may take does.
    passes_deliver_by_on: bool,
    each: Each,
    /// Whether it only asks whether the server would take a message, so that none must follow.
    is_question: bool,
    /// Whether the server has answered `MAIL`.
    pub(super) is_answered: bool,
}

#[derive(Debug)]
enum Recipient {
    Unanswered,
    Accepted,
    Refused(SendError),
    /// It had a reply of its own to the content.
    Told(Result<Reply, SendError>),
}

/// Whether each recipient has a reply of its own behind the content (draft-hall-prdr-00).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Each {
    #[default]
    NotAsked,
    /// `MAIL` asks for it.
    Asked,
    /// They come, and wait for the one that makes them hold.
    Unconcluded,
}

impl Transaction {
    /// Writes the commands, with the parameters that the server offers.
    pub(super) fn begin(&mut self, envelope: &Envelope, offers: Offers) {
        self.mail.clear();
        let is_internationalized = envelope.is_internationalized();
        let in_ascii = is_internationalized && !offers.smtputf8();
        match envelope.reverse_path().to_ascii().filter(|_| in_ascii) {
            Some(ascii) => write(&mut self.mail, format_args!("MAIL FROM:{ascii}")),
            None => write(&mut self.mail, format_args!("MAIL FROM:{}", envelope.reverse_path())),
        }
        if is_internationalized && offers.smtputf8() {
            self.mail.extend_from_slice(b" SMTPUTF8");
        }
        if envelope.requires_tls() && offers.requiretls() {
            self.mail.extend_from_slice(b" REQUIRETLS");
        }
        write_parameter(&mut self.mail, "MT-PRIORITY", envelope.priority().filter(|_| offers.mt_priority()).as_ref());
        let deliver_by = envelope.deliver_by().filter(|_| offers.deliver_by());
        self.passes_deliver_by_on = deliver_by.is_some();
        write_parameter(&mut self.mail, "BY", deliver_by.as_ref());
        let before = self.mail.len();
        match envelope.body() {
            Some(Body::BinaryMime) => self.mail.extend_from_slice(BINARY),
            Some(Body::EightBitMime) if offers.eight_bit_mime() => self.mail.extend_from_slice(b" BODY=8BITMIME"),
            Some(Body::SevenBit) if offers.eight_bit_mime() => self.mail.extend_from_slice(b" BODY=7BIT"),
            _ => {}
        }
        self.body = before..self.mail.len();
        self.passes_dsn_on = offers.dsn();
        if self.passes_dsn_on {
            let MessageDsn { ret, envelope_id } = envelope.dsn();
            write_parameter(&mut self.mail, "RET", ret.as_ref());
            write_parameter(&mut self.mail, "ENVID", envelope_id.as_ref());
        }
        if offers.no_soliciting() {
            write_parameter(&mut self.mail, "SOLICIT", envelope.solicitation());
        }
        self.lines.clear();
        self.ends.clear();
        self.recipients.clear();
        let mut room = Room::new(offers);
        for (place, recipient) in envelope.recipients().iter().enumerate() {
            let ascii = if in_ascii { recipient.to_ascii() } else { None };
            if in_ascii && ascii.is_none() {
                self.leave_out(SendCause::NotAscii);
                continue;
            }
            if envelope.needs_rrvs(place) && !offers.rrvs() {
                self.leave_out(SendCause::RrvsNotOffered);
                continue;
            }
            if !room.has_for(recipient) {
                self.leave_out(SendCause::TooManyRecipients(too_many()));
                continue;
            }
            match ascii {
                Some(ascii) => write(&mut self.lines, format_args!("RCPT TO:{ascii}")),
                None => write(&mut self.lines, format_args!("RCPT TO:{recipient}")),
            }
            if let Some(RecipientDsn { notify, original_recipient }) = envelope.recipient_dsn(place)
                && self.passes_dsn_on
            {
                write_parameter(&mut self.lines, "NOTIFY", notify.as_ref());
                write_parameter(&mut self.lines, "ORCPT", original_recipient.as_ref());
            }
            if offers.rrvs() {
                write_parameter(&mut self.lines, "RRVS", envelope.valid_since(place).as_ref());
            }
            self.lines.extend_from_slice(b"\r\n");
            self.ends.push(self.lines.len());
            self.recipients.push(Recipient::Unanswered);
        }
        self.sent = 0;
        self.accepted = 0;
        self.failure = None;
        self.each = Each::NotAsked;
        self.is_question = false;
        self.is_answered = false;
    }

    /// Completes `MAIL`, and nothing comes behind the recipients.
    pub(super) fn only_ask(&mut self) {
        self.mail.extend_from_slice(b"\r\n");
        self.is_question = true;
    }

    pub(super) fn is_question(&self) -> bool {
        self.is_question
    }

    /// Asks for a reply for each recipient, before `MAIL` is complete.
    pub(super) fn ask_for_each(&mut self) {
        self.mail.extend_from_slice(b" PRDR");
        self.each = Each::Asked;
    }

    pub(super) fn asks_for_each(&self) -> bool {
        self.each == Each::Asked
    }

    /// The content has any octets, whatever the envelope says of it.
    pub(super) fn declare_binary(&mut self) {
        self.mail.splice(self.body.clone(), BINARY.iter().copied());
        self.body.end = self.body.start + BINARY.len();
    }

    /// The next recipient is not sent: a line of no octets never is.
    fn leave_out(&mut self, cause: SendCause) {
        self.recipients.push(Recipient::Refused(SendError::new(SendStage::Local, cause)));
        self.ends.push(self.lines.len());
    }

    /// Completes `MAIL`.
    pub(super) fn set_size(&mut self, offers: Offers, octets: u64) {
        if offers.size() {
            write(&mut self.mail, format_args!(" SIZE={octets}"));
        }
        self.mail.extend_from_slice(b"\r\n");
    }

    /// The next command, by its number, and its line; 0 is `MAIL`.
    pub(super) fn next_line(&mut self) -> Option<(usize, &[u8])> {
        let Some(mut index) = self.sent.checked_sub(1) else {
            self.sent = 1;
            return Some((0, &self.mail));
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        while self.ends.get(index) == Some(&start) {
            index += 1;
        }
        self.sent = index + 1;
        let end = *self.ends.get(index)?;
        self.sent += 1;
        Some((index + 1, &self.lines[start..end]))
    }

    /// Whether there are commands left that it makes sense to send.
    pub(super) fn has_more_lines(&self) -> bool {
        self.failure.is_none() && self.sent <= self.ends.len()
    }

    pub(super) fn has_accepted(&self) -> bool {
        self.accepted > 0
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The reply to `RCPT` is all that is asked of who only asks.
    pub(super) fn accept(&mut self, index: usize, reply: Reply) {
        if self.is_question {
            self.recipients[index] = Recipient::Told(Ok(reply));
        } else {
            self.recipients[index] = Recipient::Accepted;
            self.accepted += 1;
        }
    }

    /// The 5yz of one recipient does not touch the others (STANDARDS R5321o).
    pub(super) fn refuse(&mut self, index: usize, reply: Reply) {
        // RFC 5321 §4.5.3.1.10: one that would have been taken alone. Another status says that it is another reason.
        let is_too_many = self.accepted > 0
            && matches!(reply.code().get(), 452 | 552)
            && reply.status().is_none_or(|status| (status.subject(), status.detail()) == (5, 3));
        let cause = if is_too_many { SendCause::TooManyRecipients(reply) } else { SendCause::Refused(reply) };
        self.recipients[index] = Recipient::Refused(SendError::new(SendStage::Rcpt, cause));
    }

    /// Which recipients were accepted, in the order of `RCPT`.
    pub(super) fn accepted_places(&self) -> impl Iterator<Item = usize> {
        let places = self.recipients.iter().enumerate();
        places.filter(|(_, recipient)| matches!(recipient, Recipient::Accepted)).map(|(place, _)| place)
    }

    /// The server has answered the content for one recipient (RFC 2033 §4.2).
    pub(super) fn tell(&mut self, index: usize, reply: Reply) {
        let result = if reply.code().is_positive() {
            Ok(reply)
        } else {
            Err(SendError::new(SendStage::EndOfContent, SendCause::Refused(reply)))
        };
        self.recipients[index] = Recipient::Told(result);
    }

    /// A reply for each recipient follows, and none of them counts before the reply for the message.
    pub(super) fn await_conclusion(&mut self) {
        self.each = Each::Unconcluded;
    }

    /// The reply for the message, behind those for the recipients: where it refuses the message, nobody has it.
    pub(super) fn concluded(&mut self, reply: Reply) -> SendReport {
        self.each = Each::Asked;
        if !reply.code().is_positive() {
            for recipient in &mut self.recipients {
                if matches!(recipient, Recipient::Told(Ok(_))) {
                    *recipient = Recipient::Accepted;
                }
            }
        }
        self.answered(reply)
    }

    /// The message as a whole fails; the first reason counts.
    pub(super) fn fail(&mut self, error: SendError) {
        self.failure.get_or_insert(error);
    }

    /// The server has answered the content.
    pub(super) fn answered(&mut self, reply: Reply) -> SendReport {
        let result = match (&self.failure, reply.code().is_positive()) {
            (Some(failure), _) => Err(failure.clone()),
            (None, true) => Ok(reply.clone()),
            (None, false) => Err(SendError::new(SendStage::EndOfContent, SendCause::Refused(reply.clone()))),
        };
        self.report(&result, Some(reply), false)
    }

    /// There is no reply to the content: recipients that were not refused fail for `reason`, unless the message has
    /// failed for another before.
    pub(super) fn ended(&mut self, reason: SendError, is_stale: bool) -> SendReport {
        let failure = self.failure.take().unwrap_or(reason);
        self.report(&Err(failure), None, is_stale)
    }

    /// Nothing that was said in this transaction can be believed, but for what each recipient was told behind the content:
    /// the copies that were taken then must not be sent again.
    pub(super) fn spoilt(&mut self, reason: &SendError, is_stale: bool) -> SendReport {
        let is_unconcluded = self.each == Each::Unconcluded;
        let results = self.recipients.drain(..).map(|recipient| match recipient {
            Recipient::Told(result) if !is_unconcluded => result,
            _ => Err(reason.clone()),
        });
        SendReport::new(results.collect(), None, is_stale)
            .with_dsn_passed_on(self.passes_dsn_on)
            .with_deliver_by_passed_on(self.passes_deliver_by_on)
    }

    fn report(
        &mut self,
        message: &Result<Reply, SendError>,
        content_reply: Option<Reply>,
        is_stale: bool,
    ) -> SendReport {
        // Behind a refused `MAIL` the replies to `RCPT` mean nothing.
        let whole = message.as_ref().is_err_and(|error| matches!(error.stage(), SendStage::Mail | SendStage::Local));
        let is_unconcluded = self.each == Each::Unconcluded;
        let results = self.recipients.drain(..).map(|recipient| match recipient {
            Recipient::Refused(error) if !whole => Err(error),
            Recipient::Told(result) if !is_unconcluded => result,
            _ => message.clone(),
        });
        SendReport::new(results.collect(), content_reply, is_stale)
            .with_dsn_passed_on(self.passes_dsn_on)
            .with_deliver_by_passed_on(self.passes_deliver_by_on)
    }
}

const BINARY: &[u8] = b" BODY=BINARYMIME";

/// How many recipients more the server takes, by its own word (RFC 9422 §4.2, §4.3).
struct Room {
    recipients: Option<u32>,
    domains: Option<u32>,
    seen: HashSet<Option<Domain>>,
    is_full: bool,
}

impl Room {
    fn new(offers: Offers) -> Self {
        let Limits { recipients, domains, .. } = offers.limits();
        Self { recipients, domains, seen: HashSet::new(), is_full: false }
    }

    /// Once there is none, there is none for anybody: who is left out comes next, in the same order.
    fn has_for(&mut self, recipient: &ForwardPath) -> bool {
        if self.recipients == Some(0) {
            self.is_full = true;
        }
        if let Some(most) = self.domains.filter(|_| !self.is_full) {
            self.seen.insert(recipient.domain().cloned());
            self.is_full = self.seen.len() > most as usize;
        }
        if !self.is_full {
            self.recipients = self.recipients.map(|left| left - 1);
        }
        !self.is_full
    }
}

/// What the server would have said.
fn too_many() -> Reply {
    let code = ReplyCode::new(452).expect("in the grammar");
    let status = EnhancedStatusCode::new(4, 5, 3).expect("in the grammar");
    Reply::new(code, status, "More recipients than the server takes at a time")
}

/// Both keyword and value are types that have no space and no end of a line in them (SECURITY D-9).
fn write_parameter(line: &mut Vec<u8>, keyword: &'static str, value: Option<&impl std::fmt::Display>) {
    if let Some(value) = value {
        write(line, format_args!(" {keyword}={value}"));
    }
}

fn write(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("memory takes all that is written");
}
