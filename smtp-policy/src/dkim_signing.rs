//! Signatures of DKIM on what leaves, where a queue asks (PRACTICES S39).

use std::sync::Arc;

use smtp_core::{
    HeaderField, Outbound, OutboundContent, OutboundPolicy, OutboundRecipient, Transient, Treatment, async_trait,
};

use crate::dkim_signer::{DkimSigner, Unsigned};
use crate::dmarc::author::{Author, author};
use crate::signature::Signed;
use crate::signing_room::SigningRoom;

/// Signs mail of our own: of clients that authenticated or may relay, of programs of this host, and the notifications of the queue.
/// What strangers sent is never signed, whoever its author claims to be.
///
/// The domain of the author decides who signs, so that signature and author agree (RFC 9989 §4.4.1): a signer for that domain, or
/// for the nearest one above it. Mail without such a signer, or with authors of several domains, leaves as it came.
///
/// ```no_run
/// use smtp_policy::{DkimKey, DkimSigner, DkimSigning, OutboundChain};
///
/// let key = DkimKey::from_pem("2026a", &std::fs::read("dkim/example.org/2026a.pem")?)?;
/// let policy = OutboundChain::new().with(DkimSigning::new().with(DkimSigner::new(&"example.org".parse()?, key)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DkimSigning {
    signers: Vec<Arc<DkimSigner>>,
    room: SigningRoom,
}

impl DkimSigning {
    /// Of nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a signer. Of several for one domain all sign.
    #[must_use]
    pub fn with(mut self, signer: impl Into<Arc<DkimSigner>>) -> Self {
        self.signers.push(signer.into());
        self
    }
}

/// Whether a message is ours: nobody sent it, or somebody for whom we send.
pub(crate) fn is_ours(message: &Outbound<'_>) -> bool {
    message
        .connection()
        .is_none_or(|client| client.identity().is_some() || client.treatment() == Treatment::RelayClient)
}

/// Who signs for that domain: those of the longest name that it ends with.
fn signers_of<'a>(signers: &'a [Arc<DkimSigner>], author: &str) -> impl Iterator<Item = &'a DkimSigner> {
    let agrees = |domain: &str| {
        let above = author.len().checked_sub(domain.len());
        above.is_some_and(|above| {
            author.is_char_boundary(above)
                && author[above..].eq_ignore_ascii_case(domain)
                && (above == 0 || author[..above].ends_with('.'))
        })
    };
    let best =
        signers.iter().map(|signer| signer.domain().as_str()).filter(|domain| agrees(domain)).max_by_key(|d| d.len());
    signers.iter().map(|signer| &**signer).filter(move |signer| best == Some(signer.domain().as_str()))
}

#[async_trait]
impl OutboundPolicy for DkimSigning {
    /// Leaves the reverse-paths as they are.
    async fn enqueue(&self, _: &Outbound<'_>, _: &mut [OutboundRecipient]) -> Result<(), Transient> {
        Ok(())
    }

    async fn sign(
        &self,
        message: &Outbound<'_>,
        _: &[OutboundRecipient],
        content: &OutboundContent,
    ) -> Result<Vec<HeaderField>, Transient> {
        if self.signers.is_empty() || !is_ours(message) {
            return Ok(Vec::new());
        }
        let (signers, content) = (self.signers.clone(), content.clone());
        let sign = move || {
            let message = Unsigned::read(content.reader()?)?;
            let Author::One(author) = author(&Signed::new(&message.section)) else { return Ok(Vec::new()) };
            let signed = signers_of(&signers, author.as_str()).map(|signer| signer.sign_unsigned(&message));
            Ok(signed.collect::<std::io::Result<Vec<_>>>()?.concat())
        };
        self.room.run(sign).await
    }
}
