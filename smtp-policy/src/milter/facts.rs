//! What filters are told of a session besides its commands: Sendmail's macros, at the stages where Sendmail and Postfix send them.

use smtp_core::{Body, Connection, Domain, ForwardPath, Host, Mailbox, TlsVersion, Transaction, Treatment};

use super::wire::address_text;

/// Names and values.
pub(super) type Macros = Vec<(&'static str, String)>;

/// What is known of a session.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) hostname: &'a Domain,
    pub(super) connection: &'a Connection,
    pub(super) transaction: Option<&'a Transaction>,
}

impl Facts<'_> {
    /// The name of the client where a proxy vouches for it, otherwise its address in brackets, as Sendmail writes it.
    pub(super) fn client_name(&self) -> String {
        let address = || format!("[{}]", address_text(self.connection.peer().ip()));
        self.connection.client_name().map_or_else(address, ToString::to_string)
    }

    /// In front of the connection.
    pub(super) fn of_connection(&self) -> Macros {
        let (peer, local) = (self.connection.peer(), self.connection.local());
        let address = address_text(peer.ip());
        let name = self.client_name();
        let daemon = match self.connection.treatment() {
            Treatment::Submission => "MSA",
            _ => "MTA",
        };
        vec![
            ("j", self.hostname.to_string()),
            ("_", if name.starts_with('[') { name.clone() } else { format!("{name} [{address}]") }),
            ("{daemon_name}", daemon.to_owned()),
            ("{daemon_addr}", address_text(local.ip())),
            ("{daemon_port}", local.port().to_string()),
            ("{if_addr}", address_text(local.ip())),
            ("{client_addr}", address),
            ("{client_port}", peer.port().to_string()),
            ("{client_name}", name),
        ]
    }

    /// In front of `HELO`: what TLS settled.
    pub(super) fn of_greeting(&self) -> Macros {
        let Some(tls) = self.connection.tls() else { return Vec::new() };
        let version = match tls.version {
            TlsVersion::Tls12 => "TLSv1.2".to_owned(),
            TlsVersion::Tls13 => "TLSv1.3".to_owned(),
            other => other.to_string(),
        };
        vec![("{tls_version}", version), ("{cipher}", tls.cipher.to_string())]
    }

    /// In front of `MAIL`: who has authenticated, and the address taken apart.
    pub(super) fn of_sender(&self, transaction: &Transaction) -> Macros {
        let mut macros = vec![("i", transaction.id().to_string())];
        if let Some(identity) = self.connection.identity() {
            // Filters take its presence for the sign of submission.
            let mechanism = self.connection.mechanism().map_or_else(|| "XCLIENT".to_owned(), |it| it.to_string());
            macros.push(("{auth_type}", mechanism));
            macros.push(("{auth_authen}", identity.as_str().to_owned()));
        }
        let mailbox = transaction.reverse_path().mailbox();
        macros.push(("{mail_addr}", mailbox.map(ToString::to_string).unwrap_or_default()));
        macros.push(("{mail_host}", mailbox.map(host).unwrap_or_default()));
        macros
    }

    /// In front of `RCPT`.
    pub(super) fn of_recipient(path: &ForwardPath) -> Macros {
        let address = path.mailbox().map_or_else(|| "postmaster".to_owned(), ToString::to_string);
        vec![("{rcpt_addr}", address), ("{rcpt_host}", path.mailbox().map(host).unwrap_or_default())]
    }

    /// In front of `DATA` and of what follows it.
    pub(super) fn of_message(&self) -> Macros {
        self.transaction.map(|transaction| vec![("i", transaction.id().to_string())]).unwrap_or_default()
    }
}

fn host(mailbox: &Mailbox) -> String {
    match mailbox.host() {
        Host::Domain(domain) => domain.to_string(),
        Host::Literal(literal) => literal.to_string(),
    }
}

/// The parameters of `MAIL` that filters look at.
pub(super) fn mail_parameters(transaction: &Transaction) -> Vec<String> {
    let said = transaction.parameters();
    let mut words = Vec::new();
    words.extend(said.size_octets.map(|octets| format!("SIZE={octets}")));
    words.extend(said.body.map(|body| match body {
        Body::EightBitMime => "BODY=8BITMIME".to_owned(),
        Body::BinaryMime => "BODY=BINARYMIME".to_owned(),
        _ => "BODY=7BIT".to_owned(),
    }));
    words.extend(said.smtputf8.then(|| "SMTPUTF8".to_owned()));
    words
}
