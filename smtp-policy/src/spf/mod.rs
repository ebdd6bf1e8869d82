//! Does the domain let this client send in its name? (PRACTICES S34 to S38; RFC 7208)
//!
//! `record` reads what a domain publishes, `macros` fills its names, `evaluation` asks DNS; `own` is for
//! who publishes a record. A name that is no
//! [`DnsName`](smtp_core::DnsName) once it is filled, as `%{l}` may make one, is not asked for: nobody matches it.

mod evaluation;
mod macros;
pub(crate) mod own;
mod record;
#[cfg(test)]
mod suite;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smtp_core::{Domain, Host, Resolver, ReversePath, async_trait};

use crate::auth_results::property_value;
use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::Practice;

use evaluation::{Evaluated, Query, check_host, suppose};

pub(crate) use record::is_record;

/// The record can be read and DNS answers.
const READABLE: Practice = Practice::new("spf-readable", "S34", "The SPF record of the reverse-path can be evaluated")
    .fails([Action::Observe, Action::Score, Action::Reject], [0, 1, 1])
    .unknown([Action::Observe, Action::Observe, Action::Defer])
    .refuses(7, 24, "The SPF record of the sender cannot be evaluated")
    .when_unknown("The SPF record of the sender cannot be looked up now, try again later");
/// The domain does not disown the client.
const FAIL: Practice = Practice::new("spf-fail", "S35", "The domain of the sender does not disown the client")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0, 0, 0])
    .refuses(7, 23, "SPF: not sent from where its domain sends");
/// Nor doubts it.
const SOFTFAIL: Practice = Practice::new("spf-softfail", "S36", "The domain of the sender does not doubt the client")
    .fails([Action::Observe, Action::Greylist, Action::Greylist], [0, 0, 0]);
/// The domain says who sends for it, and not that everybody does.
const SPECIFIC: Practice = Practice::new("spf-specific", "S37", "The domain of the sender says who sends for it")
    .fails([Action::Observe, Action::Score, Action::Score], [0, 1, 1]);
/// A domain that says nothing sends from its web server or its mail hosts: a guess.
const BEST_GUESS: Practice =
    Practice::new("spf-best-guess", "S38", "A sender without SPF record sends from a host of its domain")
        .fails([Action::Off, Action::Score, Action::Greylist], [0, 1, 1]);

/// The record that nobody published (PRACTICES S38).
const GUESSED_RECORD: &str = "v=spf1 a mx ~all";

/// What a domain says of a client (RFC 7208 §2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpfResult {
    /// It says nothing: there is no record, or no domain.
    None,
    /// It does not want to say.
    Neutral,
    /// The client may send in its name.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// DNS did not answer.
    TempError,
    /// The record is wrong, or asks too much.
    PermError,
}

impl SpfResult {
    /// The word for it in `Authentication-Results` (RFC 8601 §2.7.2).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// The domain of the reverse-path and what it says of the client: what [`Spf`] leaves for other checks.
///
/// With the null reverse-path it is the domain in `EHLO` (RFC 7208 §2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpfIdentity {
    /// The domain; none, where it is no name.
    pub domain: Option<Domain>,
    /// What it says.
    pub result: SpfResult,
}

/// Asks the domains of `EHLO` and of the reverse-path whether the client sends for them.
///
/// Both are recorded. A `fail` of either is refused; of the other results only those of the reverse-path matter. It leaves two
/// facts: [`SpfIdentity`], and the [`SpfResult`] in it.
///
/// ```
/// use smtp_core::{Host, ResolverTable, ReversePath};
/// use smtp_policy::{Spf, SpfResult};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dns = ResolverTable::new().with_txt("client.example", "v=spf1 ip4:192.0.2.1 -all");
/// let (helo, path) = (Host::parse("mx.client.example")?, ReversePath::parse("<me@client.example>")?);
/// let seen = Spf::new(dns).examine_sender("192.0.2.1".parse()?, &helo, &path).await;
/// assert_eq!(seen.fact(), Some(&SpfResult::Pass));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Spf {
    resolver: Arc<dyn Resolver>,
    receiver: String,
    forwarders: Vec<IpNet>,
}

impl Spf {
    /// By this resolver.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver), receiver: "unknown".to_owned(), forwarders: Vec::new() }
    }

    /// What we are called in the words of others who explain a refusal. Default: `unknown` (RFC 7208 §7.3).
    #[must_use]
    pub fn named(self, receiver: &Domain) -> Self {
        Self { receiver: receiver.to_ascii().as_str().to_owned(), ..self }
    }

    /// Clients of this network forward mail to us and keep its reverse-path: what SPF says of them is recorded and no more.
    #[must_use]
    pub fn with_forwarder(mut self, network: IpNet) -> Self {
        self.forwarders.push(network);
        self
    }

    /// What is to be said of a client that introduced itself so and sends for that path.
    pub async fn examine_sender(&self, client: IpAddr, helo: &Host, path: &ReversePath) -> Observation {
        let client = client.to_canonical();
        let greeted = helo.domain().map(Domain::to_ascii);
        let mailbox = path.mailbox();
        let sender = match mailbox {
            Some(mailbox) => mailbox.domain().map(Domain::to_ascii),
            None => greeted.clone(),
        };
        let query = |local_part: &str, domain: Option<&Domain>| Query {
            client,
            local_part: local_part.to_owned(),
            domain: domain.map_or_else(String::new, |domain| domain.as_str().to_owned()),
            helo: greeted.as_ref().map_or_else(|| helo.to_string(), |domain| domain.as_str().to_owned()),
            receiver: self.receiver.clone(),
        };
        let of_helo = query("postmaster", greeted.as_ref());
        let of_path = query(mailbox.map_or("postmaster", |mailbox| mailbox.local_part().as_str()), sender.as_ref());
        let (helo, path) = if path.is_null() {
            let helo = check_host(&*self.resolver, &of_helo).await;
            (helo.clone(), helo)
        } else {
            tokio::join!(check_host(&*self.resolver, &of_helo), check_host(&*self.resolver, &of_path))
        };
        let mut seen = Observation::new().with_fact(path.result);
        if let Some(domain) = &greeted {
            seen =
                seen.with_result(format!("spf={} smtp.helo={}", helo.result.as_str(), property_value(domain.as_str())));
        }
        if let (Some(domain), Some(_)) = (&sender, mailbox) {
            seen = seen.with_result(format!(
                "spf={} smtp.mailfrom={}",
                path.result.as_str(),
                property_value(domain.as_str())
            ));
        }
        seen = seen.with_fact(SpfIdentity { domain: sender.clone(), result: path.result });
        if path.result == SpfResult::Pass && !path.is_wide && mailbox.is_some() {
            seen = seen.confirming_sender();
        }
        if self.forwarders.iter().any(|network| network.contains(&client)) {
            return seen.with(Finding::pass(FAIL.name(), format!("{} from a forwarder", path.result.as_str())));
        }
        if helo.result == SpfResult::Fail && mailbox.is_some() {
            seen = seen.with(failure(&helo, greeted.as_ref()));
        }
        self.judge(seen, &path, sender.as_ref(), &of_path).await
    }

    /// The findings of one result.
    async fn judge(
        &self,
        seen: Observation,
        evaluated: &Evaluated,
        domain: Option<&Domain>,
        query: &Query,
    ) -> Observation {
        let reason = &evaluated.reason;
        match evaluated.result {
            SpfResult::Pass if evaluated.is_wide => seen
                .with(Finding::pass(FAIL.name(), reason))
                .with(Finding::fail(SPECIFIC.name(), format!("{reason} means too many"))),
            SpfResult::Pass => {
                seen.with(Finding::pass(FAIL.name(), reason)).with(Finding::pass(SPECIFIC.name(), reason))
            }
            SpfResult::Neutral => seen.with(Finding::pass(FAIL.name(), reason)),
            SpfResult::Fail => seen.with(failure(evaluated, domain)),
            SpfResult::SoftFail => seen.with(Finding::fail(SOFTFAIL.name(), reason)),
            SpfResult::TempError => seen.with(Finding::unknown(READABLE.name(), reason)),
            SpfResult::PermError => seen.with(Finding::fail(READABLE.name(), reason)),
            SpfResult::None => {
                let seen = seen.with(Finding::fail(SPECIFIC.name(), reason));
                if domain.is_none() {
                    return seen;
                }
                let guess = suppose(&*self.resolver, query, GUESSED_RECORD).await;
                let (name, reason) = (BEST_GUESS.name(), guess.reason);
                seen.with(match guess.result {
                    SpfResult::Pass => Finding::pass(name, reason),
                    SpfResult::TempError => Finding::unknown(name, reason),
                    _ => Finding::fail(name, reason),
                })
            }
        }
    }
}

/// A `fail`, with what the domain's owner says of it. It must not look like our own words (RFC 7208 §6.2).
fn failure(evaluated: &Evaluated, domain: Option<&Domain>) -> Finding {
    let finding = Finding::fail(FAIL.name(), &evaluated.reason);
    match (&evaluated.explanation, domain) {
        (Some(words), Some(domain)) => finding.with_explanation(format!("{domain} explains: {words}")),
        _ => finding,
    }
}

impl fmt::Debug for Spf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spf").field("forwarders", &self.forwarders).finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for Spf {
    fn practices(&self) -> &[Practice] {
        &[READABLE, FAIL, SOFTFAIL, SPECIFIC, BEST_GUESS]
    }

    fn scope(&self) -> Scope {
        Scope::Sender
    }

    fn asks_dns(&self) -> bool {
        true
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let (Some(transaction), Some(greeting)) = (subject.transaction(), subject.connection().greeting()) else {
            return Observation::new();
        };
        let client = subject.connection().peer().ip();
        self.examine_sender(client, greeting.host(), transaction.reverse_path()).await
    }
}
