//! What is looked at in mail of strangers: the checks of `smtp-policy`, as the configuration wants them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smtp_core::{ClientConfig, DnsName, Domain, Host, IpNet, Observer, Resolver, ResolverTable};
use smtp_policy::{
    AbuseForm, AccessRule, AccessRules, Action, Callouts, Chain, Clamd, Dmarc, DnsList, Dnsbl, Dnswl, DomainDnsbl,
    FileStateStore, FilterAddress, FilterLimits, HickoryResolver, MemoryStateStore, Preset, Rate, RateLimits, Rspamd,
    Spamd, Spf, StateStore, Thresholds, UnknownPractice,
};

use crate::AnyError;
use crate::config::{MilterConfig, RateConfig};
use crate::dmarc_reports::DmarcReportSettings;

/// Whom the C library asks where the system names nobody.
const NAME_SERVER_OF_THIS_HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// What is looked at, and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicySettings {
    /// From where the rules start.
    pub(crate) preset: Preset,
    /// Networks whose clients are not looked at.
    pub(crate) trusted: Vec<IpNet>,
    /// Whose seals are believed where DMARC fails.
    pub(crate) trusted_sealers: Vec<Domain>,
    /// Who forwards mail for our users: SPF has nothing to say of them.
    pub(crate) forwarders: Vec<IpNet>,
    /// What a look of the filters may cost.
    pub(crate) filter_limits: FilterLimits,
    /// Whom to ask for DNS; with none, those whom the system asks.
    pub(crate) dns: Vec<SocketAddr>,
    /// Whether strangers may be asked to come again.
    pub(crate) greylist: bool,
    /// Where reports can be made, while `abuse` is filtered as other mailboxes are.
    pub(crate) abuse_form: Option<AbuseForm>,
    /// Whether requests for receipts stop here.
    pub(crate) strips_receipts: bool,
    /// Where ClamAV looks for malware.
    pub(crate) clamd: Option<FilterAddress>,
    /// Where SpamAssassin looks for spam.
    pub(crate) spamd: Option<FilterAddress>,
    /// Where rspamd does.
    pub(crate) rspamd: Option<FilterAddress>,
    /// Filters that speak the milter protocol, in the order in which they are asked.
    pub(crate) milters: Vec<MilterConfig>,
    /// What a score means.
    pub(crate) thresholds: Thresholds,
    /// Lists of good servers.
    pub(crate) allowlists: Vec<DnsName>,
    /// Lists of bad clients.
    pub(crate) blocklists: Vec<Blocklist>,
    /// The operator's own rules.
    pub(crate) access: Vec<AccessRule>,
    /// What is found out by callouts.
    pub(crate) callouts: CalloutSettings,
    /// Other actions than those of the preset, by practice.
    pub(crate) actions: Vec<(String, Action)>,
    /// The same for what cannot be known.
    pub(crate) unknown: Vec<(String, Action)>,
    /// Other weights, by practice.
    pub(crate) weights: Vec<(String, u16)>,
    /// How much may come.
    pub(crate) rates: Vec<RateConfig>,
    /// Whether domains are told of mail in their name.
    pub(crate) dmarc_reports: DmarcReportSettings,
}

impl PolicySettings {
    /// Whether something that only this practice needs is configured.
    pub(crate) fn is_wanted(&self, practice: &str) -> bool {
        let lists =
            |of: BlocklistOf, refuse: bool| self.blocklists.iter().any(|list| list.of == of && list.refuse == refuse);
        match practice {
            "malware" => self.clamd.is_some(),
            "dnsbl" => lists(BlocklistOf::Clients, false),
            "dnsbl-refusing" => lists(BlocklistOf::Clients, true),
            "domain-dnsbl" => lists(BlocklistOf::Domains, false),
            "domain-dnsbl-refusing" => lists(BlocklistOf::Domains, true),
            _ => false,
        }
    }
}

/// What is found out by calling others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CalloutSettings {
    /// Whether a server of its domain takes mail for the sender.
    pub(crate) sender: bool,
    /// Whether a mail server is at the client's address.
    pub(crate) client: bool,
    /// The most callouts in a minute.
    pub(crate) per_minute: u32,
}

impl Default for CalloutSettings {
    fn default() -> Self {
        Self { sender: false, client: false, per_minute: 30 }
    }
}

/// What a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BlocklistOf {
    /// Addresses of clients.
    #[default]
    Clients,
    /// Domains of reverse-paths and greetings.
    Domains,
}

/// A list of bad clients, or of domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocklist {
    /// What it is about.
    pub(crate) of: BlocklistOf,
    /// Its zone.
    pub(crate) zone: DnsName,
    /// What a client on it scores; `None`: as the check has it.
    pub(crate) weight: Option<u16>,
    /// Whether a client on it is refused.
    pub(crate) refuse: bool,
}

/// What several parts of the server share: whom to ask for DNS, and where to remember.
pub(crate) struct Services {
    pub(crate) dns: Arc<dyn Resolver>,
    pub(crate) state: Arc<dyn StateStore>,
}

impl Services {
    /// With the network to ask and a directory to remember in.
    ///
    /// # Errors
    /// Where that directory cannot be used, or the system's configuration of DNS.
    pub(crate) fn open(settings: &PolicySettings, directory: PathBuf) -> Result<Self, AnyError> {
        let state = FileStateStore::open(directory)?;
        if state.cut_octets() > 0 {
            let octets = state.cut_octets();
            tracing::warn!(target: "mta", octets, "the end of what was remembered of clients was damaged, and is left out");
        }
        Ok(Self { dns: Arc::new(resolver(settings)?), state: Arc::new(state) })
    }

    /// Without network and lasting memory: to say what would be done.
    fn of_a_plan() -> Self {
        Self { dns: Arc::new(ResolverTable::new()), state: Arc::new(MemoryStateStore::new()) }
    }
}

/// The checks, which tell that observer what they find.
///
/// # Errors
/// Where the settings name a practice that nobody looks at.
pub(crate) fn open(
    hostname: &Domain,
    domains: &[Domain],
    settings: &PolicySettings,
    services: &Services,
    observer: Arc<dyn Observer>,
) -> Result<Chain, UnknownPractice> {
    Ok(chain(hostname, domains, settings, services)?.observed_by(observer))
}

/// How much may come from whom; trusted networks have no limits.
pub(crate) fn rate_limits(settings: &PolicySettings, services: &Services) -> RateLimits {
    let none = settings.trusted.iter().copied().fold(RateLimits::new(services.state.clone()), RateLimits::sparing);
    settings.rates.iter().fold(none, |limits, rate| rate.add_to(limits))
}

/// The operator's own rules, which come first.
pub(crate) fn access_rules(settings: &PolicySettings) -> AccessRules {
    settings.access.iter().cloned().fold(AccessRules::new(), AccessRules::with)
}

/// The checks without network and memory: what is looked at, and what is done about it.
///
/// # Errors
/// Where the settings name a practice that nobody looks at.
pub(crate) fn plan(hostname: &Domain, domains: &[Domain], settings: &PolicySettings) -> Result<Chain, UnknownPractice> {
    chain(hostname, domains, settings, &Services::of_a_plan())
}

/// Whom to ask for DNS.
///
/// # Errors
/// Where the name servers cannot be used.
pub(crate) fn resolver(policy: &PolicySettings) -> Result<HickoryResolver, AnyError> {
    if !policy.dns.is_empty() {
        return Ok(HickoryResolver::with_servers(policy.dns.iter().copied())?);
    }
    match HickoryResolver::from_system() {
        Ok(resolver) => Ok(resolver),
        Err(error) => {
            let server = NAME_SERVER_OF_THIS_HOST;
            tracing::warn!(target: "mta", %error, %server, "the system names no name server");
            Ok(HickoryResolver::with_servers([server])?)
        }
    }
}

fn chain(
    hostname: &Domain,
    domains: &[Domain],
    policy: &PolicySettings,
    services: &Services,
) -> Result<Chain, UnknownPractice> {
    let dns = &services.dns;
    let (ours, state) = (domains.iter().cloned(), services.state.clone());
    let mut chain =
        smtp_policy::recommended(policy.preset, hostname, ours, dns.clone(), state).with_thresholds(policy.thresholds);
    if !policy.trusted_sealers.is_empty() {
        let dmarc = policy.trusted_sealers.iter().fold(Dmarc::new(dns.clone()), Dmarc::trusting_sealer);
        chain = chain.with_instead(dmarc);
    }
    chain = policy.trusted.iter().copied().fold(chain, Chain::trusting);
    if let Some(form) = policy.abuse_form.clone() {
        chain = chain.with_abuse_form(form);
    }
    if !policy.forwarders.is_empty() {
        let spf = policy.forwarders.iter().copied().fold(Spf::new(dns.clone()).named(hostname), Spf::with_forwarder);
        chain = chain.with_instead(spf);
    }
    chain = with_blocklists(chain, &policy.blocklists, dns);
    if !policy.allowlists.is_empty() {
        let lists = policy.allowlists.iter().cloned().map(DnsList::new);
        chain = chain.with(lists.fold(Dnswl::new(dns.clone()), Dnswl::with));
    }
    if let Some(address) = policy.clamd.clone() {
        chain = chain.with(Clamd::new(address).with_limits(policy.filter_limits));
    }
    if let Some(address) = policy.spamd.clone() {
        chain = chain.with(Spamd::new(address).with_limits(policy.filter_limits));
    }
    if let Some(address) = policy.rspamd.clone() {
        chain = chain.with(Rspamd::new(address).with_limits(policy.filter_limits));
    }
    if !policy.greylist {
        chain = chain.without_greylisting().with_action("familiar", Action::Off)?;
    }
    chain = with_callouts(chain, hostname, domains, policy.callouts, services)?;
    if let Some(reports) = policy.dmarc_reports.collected(services) {
        chain = chain.recorded_by(reports);
    }
    let rules = chain.rules_mut();
    for (practice, action) in &policy.actions {
        rules.set_action(practice, *action)?;
    }
    for (practice, action) in &policy.unknown {
        rules.set_action_for_unknown(practice, *action)?;
    }
    for (practice, weight) in &policy.weights {
        rules.set_weight(practice, *weight)?;
    }
    Ok(chain)
}

/// With the lists that name clients, and those that name domains.
fn with_blocklists(mut chain: Chain, blocklists: &[Blocklist], dns: &Arc<dyn Resolver>) -> Chain {
    let of = |of: BlocklistOf| {
        let lists = blocklists.iter().filter(move |list| list.of == of).map(|list| {
            let zone = DnsList::new(list.zone.clone());
            let zone = list.weight.map_or_else(|| zone.clone(), |weight| zone.clone().with_weight(weight));
            if list.refuse { zone.refusing() } else { zone }
        });
        lists.collect::<Vec<_>>()
    };
    let (clients, domains) = (of(BlocklistOf::Clients), of(BlocklistOf::Domains));
    if !clients.is_empty() {
        chain = chain.with(clients.into_iter().fold(Dnsbl::new(dns.clone()), Dnsbl::with));
    }
    if !domains.is_empty() {
        chain = chain.with(domains.into_iter().fold(DomainDnsbl::new(dns.clone()), DomainDnsbl::with));
    }
    chain
}

/// With the callouts that are wanted; they score unless `policy.actions` says more.
fn with_callouts(
    mut chain: Chain,
    hostname: &Domain,
    domains: &[Domain],
    wanted: CalloutSettings,
    services: &Services,
) -> Result<Chain, UnknownPractice> {
    let config = ClientConfig::named(Host::Domain(hostname.clone()));
    let rate = Rate::new(wanted.per_minute, Duration::from_secs(60));
    let callouts = Callouts::new(services.dns.clone(), services.state.clone(), config).with_rate(rate);
    let callouts = domains.iter().chain([hostname]).cloned().fold(callouts, Callouts::with_domain);
    if wanted.sender {
        chain = chain.with(callouts.of_senders()).with_action("callout-sender", Action::Score)?;
    }
    if wanted.client {
        chain = chain.with(callouts.of_clients()).with_action("callout-client", Action::Score)?;
    }
    Ok(chain)
}
