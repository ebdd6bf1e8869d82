//! The server that is asked, and what it offers.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;

use crate::journal::Journal;
use crate::row::{Ending, Need};
use crate::session::Session;

/// Asks any SMTP server, over a socket, whether it keeps to the RFCs.
#[derive(Debug, Parser)]
#[command(name = "smtp-conformance")]
pub(crate) struct Options {
    /// The server: HOST:PORT, in clear; STARTTLS is used where it is offered, with any certificate.
    server: String,
    /// A mailbox that exists there. It gets about a dozen tiny messages; without it no mail is sent.
    #[arg(long, value_name = "MAILBOX")]
    to: Option<String>,
    /// The reverse-path of what is sent.
    #[arg(long, value_name = "MAILBOX", default_value = "conformance@client.example")]
    from: String,
    /// What the client calls itself.
    #[arg(long, value_name = "NAME", default_value = "client.example")]
    ehlo: String,
    /// A port of the same host that begins with TLS.
    #[arg(long, value_name = "PORT")]
    tls_port: Option<u16>,
    /// Rows of this RFC alone; may be said more than once.
    #[arg(long, value_name = "NUMBER")]
    rfc: Vec<String>,
    /// How long a reply may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    reply_seconds: u64,
    /// How long the conversation of a row may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    row_seconds: u64,
}

/// A server that has answered `EHLO`.
#[derive(Debug)]
pub(crate) struct Target {
    options: Options,
    pub(crate) address: SocketAddr,
    /// The lines of `EHLO` in capitals, without the first.
    pub(crate) clear: Vec<String>,
    /// The same under TLS; empty where there is none.
    pub(crate) protected: Vec<String>,
    journal: Journal,
}

impl Target {
    /// Connects once, to see what there is to ask.
    pub(crate) fn probe(options: Options) -> Result<Self, String> {
        let mut addresses = options.server.to_socket_addrs().map_err(|error| format!("{}: {error}", options.server))?;
        let address = addresses.next().ok_or_else(|| format!("{}: no address", options.server))?;
        let (clear, protected, journal) = (Vec::new(), Vec::new(), Journal::default());
        let mut target = Self { options, address, clear, protected, journal };
        let (clear, protected) = target.offers().map_err(|ending| match ending {
            Ending::Differs { expected, got } => format!("{address}: expected {expected}, got {got}"),
            Ending::Skipped(why) => why,
        })?;
        (target.clear, target.protected) = (clear, protected);
        Ok(target)
    }

    fn offers(&self) -> Result<(Vec<String>, Vec<String>), Ending> {
        let mut session = Session::open(self)?;
        let clear = session.keywords()?;
        let mut protected = Vec::new();
        if clear.iter().any(|line| line == "STARTTLS") && session.start_tls().is_ok() {
            protected = session.keywords()?;
        }
        Ok((clear, protected))
    }

    /// What a service extension says of itself in clear.
    pub(crate) fn parameters(&self, keyword: &str) -> Option<&str> {
        self.clear.iter().find_map(|line| parameters(line, keyword))
    }

    pub(crate) fn has(&self, need: Need) -> Result<(), Ending> {
        let is_offered =
            |keyword: &str| self.clear.iter().chain(&self.protected).any(|line| parameters(line, keyword).is_some());
        match need {
            Need::Keyword(keyword) if !is_offered(keyword) => Err(Ending::Skipped(format!("{keyword} is not offered"))),
            Need::No(keyword) if is_offered(keyword) => Err(Ending::Skipped(format!("{keyword} is offered"))),
            Need::Recipient if self.options.to.is_none() => Err(Ending::Skipped("it needs --to".into())),
            Need::TlsPort if self.options.tls_port.is_none() => Err(Ending::Skipped("it needs --tls-port".into())),
            _ => Ok(()),
        }
    }

    pub(crate) fn tls_address(&self) -> Option<SocketAddr> {
        self.options.tls_port.map(|port| SocketAddr::new(self.address.ip(), port))
    }

    pub(crate) fn is_wanted(&self, rfc: &str) -> bool {
        self.options.rfc.is_empty() || self.options.rfc.iter().any(|wanted| wanted == rfc)
    }

    pub(crate) fn fill_in(&self, command: &str) -> String {
        let to = self.options.to.as_deref().unwrap_or("postmaster");
        command.replace("{to}", to).replace("{from}", &self.options.from).replace("{ehlo}", &self.options.ehlo)
    }

    pub(crate) fn host(&self) -> &str {
        self.options.server.rsplit_once(':').map_or("localhost", |(host, _)| host)
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.options.reply_seconds.max(1))
    }

    pub(crate) fn row_patience(&self) -> Duration {
        Duration::from_secs(self.options.row_seconds.max(1))
    }
}

/// What stands behind the keyword on a line of `EHLO`, if it is that keyword.
pub(crate) fn parameters<'l>(line: &'l str, keyword: &str) -> Option<&'l str> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    (first == keyword).then_some(rest)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} offers {}", self.address, self.clear.join(", "))?;
        match &self.protected[..] {
            [] => write!(f, "and no TLS"),
            protected => write!(f, "and under TLS {}", protected.join(", ")),
        }
    }
}
