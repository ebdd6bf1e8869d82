//! Relays to a fixed next hop by SMTP or LMTP, over connections that are kept for a while (STANDARDS.md Q12).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use smtp_core::{
    Body, ClientConfig, ContentSource, Disposition, Domain, ForwardPath, Host, Mailer, MailerSettings, NextHop,
    NotHostAndPort, Notify, Offers, RecipientDsn, Refusal, Reply, ReplyCode, ReversePath, SafeText, SendCause,
    SendError, TlsPolicy, ValidSince, async_trait,
};

use super::{Attempt, Transport};
use crate::content::StoredContent;
use crate::header_section::HeaderSection;
use crate::outcome::Outcome;
use crate::progress::Diagnosis;

/// How a next hop is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SmtpSettings {
    /// How its connections are: kept for 2 s without work, 300 s in all, for 100 messages (Q12), and 20 without work, as many
    /// as there are attempts at a time.
    pub connections: MailerSettings,
    /// Recipients in one transaction: 100, which every server must take (RFC 5321 §4.5.3.1.8).
    pub recipients_limit: usize,
}

impl Default for SmtpSettings {
    fn default() -> Self {
        Self { connections: MailerSettings::default(), recipients_limit: 100 }
    }
}

/// Relays to one next hop: a smart host, the host behind a filter, or a mail store. Cheap to copy; copies share their
/// connections.
///
/// With [`ClientConfig::with_lmtp`] it speaks LMTP (RFC 2033), and each recipient has the outcome that the next hop gave for
/// it. What such a hop has taken counts as relayed, not as delivered: RFC 3461 §5.2.2 knows next hops with `DSN` and
/// without, and what stands behind the LMTP server, a mailbox, a list or another relay, is known there alone.
///
/// What a connection must be says [`ClientConfig::with_tls`], or a policy ([`SmtpTransport::with_tls_policy`]).
///
/// A message with `REQUIRETLS` (RFC 8689) goes only where that is a certificate for a name
/// ([`ClientTls::verified`](smtp_core::ClientTls::verified)) or for a DANE record, and the next hop offers `REQUIRETLS`. Elsewhere it fails, `5.7.10`
/// or `5.7.30`, without a word about it; where the promised TLS cannot be made now it waits as all mail does. A Unix socket
/// leads to a program of this host and over no network, so there it is delivered as into a mailbox.
///
/// ```
/// use smtp_core::{ClientConfig, Host};
/// use smtp_queue::{Route, SmtpTransport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ClientConfig::new("mx.example.org")?;
/// let by_name = Route::new("smart host", SmtpTransport::to("smtp.example.net:25", config.clone())?);
/// let addresses = ["192.0.2.1:25".parse()?, "192.0.2.2:25".parse()?];
/// let name = Host::parse("relay.example.net")?;
/// let by_address = Route::new("relay.example.net", SmtpTransport::new(&name, addresses, config));
/// # let _ = (by_name, by_address);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SmtpTransport {
    /// As it stands in the log and in notifications.
    name: Arc<str>,
    port: u16,
    mailer: Mailer,
    recipients_limit: usize,
}

impl SmtpTransport {
    /// To the first of the addresses that takes the connection. `name` stands in the log and in notifications.
    pub fn new(name: &Host, addresses: impl IntoIterator<Item = SocketAddr>, config: ClientConfig) -> Self {
        let addresses: Vec<_> = addresses.into_iter().collect();
        let port = addresses.first().map_or(SMTP_PORT, SocketAddr::port);
        Self::with(name.to_string(), port, Mailer::to_addresses(addresses, config))
    }

    /// To `host:port`. The system looks the host up for each connection, without MX records.
    ///
    /// # Errors
    /// [`NotHostAndPort`].
    pub fn to(next_hop: &str, config: ClientConfig) -> Result<Self, NotHostAndPort> {
        let mailer = Mailer::to(next_hop, config)?;
        let (host, port) = next_hop.rsplit_once(':').unwrap_or((next_hop, ""));
        Ok(Self::with(host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(SMTP_PORT), mailer))
    }

    /// To the Unix socket at that path, as of a mail store on the same host that speaks LMTP
    /// ([`ClientConfig::with_lmtp`]).
    pub fn to_unix_socket(path: impl Into<PathBuf>, config: ClientConfig) -> Self {
        let path = path.into();
        Self::with(path.display().to_string(), 0, Mailer::to_unix_socket(path, config))
    }

    fn with(name: String, port: u16, mailer: Mailer) -> Self {
        Self { name: name.into(), port, mailer, recipients_limit: SmtpSettings::default().recipients_limit }
    }

    /// The same with a policy that says for each message what a connection must be, in the place of what the configuration
    /// says of TLS ([`Mailer::with_tls_policy`]). It is asked about the next hop by the name that stands here, its port, and
    /// the domain whose mail goes there, where the host is one of its mail exchangers.
    ///
    /// Where it does not know, the recipients are deferred, `4.7.5`. A message with `TLS-Required: No` (RFC 8689 §4.2.2) goes all
    /// the same, under TLS where there is any. One with `REQUIRETLS` goes where the policy demands a certificate by names or by
    /// DANE records.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use smtp_core::{ClientConfig, TlsPolicy, TlsPolicyTable, TlsRequirement};
    /// use smtp_queue::SmtpTransport;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bank = TlsRequirement::Names(vec!["mx.bank.example".into()]);
    /// let policy = TlsPolicyTable::new(TlsRequirement::Opportunistic).with("bank.example", bank);
    /// let policy: Arc<dyn TlsPolicy> = Arc::new(policy);
    /// let config = ClientConfig::new("mx.example.org")?;
    /// let to_bank = SmtpTransport::to("mx.bank.example:25", config.clone())?
    ///     .with_tls_policy(Some("bank.example".parse()?), policy.clone());
    /// let to_smart_host = SmtpTransport::to("smtp.example.net:25", config)?.with_tls_policy(None, policy);
    /// # let _ = (to_bank, to_smart_host);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_tls_policy(self, domain: Option<Domain>, policy: Arc<dyn TlsPolicy>) -> Self {
        let next_hop = NextHop::new(&self.name, self.port);
        let next_hop = domain.into_iter().fold(next_hop, NextHop::with_domain);
        Self { mailer: self.mailer.with_tls_policy(next_hop, policy), ..self }
    }

    /// The same with other settings. Connections are not shared with copies that were made before.
    #[must_use]
    pub fn with_settings(self, settings: &SmtpSettings) -> Self {
        let SmtpSettings { connections, recipients_limit } = settings;
        Self { mailer: self.mailer.with_settings(connections), recipients_limit: *recipients_limit, ..self }
    }

    /// Sends to some recipients in one transaction: a result for each.
    async fn transaction(&self, attempt: &Attempt, recipients: &[Recipient], facts: Facts) -> Answers {
        // What never leaves this host needs no TLS.
        let requires_tls = attempt.requires_tls() && !self.mailer.is_local();
        // Nor is it another server in the sense of RFC 2852 §4.1.4.
        let is_local = self.mailer.is_local();
        let by = |offers: Offers| attempt.deliver_by().filter(|_| offers.deliver_by() || !is_local);
        let envelope = |offers| {
            let envelope = envelope(attempt, recipients, facts, requires_tls, offers);
            match by(offers) {
                Some(by) => envelope.with_deliver_by(by),
                None => envelope,
            }
        };
        let content = || Leaving::new(attempt.content());
        let sent = if attempt.tls_is_optional() {
            self.mailer.with_tls_optional().send_with(envelope, content).await
        } else {
            self.mailer.send_with(envelope, content).await
        };
        match sent {
            Ok((report, peer)) => {
                let passed_on = PassedOn { dsn: report.dsn_passed_on(), deliver_by: report.deliver_by_passed_on() };
                Answers { peer, results: report.recipients().to_vec(), passed_on }
            }
            Err(error) => {
                Answers { peer: None, results: vec![Err(error); recipients.len()], passed_on: PassedOn::default() }
            }
        }
    }

    /// Sends to some recipients, in as many transactions as it takes: an outcome for each, and whether the server was lost
    /// without a word about them.
    async fn transactions(&self, attempt: &Attempt, recipients: &[Recipient], facts: Facts) -> (Vec<Outcome>, bool) {
        let limit = self.recipients_limit.max(1);
        let mut outcomes = Vec::with_capacity(recipients.len());
        let mut is_lost = false;
        while outcomes.len() < recipients.len() {
            let rest = &recipients[outcomes.len()..];
            let answer = self.transaction(attempt, &rest[..rest.len().min(limit)], facts).await;
            let Answers { peer, results, passed_on } = answer;
            // Who was too many in this transaction comes first in the next, unless nobody got through.
            let is_left = |result: &Result<Reply, SendError>| matches!(result, Err(error) if matches!(error.cause(), SendCause::TooManyRecipients(_)));
            let taken = match results.iter().position(is_left) {
                Some(place) if place > 0 => place,
                _ => results.len(),
            };
            // What cannot be sent to this server for good says nothing of the other recipients.
            let is_silence = |error: &SendError| error.reply().is_none() && error.is_transient();
            is_lost = results.iter().all(|result| matches!(result, Err(error) if is_silence(error)));
            let results = results.into_iter().take(taken);
            let has_time = attempt.envelope().deliver_by.is_some();
            let told =
                results.zip(rest).map(|(result, to)| self.outcome(result, peer, passed_on.is_all(has_time, &to.dsn)));
            outcomes.extend(told);
            if is_lost && let Some(last) = outcomes.last().cloned() {
                // The server said nothing of them, so the next transaction would meet the same.
                outcomes.resize(recipients.len(), last);
            }
        }
        (outcomes, is_lost)
    }

    fn outcome(&self, result: Result<Reply, SendError>, peer: Option<SocketAddr>, is_passed_on: bool) -> Outcome {
        let remote = || peer.map(|peer| SafeText::new(format!("{} [{}]", self.name, peer.ip())));
        let error = match result {
            Ok(reply) if is_passed_on => return Outcome::PassedOn(Diagnosis { reply, remote: remote() }),
            Ok(reply) => return Outcome::Relayed(Diagnosis { reply, remote: remote() }),
            Err(error) => error,
        };
        let diagnosis = match error.reply() {
            Some(reply) => Diagnosis { reply: reply.clone(), remote: remote() },
            None => Diagnosis { reply: own_reply(&error), remote: None },
        };
        if error.is_transient() { Outcome::Deferred(diagnosis) } else { Outcome::Failed(diagnosis) }
    }
}

/// The port of a next hop of which nothing else is said.
const SMTP_PORT: u16 = 25;

/// What came of one transaction.
struct Answers {
    peer: Option<SocketAddr>,
    results: Vec<Result<Reply, SendError>>,
    passed_on: PassedOn,
}

/// What the sender asked for, and whether it went along.
#[derive(Debug, Clone, Copy, Default)]
struct PassedOn {
    dsn: bool,
    deliver_by: bool,
}

impl PassedOn {
    /// Whether the next hop does all the telling: it knows of the time, if there is one, and of the wish to be told of success.
    fn is_all(self, has_time: bool, asked: &RecipientDsn) -> bool {
        if has_time { self.deliver_by && (self.dsn || !asked.notify().contains(Notify::SUCCESS)) } else { self.dsn }
    }
}

/// A recipient of the next hop's.
#[derive(Debug, Clone)]
struct Recipient {
    path: ForwardPath,
    /// What the sender asked for.
    dsn: RecipientDsn,
    /// Since when it must have owned its mailbox.
    valid_since: Option<ValidSince>,
    /// Whether a policy took this copy for junk.
    was_judged_bad: bool,
}

/// What one transaction says to a server that offers that.
fn envelope(
    attempt: &Attempt,
    recipients: &[Recipient],
    facts: Facts,
    requires_tls: bool,
    offers: Offers,
) -> smtp_core::Envelope {
    // RFC 3461 §5.2.2 (d): who is never to be told of these is nobody, where it cannot be said otherwise.
    let is_silent = recipients.iter().all(|to| to.dsn.notify == Some(Notify::NEVER));
    // Nor may it become a null one for want of DSN, where that would pass for a notification (RFC 8689 §5).
    let is_null = is_silent && !offers.dsn() && (offers.requiretls() || !requires_tls);
    let reverse_path = if is_null { ReversePath::Null } else { attempt.reverse_path().clone() };
    let envelope = smtp_core::Envelope::new(reverse_path, recipients.iter().map(|to| to.path.clone()))
        .with_priority(attempt.envelope().priority)
        .with_dsn(attempt.envelope().dsn.clone(), recipients.iter().map(|to| wishes(attempt, to, offers)))
        .with_valid_since(recipients.iter().map(|to| to.valid_since));
    let envelope = if facts.has_utf8_header { envelope.with_utf8_header() } else { envelope };
    let envelope = if requires_tls { envelope.with_requiretls() } else { envelope };
    let envelope = match &attempt.envelope().solicit {
        Some(classes) => envelope.with_solicitation(classes.clone()),
        None => envelope,
    };
    match facts.body {
        Some(body) => envelope.with_body(body),
        None => envelope,
    }
}

/// RFC 2852 §4.1.4.2: where nobody keeps to the time, the sender at least learns of a delay.
fn wishes(attempt: &Attempt, to: &Recipient, offers: Offers) -> RecipientDsn {
    let mut asked = to.dsn.clone();
    if to.was_judged_bad {
        // PRACTICES S19: nobody hears of it from the next hop either.
        asked.notify = Some(Notify::NEVER);
    }
    if attempt.envelope().deliver_by.is_some() && !offers.deliver_by() && asked.notify != Some(Notify::NEVER) {
        asked.notify = Some(asked.notify() | Notify::DELAY);
    }
    asked
}

#[async_trait]
impl Transport for SmtpTransport {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        let recipients: Vec<Recipient> = attempt
            .recipients()
            .map(|to| Recipient {
                path: ForwardPath::Mailbox(to.mailbox.clone()),
                dsn: to.dsn.clone(),
                valid_since: to.valid_since,
                was_judged_bad: to.disposition != Disposition::Deliver,
            })
            .collect();
        let facts = match Facts::of(&attempt).await {
            Ok(facts) => facts,
            Err(error) => {
                let why = format!("The message cannot be read: {}", error.kind());
                return recipients.iter().map(|_| Refusal::transient(3, 0, why.clone()).into()).collect();
            }
        };
        // RFC 3461 §5.2.2 (d): those whose sender wants to hear nothing go in transactions of their own, at the end.
        let mut places: Vec<usize> = (0..recipients.len()).collect();
        let is_silent = |place: &usize| recipients[*place].dsn.notify == Some(Notify::NEVER);
        places.sort_by_key(is_silent);
        let loud = places.iter().filter(|place| !is_silent(place)).count();
        let ordered: Vec<Recipient> = places.iter().map(|place| recipients[*place].clone()).collect();
        let (loud, silent) = ordered.split_at(loud);
        let (mut sent, is_lost) = self.transactions(&attempt, loud, facts).await;
        match sent.last().filter(|_| is_lost).cloned() {
            Some(last) => sent.resize(ordered.len(), last),
            None => sent.extend(self.transactions(&attempt, silent, facts).await.0),
        }
        let mut outcomes: Vec<(usize, Outcome)> = places.into_iter().zip(sent).collect();
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// What the content demands of a server.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// What `BODY=` says. Where the client said nothing, the octets do (RFC 6152 §3).
    body: Option<Body>,
    /// Whether the header section needs `SMTPUTF8`: it has more than ASCII, and the client said that it may (RFC 6531 §3.4). What
    /// clients send without saying so is as old as mail, and is passed on as 8-bit content.
    has_utf8_header: bool,
}

impl Facts {
    async fn of(attempt: &Attempt) -> io::Result<Self> {
        let said = (attempt.body(), attempt.envelope().smtputf8);
        if matches!(said, (Some(Body::EightBitMime | Body::BinaryMime), false)) {
            return Ok(Self { body: said.0, has_utf8_header: false });
        }
        let content = attempt.content();
        if content.as_parts().is_some() {
            return Self::look(content, said);
        }
        let content = content.clone();
        let look = tokio::task::spawn_blocking(move || Self::look(&content, said));
        look.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn look(content: &StoredContent, (body, smtputf8): (Option<Body>, bool)) -> io::Result<Self> {
        let body = match body {
            Some(Body::EightBitMime | Body::BinaryMime) => body,
            _ if is_ascii(content)? => return Ok(Self { body, has_utf8_header: false }),
            _ => Some(Body::EightBitMime),
        };
        let has_utf8_header = smtputf8 && !HeaderSection::read(content, HEADER_LIMIT_OCTETS)?.octets().is_ascii();
        Ok(Self { body, has_utf8_header })
    }
}

/// Octets of a header section that are looked at: 1 MiB. Servers of ours take a quarter of it (STANDARDS.md LI8).
const HEADER_LIMIT_OCTETS: usize = 1 << 20;

fn is_ascii(content: &StoredContent) -> io::Result<bool> {
    if let Some(parts) = content.as_parts() {
        return Ok(parts.iter().all(|part| part.is_ascii()));
    }
    let mut place = 0;
    while let Some(chunk) = content.chunk(place, Leaving::CHUNK_OCTETS)? {
        if !chunk.is_ascii() {
            return Ok(false);
        }
        place += chunk.len() as u64;
    }
    Ok(true)
}

/// What our own side says where no server did.
fn own_reply(error: &SendError) -> Reply {
    let code = ReplyCode::new(if error.is_transient() { 451 } else { 554 }).expect("both are in the grammar");
    Reply::new(code, error.status(), error.to_string())
}

/// Stored content on its way out.
struct Leaving {
    content: StoredContent,
    place: u64,
}

impl Leaving {
    /// Octets that are read from a file at a time: 64 KiB.
    const CHUNK_OCTETS: usize = 64 << 10;

    fn new(content: &StoredContent) -> Self {
        Self { content: content.clone(), place: 0 }
    }
}

#[async_trait]
impl ContentSource for Leaving {
    fn len(&self) -> u64 {
        self.content.len()
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let place = self.place;
        let chunk = if self.content.as_parts().is_some() {
            self.content.chunk(place, usize::MAX)?
        } else {
            let content = self.content.clone();
            let read = tokio::task::spawn_blocking(move || content.chunk(place, Self::CHUNK_OCTETS));
            read.await.unwrap_or_else(|error| Err(io::Error::other(error)))?
        };
        self.place += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        let Some(parts) = self.content.as_parts() else { return false };
        for part in parts {
            look(part);
        }
        true
    }
}
