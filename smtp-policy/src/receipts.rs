//! Receipts stop at the boundary: the MTA neither asks for them nor lets others ask (PRACTICES S22; RFC 8098, RFC 3461).
//!
//! A receipt tells whoever asked that a mailbox lives and its owner reads. What leaves is stripped by [`Receipts`] before it is
//! signed; what arrives is stripped in final delivery, behind every verification, by whoever writes into mailboxes
//! (`MaildirTransport::leaving_out` of `smtp-queue`). What strangers sent and what
//! came signed stays as it is on its way, so that signatures still hold.

use smtp_core::{Content, DsnOffer, Policy, PolicyContext, Refusal, Stages, Treatment, Verdict, async_trait};

use crate::header::{fields, header_section};
use crate::practice::Preset;

/// The fields that ask for a receipt: of delivery by an old convention, of reading (RFC 8098 §2.1), and of reading as one
/// program asks for it.
pub const RECEIPT_FIELDS: [&str; 3] = ["Return-Receipt-To", "Disposition-Notification-To", "X-Confirm-Reading-To"];

/// Takes the [`RECEIPT_FIELDS`] out of what authenticated clients submit and relay clients send, and touches nothing else.
///
/// What a relay client sends with a signature of DKIM stays as it is: the signature may cover them.
///
/// ```
/// use smtp_core::{Accepted, Message, Server};
/// use smtp_policy::{Preset, Receipts};
///
/// assert!(Receipts::are_stripped(Preset::Bcp));
/// let server = Server::builder("mx.example.org")
///     .local_domain("example.org")
///     .policy(Receipts)
///     .deliver(|_: Message| async { Ok(Accepted::all()) });
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Receipts;

impl Receipts {
    /// Whether a preset wants requests for receipts to stop here: all but [`Preset::RfcStrict`].
    pub fn are_stripped(preset: Preset) -> bool {
        preset != Preset::RfcStrict
    }

    /// To whom a preset offers `DSN` (RFC 3461): [`Preset::RfcStrict`] to everybody, the others to authenticated clients and
    /// listed relays.
    pub fn dsn_offer(preset: Preset) -> DsnOffer {
        if preset == Preset::RfcStrict { DsnOffer::Everybody } else { DsnOffer::KnownClients }
    }
}

#[async_trait]
impl Policy for Receipts {
    fn name(&self) -> &'static str {
        "receipts"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        let leaves_without = match cx.connection().treatment() {
            Treatment::Submission => true,
            Treatment::RelayClient => match header_section(content).await {
                Ok(section) => !fields(&section).any(|field| field.is("DKIM-Signature")),
                Err(_) => return Verdict::Refuse(Refusal::transient(3, 0, "Temporary failure, try again later")),
            },
            _ => false,
        };
        if leaves_without {
            for name in RECEIPT_FIELDS {
                let removed = cx.remove_header(name);
                debug_assert!(removed.is_ok(), "each is the name of a field");
            }
        }
        Verdict::Continue
    }
}
