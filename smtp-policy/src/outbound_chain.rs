//! Several outbound policies as one: a queue asks one.

use std::fmt;
use std::sync::Arc;

use smtp_core::{HeaderField, Outbound, OutboundContent, OutboundPolicy, OutboundRecipient, Transient, async_trait};

/// Asks outbound policies in the order in which they were given; each sees what those before it have set.
///
/// ```
/// use smtp_policy::{OutboundChain, RewritingKey, Srs, SrsForwarding, Verp};
///
/// let srs = Srs::new("example.org".parse()?, RewritingKey::new(*b"sixteen random o")?);
/// let policy = OutboundChain::new()
///     .with(SrsForwarding::new(srs, ["example.org".parse()?]))
///     .with(Verp::new("news-return@example.org".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct OutboundChain {
    policies: Vec<Arc<dyn OutboundPolicy>>,
}

impl OutboundChain {
    /// One that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another policy, behind the others.
    #[must_use]
    pub fn with(mut self, policy: impl OutboundPolicy + 'static) -> Self {
        self.policies.push(Arc::new(policy));
        self
    }
}

impl fmt::Debug for OutboundChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundChain").field("policies", &self.policies.len()).finish()
    }
}

#[async_trait]
impl OutboundPolicy for OutboundChain {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        for policy in &self.policies {
            policy.enqueue(message, recipients).await?;
        }
        Ok(())
    }

    /// All fields of all policies. Each of these is shown the message without the fields of the others.
    async fn sign(
        &self,
        message: &Outbound<'_>,
        recipients: &[OutboundRecipient],
        content: &OutboundContent,
    ) -> Result<Vec<HeaderField>, Transient> {
        let mut fields = Vec::new();
        for policy in &self.policies {
            fields.extend(policy.sign(message, recipients, content).await?);
        }
        Ok(fields)
    }
}
