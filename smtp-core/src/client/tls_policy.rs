//! What a next hop demands of TLS: the trait that is asked before a connection is made, and what it answers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::hooks::outbound::Transient;
use crate::syntax::domain::Domain;

use super::verify::TlsaRecord;

/// Decides what a connection to a next hop must be: DANE and MTA-STS live here, and what an operator has agreed with others.
///
/// It is asked for each message, before a connection is made or used again, and so has to remember what it looked up. A
/// [`TlsRequirement`] is a policy too, which says the same of every next hop, and a [`TlsPolicyTable`](crate::TlsPolicyTable)
/// is one by names.
///
/// ```
/// use smtp_core::{NextHop, TlsPolicy, TlsRequirement, Transient, async_trait};
///
/// /// Never in clear to hosts of our own, and to others where they can.
/// struct OwnHosts;
///
/// #[async_trait]
/// impl TlsPolicy for OwnHosts {
///     async fn requirement(&self, next_hop: &NextHop) -> Result<TlsRequirement, Transient> {
///         let is_own = next_hop.host().ends_with(".internal.example");
///         Ok(if is_own { TlsRequirement::Required } else { TlsRequirement::Opportunistic })
///     }
/// }
/// # fn is_policy(_: impl TlsPolicy) {}
/// # is_policy(OwnHosts);
/// ```
#[async_trait]
pub trait TlsPolicy: Send + Sync {
    /// What a connection to that next hop must be.
    ///
    /// # Errors
    /// [`Transient`]: that is not known now, as when DNS does not answer. No connection is made, and the message waits: what
    /// was not looked up is never taken for a permission.
    async fn requirement(&self, next_hop: &NextHop) -> Result<TlsRequirement, Transient>;
}

#[async_trait]
impl<P: TlsPolicy + ?Sized> TlsPolicy for Arc<P> {
    async fn requirement(&self, next_hop: &NextHop) -> Result<TlsRequirement, Transient> {
        (**self).requirement(next_hop).await
    }
}

/// The same for every next hop.
#[async_trait]
impl TlsPolicy for TlsRequirement {
    async fn requirement(&self, _: &NextHop) -> Result<Self, Transient> {
        Ok(self.clone())
    }
}

/// What a connection must be, from nothing to one host and no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsRequirement {
    /// Nothing: all goes in clear, even where the server offers TLS.
    None,
    /// TLS where the server offers it, with any certificate (RFC 7435).
    Opportunistic,
    /// TLS, with any certificate.
    Required,
    /// TLS, with a certificate for one of these names by a trusted authority: what MTA-STS asks for (RFC 8461 §4.1). The
    /// first is the one that is asked for.
    Names(Vec<String>),
    /// TLS, with a certificate that one of these records matches (RFC 7672); of an authority, for one of the names. They are
    /// the records of a host whose DNSSEC is in order. Where none is [usable](TlsaRecord::is_usable), TLS with any
    /// certificate.
    Dane {
        /// The records.
        records: Vec<TlsaRecord>,
        /// The host, and the domain of the mailboxes. The first is the one that is asked for.
        names: Vec<String>,
    },
}

/// Who is to be connected to: what a [`TlsPolicy`] is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    domain: Option<Domain>,
    host: Box<str>,
    port: u16,
}

impl NextHop {
    /// A host by its name or address, and its port. Brackets of an address are left out.
    pub fn new(host: &str, port: u16) -> Self {
        Self { domain: None, host: host.trim_matches(['[', ']']).into(), port }
    }

    /// The same as a mail exchanger of that domain.
    #[must_use]
    pub fn with_domain(self, domain: Domain) -> Self {
        Self { domain: Some(domain), ..self }
    }

    /// The domain whose mail goes there, where the host is one of its mail exchangers; `None` where the host was named itself,
    /// as a smart host is.
    pub fn domain(&self) -> Option<&Domain> {
        self.domain.as_ref()
    }

    /// The host, by its name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// `host:port`, and for whom.
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, " for {domain}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_is_shown_as_it_is_named() {
        assert_eq!(NextHop::new("[::1]", 25).host(), "::1");
        let hop = NextHop::new("mx.example.org", 25).with_domain("example.org".parse().expect("a domain"));
        assert_eq!(hop.to_string(), "mx.example.org:25 for example.org");
    }
}
