//! `EXTERNAL`: the certificate proves who the client is; the response says whom it wants to act as (RFC 4422
//! Appendix A).

use super::credential::{ClientCertificate, Credential};
use super::prepare::prepared;
use super::{Failure, Progress, Steps, outcome};

pub(super) struct External {
    certificate: Option<ClientCertificate>,
    authzid: Option<String>,
}

impl External {
    pub(super) fn new(certificate: Option<ClientCertificate>) -> Self {
        Self { certificate, authzid: None }
    }
}

impl Steps for External {
    fn respond(&mut self, response: &[u8]) -> Progress {
        let Some(certificate) = self.certificate.take() else { return Progress::Failed(Failure::Rejected) };
        if response.contains(&0) || std::str::from_utf8(response).is_err() {
            return Progress::Failed(Failure::Malformed);
        }
        if !response.is_empty() {
            let Some(authzid) = prepared(response) else { return Progress::Failed(Failure::Rejected) };
            self.authzid = Some(authzid);
        }
        Progress::Check(Credential::Certificate(certificate))
    }

    fn checked(&mut self, accepted: bool) -> Progress {
        outcome(accepted, self.authzid.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 4422 Appendix A.2
    fn r4422_external_needs_a_certificate() {
        let certificate = ClientCertificate::from_der(&b"DER"[..]);
        let check = || Progress::Check(Credential::Certificate(certificate.clone()));
        for (has_certificate, response, expected, authzid) in [
            (true, &b""[..], check(), None),
            (true, b"fred@example.com", check(), Some("fred@example.com")),
            (true, b"a\0b", Progress::Failed(Failure::Malformed), None),
            (true, b"\xff", Progress::Failed(Failure::Malformed), None),
            (true, b"\x07", Progress::Failed(Failure::Rejected), None),
            (false, b"", Progress::Failed(Failure::Rejected), None),
        ] {
            let mut external = External::new(has_certificate.then(|| certificate.clone()));
            assert_eq!(external.respond(response), expected, "{response:?}");
            assert_eq!(external.authzid.as_deref(), authzid);
        }
    }
}
