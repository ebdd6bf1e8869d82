//! The envelope that a client sends: who a message is from and who it is for (RFC 5321 §2.3.1).

use crate::syntax::SyntaxError;
use crate::syntax::address::Mailbox;
use crate::syntax::deliver_by::DeliverBy;
use crate::syntax::notification::{MessageDsn, RecipientDsn};
use crate::syntax::parameter::Body;
use crate::syntax::path::{ForwardPath, ReversePath};
use crate::syntax::priority::Priority;
use crate::syntax::solicitation::SolicitationClasses;
use crate::syntax::valid_since::{NoSupport, ValidSince};

/// Reverse-path, forward-paths and parameters of one transaction.
///
/// ```
/// use smtp_core::{Body, Envelope};
///
/// let envelope = Envelope::parse("alice@client.example", ["bob@example.org", "carol@example.org"])?;
/// let envelope = envelope.with_body(Body::EightBitMime);
/// assert_eq!(envelope.recipients().len(), 2);
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    reverse_path: ReversePath,
    recipients: Vec<ForwardPath>,
    body: Option<Body>,
    utf8_header: bool,
    requiretls: bool,
    priority: Option<Priority>,
    deliver_by: Option<DeliverBy>,
    solicit: Option<SolicitationClasses>,
    dsn: MessageDsn,
    /// One for each recipient, or none where nothing is asked for.
    recipients_dsn: Vec<RecipientDsn>,
    /// As many as recipients, or fewer where nothing is demanded of the rest.
    valid_since: Vec<Option<ValidSince>>,
}

impl Envelope {
    /// An envelope without parameters. Recipients keep their order: that of the results.
    pub fn new(reverse_path: ReversePath, recipients: impl IntoIterator<Item = ForwardPath>) -> Self {
        Self {
            reverse_path,
            recipients: recipients.into_iter().collect(),
            body: None,
            utf8_header: false,
            requiretls: false,
            priority: None,
            deliver_by: None,
            solicit: None,
            dsn: MessageDsn::default(),
            recipients_dsn: Vec::new(),
            valid_since: Vec::new(),
        }
    }

    /// The same from text: `alice@example.org` with or without angle brackets, `<>` for the null reverse-path.
    ///
    /// # Errors
    /// [`SyntaxError`] with the place in the first text that is no path.
    pub fn parse<T: AsRef<str>>(
        reverse_path: impl AsRef<str>,
        recipients: impl IntoIterator<Item = T>,
    ) -> Result<Self, SyntaxError> {
        let reverse_path = match reverse_path.as_ref() {
            path if path.starts_with('<') => ReversePath::parse(path)?,
            mailbox => ReversePath::Mailbox(Mailbox::parse(mailbox)?),
        };
        let recipients = recipients.into_iter().map(|text| match text.as_ref() {
            path if path.starts_with('<') => ForwardPath::parse(path),
            mailbox => Mailbox::parse(mailbox).map(ForwardPath::Mailbox),
        });
        Ok(Self::new(reverse_path, recipients.collect::<Result<Vec<_>, _>>()?))
    }

    /// Says what octets the content has (RFC 6152). Where nothing is said it has none above 127.
    #[must_use]
    pub fn with_body(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Says that the header section has more than ASCII in it (RFC 6532), so that the message only goes where `SMTPUTF8` is
    /// offered. Mailboxes that need it are seen without being told.
    #[must_use]
    pub fn with_utf8_header(self) -> Self {
        Self { utf8_header: true, ..self }
    }

    /// Demands that the message is protected on its whole way (RFC 8689): it goes only over TLS to a server whose certificate
    /// was verified ([`ClientTls::verified`](crate::ClientTls::verified)) and that offers `REQUIRETLS`. Elsewhere it fails,
    /// with [`SendCause::TlsNotVerified`](super::report::SendCause::TlsNotVerified) or
    /// [`SendCause::RequireTlsNotOffered`](super::report::SendCause::RequireTlsNotOffered), and nothing was said of it. Under
    /// the null reverse-path it goes without the promise of the server (RFC 8689 §5), but never without verified TLS.
    #[must_use]
    pub fn with_requiretls(self) -> Self {
        Self { requiretls: true, ..self }
    }

    /// Says how urgent the message is (RFC 6710 §4.2). It goes along where the server offers `MT-PRIORITY`; elsewhere the message
    /// goes without.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// Says how long the message may take from now on (RFC 2852 §4.1.4). It goes along where the server offers `DELIVERBY`; whether
    /// it did stands in [`SendReport::deliver_by_passed_on`](super::report::SendReport::deliver_by_passed_on). In
    /// [`ByMode::Return`](crate::ByMode::Return) the message goes nowhere else: it fails with
    /// [`SendCause::DeliverByNotOffered`](super::report::SendCause::DeliverByNotOffered), or with
    /// [`SendCause::TooLate`](super::report::SendCause::TooLate) where less time is left than the server needs.
    #[must_use]
    pub fn with_deliver_by(self, deliver_by: DeliverBy) -> Self {
        Self { deliver_by: Some(deliver_by), ..self }
    }

    /// Says what the message solicits, as its field `Solicitation` does (RFC 3865 §2.3, §2.5). It goes along where the server
    /// offers `NO-SOLICITING`, which may refuse it then; others have the field.
    #[must_use]
    pub fn with_solicitation(self, classes: SolicitationClasses) -> Self {
        Self { solicit: Some(classes).filter(|classes| !classes.is_empty()), ..self }
    }

    /// Says what the sender wants to be told (RFC 3461): of the message, and of each recipient in their order; where there
    /// are fewer, nothing is said of the rest. It goes along where the server offers `DSN`; whether it did stands in
    /// [`SendReport::dsn_passed_on`](super::report::SendReport::dsn_passed_on).
    #[must_use]
    pub fn with_dsn(self, message: MessageDsn, recipients: impl IntoIterator<Item = RecipientDsn>) -> Self {
        Self { dsn: message, recipients_dsn: recipients.into_iter().collect(), ..self }
    }

    /// Says since when each recipient must have owned its mailbox (RFC 7293), in their order; where there are fewer, nothing is
    /// said of the rest. Where the server does not offer `RRVS` such a recipient fails with
    /// [`SendCause::RrvsNotOffered`](super::report::SendCause::RrvsNotOffered), and nothing is said of it, unless it may
    /// [go on without](ValidSince::or_continue).
    #[must_use]
    pub fn with_valid_since(self, recipients: impl IntoIterator<Item = Option<ValidSince>>) -> Self {
        Self { valid_since: recipients.into_iter().collect(), ..self }
    }

    /// Where notifications go.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.reverse_path
    }

    /// Where the message goes.
    pub fn recipients(&self) -> &[ForwardPath] {
        &self.recipients
    }

    /// What octets the content has, if that was said.
    pub fn body(&self) -> Option<Body> {
        self.body
    }

    /// Whether that was said of the header section.
    pub fn has_utf8_header(&self) -> bool {
        self.utf8_header
    }

    /// Whether that is demanded.
    pub fn requires_tls(&self) -> bool {
        self.requiretls
    }

    /// How urgent the message is, if that was said.
    pub fn priority(&self) -> Option<Priority> {
        self.priority
    }

    /// How long the message may take, if that was said.
    pub fn deliver_by(&self) -> Option<DeliverBy> {
        self.deliver_by
    }

    /// What the message solicits, if that was said.
    pub fn solicitation(&self) -> Option<&SolicitationClasses> {
        self.solicit.as_ref()
    }

    /// Whether the message goes with `SMTPUTF8` where that is offered (RFC 6531 §3.4).
    pub fn is_internationalized(&self) -> bool {
        self.utf8_header || !self.reverse_path.is_ascii() || !self.recipients.iter().all(ForwardPath::is_ascii)
    }

    /// What the sender wants to be told of the message.
    pub fn dsn(&self) -> &MessageDsn {
        &self.dsn
    }

    /// Since when the recipient at that place must have owned its mailbox, if that was said.
    pub fn valid_since(&self, place: usize) -> Option<ValidSince> {
        self.valid_since.get(place).copied().flatten()
    }

    /// Whether the recipient at that place goes nowhere but to servers that offer `RRVS` (RFC 7293 §5.1.1).
    pub(super) fn needs_rrvs(&self, place: usize) -> bool {
        self.valid_since(place).is_some_and(|wish| wish.no_support() == NoSupport::Reject)
    }

    /// What it wants to be told of the recipient at that place; `None` where nothing was said.
    pub fn recipient_dsn(&self, place: usize) -> Option<&RecipientDsn> {
        self.recipients_dsn.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // SECURITY D-9: what could end a command line is no path.
    fn d9_text_becomes_paths_or_an_error() {
        let envelope = Envelope::parse("<>", ["<postmaster>", "a@b.example", "<\"x y\"@b.example>"]).expect("paths");
        assert!(envelope.reverse_path().is_null());
        let recipients: Vec<_> = envelope.recipients().iter().map(ToString::to_string).collect();
        assert_eq!(recipients, ["<postmaster>", "<a@b.example>", "<\"x y\"@b.example>"]);
        for hostile in ["", "a", "a@b.example>\r\nRCPT TO:<c@d.example", "a@b.example\r\n", "<a@b.example> SIZE=1"] {
            assert!(Envelope::parse(hostile, ["a@b.example"]).is_err(), "{hostile:?}");
            assert!(Envelope::parse("<>", [hostile]).is_err(), "{hostile:?}");
        }
    }
}
