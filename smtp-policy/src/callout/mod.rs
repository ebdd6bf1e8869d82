//! Callouts: would the sender's domain take an answer, and does the client take mail? (PRACTICES S40)
//!
//! A callout costs a stranger, so it is off in every preset, and bounded when it is on: only for domains without SPF record, never
//! for `<>` and so never because of another callout, never with content, one at a time for each network, by rates, and answered
//! from memory for 31 days where it was good, 3 days where it was bad, 15 min where nobody answered. [`caller`] makes one;
//! [`call_forward`] asks our own next hops about recipients.

mod call_forward;
mod caller;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use smtp_core::{
    Answer, ClientConfig, DnsName, Domain, ForwardPath, MailExchanger, Mailbox, Resolver, ReversePath, async_trait,
};

use crate::check::{Check, Observation, Scope, Subject};
use crate::clock::Clock;
use crate::finding::{Action, Finding};
use crate::network::{may_be_called, network_of};
use crate::practice::Practice;
use crate::rate_limit::Rate;
use crate::reverse_dns::addresses;
use crate::spf::is_record;
use crate::state::StateStore;

use caller::{Caller, Heard, Question, Target};

pub use call_forward::CallForward;

/// There is such a mailbox.
const SENDER: Practice =
    Practice::new("callout-sender", "S40", "A server of the sender's domain takes mail for the sender")
        .fails([Action::Off; 3], [2; 3])
        .refuses(1, 8, "The sender cannot be verified")
        .with_transient_code(450)
        .never_permanent();
/// The client is a mail server.
const CLIENT: Practice = Practice::new("callout-client", "S40", "There is a mail server at the address of the client")
    .fails([Action::Off; 3], [1; 3])
    .refuses(1, 8, "No mail server is at your address")
    .with_transient_code(450)
    .never_permanent();

/// Where mail servers listen (RFC 5321 §4.5.4.2).
const PORT: u16 = 25;
/// Of how many hosts of a domain one is looked for that may be called: 3.
const HOSTS_LIMIT: usize = 3;
/// How often callouts are made at all: 30 a minute.
const ALL: Rate = Rate::new(30, Duration::from_secs(60));
/// How often those of one network are called: 60 an hour, 5 at once.
const EACH: Rate = Rate::new(60, Duration::from_secs(60 * 60)).with_burst(5);

/// What callouts of all kinds share: their memory, their rates, and whom they never call.
///
/// The checks are [`Callouts::of_senders`] and [`Callouts::of_clients`]. In every preset both are off, so that a chain that has
/// them calls nobody until it is given an action for them. A callout at most defers, with `450 4.1.8`.
///
/// ```
/// use smtp_core::{ClientConfig, ResolverTable};
/// use smtp_policy::{Action, Callouts, Chain, MemoryStateStore, Preset};
///
/// let config = ClientConfig::new("mx.example.org")?;
/// let callouts = Callouts::new(ResolverTable::new(), MemoryStateStore::new(), config).with_domain("example.org".parse()?);
/// let chain = Chain::new("recommended", Preset::Bcp)
///     .with(callouts.of_senders())
///     .with_action("callout-sender", Action::Score)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Callouts {
    resolver: Arc<dyn Resolver>,
    caller: Caller,
    all: Rate,
    each: Rate,
    domains: Vec<Domain>,
    networks: Vec<IpNet>,
    instead: Option<SocketAddr>,
}

impl Callouts {
    /// By this resolver, with what is in that store; servers are told the name of the configuration, and TLS is as it says.
    pub fn new(resolver: impl Resolver + 'static, store: impl StateStore + 'static, config: ClientConfig) -> Self {
        Self {
            resolver: Arc::new(resolver),
            caller: Caller::new(Arc::new(store), config),
            all: ALL,
            each: EACH,
            domains: Vec::new(),
            networks: Vec::new(),
            instead: None,
        }
    }

    /// With another number of callouts in all. Default: 30 a minute.
    #[must_use]
    pub fn with_rate(self, all: Rate) -> Self {
        Self { all, ..self }
    }

    /// With another number of callouts for each /24 or /64 that is called. Default: 60 an hour, 5 at once.
    #[must_use]
    pub fn with_rate_for_each(self, each: Rate) -> Self {
        Self { each, ..self }
    }

    /// That domain is ours: its senders are not asked about.
    #[must_use]
    pub fn with_domain(mut self, domain: Domain) -> Self {
        self.domains.push(domain);
        self
    }

    /// That network is ours: nobody in it is called. The address at which the client came is one of ours anyway, and addresses
    /// that are not of one host of the Internet are never called.
    #[must_use]
    pub fn with_own_network(mut self, network: IpNet) -> Self {
        self.networks.push(network);
        self
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.caller.clock = Clock::new(now);
        self
    }

    /// Calls this address in the place of each one that it would call. For tests only.
    #[must_use]
    pub fn to_address(self, address: SocketAddr) -> Self {
        Self { instead: Some(address), ..self }
    }

    /// The check of the reverse-path: does a server of its domain take mail for it?
    pub fn of_senders(&self) -> SenderCallout {
        SenderCallout(self.clone())
    }

    /// The check of the client: does a mail server greet at its address?
    pub fn of_clients(&self) -> ClientCallout {
        ClientCallout(self.clone())
    }

    /// Whom a callout may be about: a mailbox of a domain that is not ours.
    fn asked_about<'a>(&self, path: &'a ReversePath) -> Option<(&'a Mailbox, DnsName)> {
        let mailbox = path.mailbox()?;
        let domain = mailbox.domain().filter(|domain| !self.domains.contains(domain))?;
        Some((mailbox, DnsName::try_from(domain).ok()?))
    }

    /// Whether the domain says who sends for it; `None` where that is not known.
    async fn has_spf(&self, domain: &DnsName) -> Option<bool> {
        match self.resolver.txt(domain).await {
            Answer::Found { data, .. } => Some(data.iter().any(|text| is_record(text))),
            Answer::Absent => Some(false),
            Answer::Unknown => None,
        }
    }

    fn may_call(&self, address: IpAddr, ours: IpAddr) -> bool {
        may_be_called(address)
            && address.to_canonical() != ours.to_canonical()
            && !self.networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The first address of the domain's hosts that may be called: the one that is then connected to (SECURITY D-34).
    async fn address_of(&self, domain: &DnsName, ours: IpAddr) -> Option<IpAddr> {
        let hosts = match self.resolver.mx(domain).await {
            Answer::Found { mut data, .. } => {
                data.sort();
                data.into_iter().filter_map(|MailExchanger { host, .. }| host).take(HOSTS_LIMIT).collect()
            }
            Answer::Absent => vec![domain.clone()],
            Answer::Unknown => return None,
        };
        for host in hosts {
            for is_ipv6 in [false, true] {
                let found = addresses(&*self.resolver, &host, is_ipv6).await.found().unwrap_or_default();
                if let Some(address) = found.into_iter().find(|&address| self.may_call(address, ours)) {
                    return Some(address);
                }
            }
        }
        None
    }

    async fn call(&self, about: String, address: IpAddr, recipient: Option<&ForwardPath>) -> Heard {
        let network = network_of(address).to_string();
        let rates = [(network.clone(), self.each), ("all".to_owned(), self.all)];
        let target = Target::Address(self.instead.unwrap_or(SocketAddr::new(address, PORT)));
        self.caller.ask(&Question { about, one_at_a_time: network, target, recipient, rates: &rates }).await
    }

    async fn examine_sender(&self, path: &ReversePath, ours: IpAddr) -> Observation {
        let Some((mailbox, domain)) = self.asked_about(path) else { return Observation::new() };
        match self.has_spf(&domain).await {
            Some(false) => {}
            Some(true) => return Observation::new(),
            None => return Finding::unknown(SENDER.name(), format!("no answer for {domain}")).into(),
        }
        let about = format!("sender {}@{domain}", mailbox.local_part().to_nfc());
        let heard = match self.caller.remembered(&about).await {
            Some(heard) => heard,
            None => match self.address_of(&domain, ours).await {
                Some(address) => self.call(about, address, Some(&ForwardPath::Mailbox(mailbox.clone()))).await,
                None => {
                    return Finding::unknown(SENDER.name(), format!("no host of {domain} can be called")).into();
                }
            },
        };
        found(&SENDER, &mailbox.to_string(), heard)
    }

    async fn examine_client(&self, path: &ReversePath, client: IpAddr, ours: IpAddr) -> Observation {
        let Some((_, domain)) = self.asked_about(path) else { return Observation::new() };
        if !self.may_call(client, ours) || self.has_spf(&domain).await != Some(false) {
            return Observation::new();
        }
        let client = client.to_canonical();
        found(&CLIENT, &client.to_string(), self.call(format!("client {client}"), client, None).await)
    }
}

fn found(practice: &Practice, who: &str, heard: Heard) -> Observation {
    let name = practice.name();
    match heard {
        Heard::Good => Finding::pass(name, who),
        Heard::Bad(why) => Finding::fail(name, format!("{who}: {why}")),
        Heard::Unknown(why) => Finding::unknown(name, format!("{who}: {why}")),
    }
    .into()
}

/// Asks a server of the sender's domain whether it takes mail for the sender: [`Callouts::of_senders`].
#[derive(Debug, Clone)]
pub struct SenderCallout(Callouts);

#[async_trait]
impl Check for SenderCallout {
    fn practices(&self) -> &[Practice] {
        &[SENDER]
    }

    fn scope(&self) -> Scope {
        Scope::Sender
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let Some(transaction) = subject.transaction() else { return Observation::new() };
        self.0.examine_sender(transaction.reverse_path(), subject.connection().local().ip()).await
    }
}

/// Looks whether a mail server greets at the client's address: [`Callouts::of_clients`].
#[derive(Debug, Clone)]
pub struct ClientCallout(Callouts);

#[async_trait]
impl Check for ClientCallout {
    fn practices(&self) -> &[Practice] {
        &[CLIENT]
    }

    /// Only the reverse-path tells whether the client is making a callout itself.
    fn scope(&self) -> Scope {
        Scope::Sender
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let Some(transaction) = subject.transaction() else { return Observation::new() };
        let connection = subject.connection();
        self.0.examine_client(transaction.reverse_path(), connection.peer().ip(), connection.local().ip()).await
    }
}

impl fmt::Debug for Callouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callouts").field("all", &self.all).field("each", &self.each).finish_non_exhaustive()
    }
}
