//! From what a next hop demands to a connection that meets it: asks the policy, and makes the TLS of what it answers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::server::tls::TlsError;
use crate::session::client::report::{SendCause, SendError, SendStage};
use crate::syntax::text::SafeText;

use super::config::ClientConfig;
use super::tls::{ClientTls, authorities_of_system};
use super::tls_policy::{NextHop, TlsPolicy, TlsRequirement};

/// A policy, and the next hop that it is asked about.
pub(super) struct Demands {
    next_hop: NextHop,
    policy: Box<dyn TlsPolicy>,
    /// Those of the system, once they were needed.
    authorities: OnceCell<Arc<RootCertStore>>,
    /// What was made last: a next hop rarely changes its mind, and clients resume their sessions with what is kept in it.
    made: Mutex<Option<(TlsRequirement, Option<ClientTls>)>>,
}

impl Demands {
    pub(super) fn new(next_hop: NextHop, policy: Box<dyn TlsPolicy>) -> Self {
        Self { next_hop, policy, authorities: OnceCell::new(), made: Mutex::default() }
    }

    /// What a connection must be now.
    ///
    /// A sender who puts delivery before protection gets TLS where it can be had, whatever the answer is and whether or not
    /// there is one (RFC 8689 §4.2.2); but no password of ours goes to who happens to answer.
    pub(super) async fn ask(&self, config: &ClientConfig, is_optional: bool) -> Result<TlsRequirement, SendError> {
        let answer = timeout(config.limits().connect_timeout, self.policy.requirement(&self.next_hop)).await;
        match answer {
            Ok(Ok(TlsRequirement::None)) => Ok(TlsRequirement::None),
            _ if is_optional && config.auth().is_none() => Ok(TlsRequirement::Opportunistic),
            Ok(Ok(requirement)) => Ok(requirement),
            Ok(Err(unknown)) => Err(failed(unknown.to_string())),
            Err(_elapsed) => Err(failed("it took too long".to_owned())),
        }
    }

    /// The configuration of a connection that meets a requirement.
    pub(super) async fn meet(
        &self,
        requirement: &TlsRequirement,
        config: &ClientConfig,
    ) -> Result<ClientConfig, SendError> {
        let known = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, tls)) = known.filter(|(made_for, _)| made_for == requirement) {
            return Ok(config.under(tls));
        }
        let tls = self.make(requirement, config).await.map_err(|error| failed(error.to_string()))?;
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some((requirement.clone(), tls.clone()));
        Ok(config.under(tls))
    }

    async fn make(&self, requirement: &TlsRequirement, config: &ClientConfig) -> Result<Option<ClientTls>, TlsError> {
        let is_implicit = config.tls().is_some_and(ClientTls::is_implicit);
        let tls = match requirement {
            TlsRequirement::None if !is_implicit => return Ok(None),
            TlsRequirement::None | TlsRequirement::Opportunistic => self.named(ClientTls::opportunistic()?),
            TlsRequirement::Required => self.named(ClientTls::encrypted()?),
            TlsRequirement::Names(names) => ClientTls::verified_by(names, self.authorities(config).await?)?,
            TlsRequirement::Dane { records, names } => ClientTls::dane(records.iter().cloned(), names)?,
        };
        Ok(Some(if is_implicit { tls.implicit() } else { tls }))
    }

    /// Asks for the host by its name, if that is one (RFC 6066 §3).
    fn named(&self, tls: ClientTls) -> ClientTls {
        let is_address = self.next_hop.host().parse::<std::net::IpAddr>().is_ok();
        if is_address { tls } else { tls.clone().with_server_name(self.next_hop.host()).unwrap_or(tls) }
    }

    async fn authorities(&self, config: &ClientConfig) -> Result<Arc<RootCertStore>, TlsError> {
        if let Some(own) = config.authorities() {
            return Ok(own.clone());
        }
        let load = || async {
            let found = tokio::task::spawn_blocking(authorities_of_system).await;
            found.unwrap_or_else(|error| Err(TlsError::Certificate(error.to_string())))
        };
        self.authorities.get_or_try_init(load).await.cloned()
    }
}

impl fmt::Debug for Demands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demands").field("next_hop", &self.next_hop).finish_non_exhaustive()
    }
}

fn failed(why: String) -> SendError {
    SendError::new(SendStage::Connect, SendCause::TlsPolicy(SafeText::new(why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::verify::TlsaRecord;

    #[tokio::test] // RFC 8689 §4.2.1: what a message with REQUIRETLS may go through; RFC 7672 §2.2 for records of no use.
    async fn r8689_only_names_and_usable_records_verify() {
        let demands = Demands::new(NextHop::new("mx.example.org", 25), Box::new(TlsRequirement::None));
        let root = rcgen::generate_simple_self_signed(["mx.example.org".to_owned()]).expect("a name").cert.pem();
        let config = ClientConfig::default().with_authorities(root.as_bytes()).expect("a certificate");
        let record = |usage| TlsaRecord { usage, selector: 1, matching: 1, data: vec![0; 32] };
        let names = vec!["mx.example.org".to_owned()];
        let dane = |records: &[TlsaRecord]| TlsRequirement::Dane { records: records.to_vec(), names: names.clone() };
        for (requirement, is_verified) in [
            (TlsRequirement::None, false),
            (TlsRequirement::Opportunistic, false),
            (TlsRequirement::Required, false),
            (TlsRequirement::Names(names.clone()), true),
            (dane(&[record(3)]), true),
            (dane(&[record(1), record(2)]), true),
            (dane(&[record(1)]), false),
            (dane(&[]), false),
        ] {
            let config = demands.meet(&requirement, &config).await.expect("it can be met");
            assert_eq!(config.tls().is_some_and(ClientTls::is_verified), is_verified, "{requirement:?}");
            assert_eq!(config.tls().is_none(), requirement == TlsRequirement::None, "{requirement:?}");
        }
    }

    #[tokio::test] // A policy that says what cannot be met says it now, and not for ever.
    async fn what_cannot_be_met_is_transient() {
        let demands = Demands::new(NextHop::new("mx.example.org", 25), Box::new(TlsRequirement::None));
        for names in [vec![], vec!["no name".to_owned()]] {
            let requirement = TlsRequirement::Dane { records: Vec::new(), names };
            let error = demands.meet(&requirement, &ClientConfig::default()).await.expect_err("no names");
            assert!(error.is_transient() && error.status().to_string() == "4.7.5", "{error}");
        }
    }
}
