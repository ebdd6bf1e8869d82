//! `mta run`: puts the parts together, says what it did, and serves until a signal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use smtp_core::{
    DovecotAuth, DovecotError, DsnOffer, Listener, Observer, PasswordFile, Server, ServerTls, Service, TlsError,
    TracingObserver,
};
use smtp_policy::{Receipts, Submission};
use smtp_queue::{MaildirStore, Queue, mailbox_directory};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::AnyError;
use crate::config::{Config, ListenerConfig, ListenerService, ListenerTls, Mailboxes, Protocol, milter_policy};
use crate::logging::{self, LogLines};
use crate::outbound::Rewriting;
use crate::policy::{self, Services};
use crate::queue::{Control, QueueOnDisk, describe_durability, source_pool};
use crate::recipients::NoWayOut;
use crate::selfcheck;
use crate::signals::{StopSignals, reload_on_hangup};
use crate::trace::{DailySummary, TraceOnDisk};
use crate::trial::Trial;

/// What `mta run` is told.
#[derive(Debug, Default, Args)]
pub(crate) struct RunOptions {
    /// The configuration; without it: localhost, with one user and a certificate of its own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where mail lies, in the place of what the configuration says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen, in the place of what the configuration says; can be given several times
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
}

/// Something that the start needs and did not get.
#[derive(Debug, Error)]
#[error("{what}")]
struct StartError {
    what: String,
    source: io::Error,
}

impl StartError {
    fn new(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting.
pub(crate) fn run(options: &RunOptions) -> Result<(), AnyError> {
    let mut config = Config::load(options.config.as_deref())?;
    if let Some(data) = &options.data {
        config.data.clone_from(data);
    }
    if !options.listen.is_empty() {
        config.listen_on(&options.listen);
    }
    let log = logging::start(config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&config, &log));
    log.finish();
    result
}

async fn serve(config: &Config, log: &LogLines) -> Result<(), AnyError> {
    let signals = StopSignals::new()?;
    let store = open_store(config)?;
    // First of all, so that a second process says so, and changes nothing.
    let on_disk = QueueOnDisk::open(config).await?;
    let services = Services::open(&config.policy, config.state_directory())?;
    let rewriting = Rewriting::open(config)?;
    let outbound = Arc::new(rewriting.policy(config, &services)?);
    for warning in config.warnings() {
        tracing::warn!(target: "mta", "{warning}");
    }
    let trace = TraceOnDisk::open(config)?;
    let observer = trace.as_ref().map_or_else(|| Arc::new(TracingObserver) as Arc<dyn Observer>, TraceOnDisk::observer);
    let sources = source_pool(&config.source_addresses, &config.hostname, &services.dns).await;
    let queue = on_disk.start(config, (&store, &sources), outbound, observer.clone())?;
    let report = &on_disk.report;
    let directory = config.queue_directory();
    let _control =
        Control::open(&directory, queue.clone()).map_err(StartError::new("cannot open the control socket"))?;
    let durability = describe_durability(&directory).map_err(StartError::new("cannot write to the queue"))?;
    let mut builder = Server::builder(config.hostname.as_str())
        .recipients(rewriting.recipients(config))
        .postmaster(config.postmaster.to_string())
        .deliver(queue.clone())
        .observer(observer.clone())
        .limits(config.limits.clone())
        .connection_limits(config.connection_limits.clone())
        .shutdown_grace(config.shutdown_grace)
        .graceful_shutdown(signals.first(log.clone()));
    let trial = trial(config)?;
    let (tls, passwords) = match &trial {
        Some(trial) => (certificates(&[trial.certificate()])?, Some(trial.passwords())),
        None => (certificates(&config.certificates)?, config.passwords.clone()),
    };
    for place in &config.listeners {
        builder = builder.listener(listener(config, place, tls.as_ref()));
    }
    builder = builder
        .policy(policy::rate_limits(&config.policy, &services))
        .policy(policy::access_rules(&config.policy))
        .policy(policy::open(&config.hostname, &config.domains, &config.policy, &services, observer.clone())?);
    let mut letters = JoinSet::new();
    if trace.is_some() && config.trace.daily_summary {
        letters.spawn(daily_summary(config, &services, &queue).run());
    }
    let reports = config.policy.dmarc_reports.send(&config.hostname, &services, &queue);
    let users = passwords.map(PasswordFile::open).transpose()?;
    if let Some(users) = users.clone() {
        builder = builder.authenticate(users);
    } else if let Some(socket) = &config.dovecot {
        builder = builder.authenticate(dovecot(config, socket).await);
    }
    if users.is_some() || config.dovecot.is_some() {
        builder = builder.policy(Submission::new(&config.hostname));
        if config.policy.strips_receipts {
            builder = builder.policy(Receipts);
        }
        if config.smart_host.is_none() {
            builder = builder.policy(NoWayOut { domains: config.domains.clone() });
        }
    }
    // Behind all others: what is refused anyway costs no filter.
    if let Some(filters) = milter_policy(&config.policy.milters, &config.hostname, observer.clone()) {
        builder = builder.policy(filters);
    }
    if tls.is_some() || users.is_some() {
        reload_on_hangup(tls.clone(), users)?;
    }
    let server = builder.bind().await?;
    let addresses = server.local_addresses();
    // Who starts a server and closes its output wants it to run all the same.
    let _ = introduce(&mut io::stdout(), config, trial.as_ref(), &addresses, report.messages, &durability);
    if let Some((trial, tls)) = trial.zip(tls) {
        tokio::spawn(trial.keep_renewing(tls));
    }
    let (hostname, queued) = (config.hostname.as_str(), report.messages);
    tracing::info!(target: "mta", ?addresses, hostname, queued, durability, "started");
    remove_stale(&store)?;
    selfcheck::warn_of_name(config, services.dns.clone());
    server.run().await?;
    letters.shutdown().await;
    if let Some(reports) = reports {
        reports.abort();
    }
    queue.shutdown(config.shutdown_grace).await;
    if let Some(trace) = trace {
        trace.finish();
    }
    tracing::info!(target: "mta", "stopped");
    Ok(())
}

/// Tells `postmaster` of each day.
fn daily_summary(config: &Config, services: &Services, queue: &Queue) -> DailySummary {
    DailySummary {
        hostname: config.hostname.clone(),
        postmaster: config.postmaster.clone(),
        trace: config.trace_directory(),
        state: services.state.clone(),
        queue: queue.clone(),
    }
}

/// One place to listen at, as the configuration has it.
fn listener(config: &Config, place: &ListenerConfig, tls: Option<&ServerTls>) -> Listener {
    let ListenerConfig { address, tls: how, service, qualify, proxies, protocol, greeting_delay } = place;
    let place = place.unix_path().map_or_else(|| Listener::new(address), Listener::unix);
    let mut listener = config.relay_clients.iter().copied().fold(place, Listener::relay_for);
    listener = proxies.iter().copied().fold(listener, Listener::behind_proxy);
    if let Some(tls) = tls.filter(|_| *how != ListenerTls::None) {
        listener = listener.tls(tls.clone());
    }
    listener = listener.greeting_delay(*greeting_delay);
    if *protocol == Protocol::Lmtp {
        listener = listener.lmtp();
    }
    listener = listener.service(match service {
        ListenerService::Mx => Service::Mx,
        ListenerService::Submission => Service::Submission,
        ListenerService::Mixed => Service::Mixed,
    });
    if Receipts::dsn_offer(config.policy.preset) == DsnOffer::Everybody {
        listener = listener.dsn(DsnOffer::Everybody);
    }
    if let Some(domain) = qualify {
        listener = listener.qualify_with(domain.as_str());
    }
    if *how == ListenerTls::Implicit { listener.implicit_tls() } else { listener }
}

/// Users of Dovecot. One that is away at the start is no reason to stay away oneself: users are told to come back.
async fn dovecot(config: &Config, socket: &Path) -> DovecotAuth {
    let unasked = |error: &DovecotError| {
        let error = crate::describe(error);
        tracing::error!(target: "mta", error, "Dovecot cannot be asked about users");
    };
    let users = DovecotAuth::unix(socket).on_failure(unasked);
    let users = config.domains.iter().take(1).cloned().fold(users, DovecotAuth::with_domain);
    if let Err(error) = users.check().await {
        unasked(&error);
    }
    users
}

/// What is made for who tries the server out.
fn trial(config: &Config) -> Result<Option<Trial>, AnyError> {
    let Some(user) = config.users.first().filter(|_| config.trial) else { return Ok(None) };
    Trial::prepare(config.trial_directory(), &config.hostname, user).map(Some)
}

/// What is shown to clients; `None` where there is no certificate.
fn certificates(files: &[(PathBuf, PathBuf)]) -> Result<Option<ServerTls>, TlsError> {
    let Some(((chain, key), others)) = files.split_first() else { return Ok(None) };
    let first = ServerTls::from_pem_files(chain, key)?;
    others.iter().try_fold(first, |tls, (chain, key)| tls.and_pem_files(chain, key)).map(Some)
}

/// Opens the Maildirs, and makes those of the users, so that a wrong place is known before mail comes.
fn open_store(config: &Config) -> Result<Arc<MaildirStore>, AnyError> {
    let what = format!("cannot open {}", config.data.display());
    let store = MaildirStore::open(&config.data, config.hostname.as_str()).map_err(StartError::new(what))?;
    for user in &config.users {
        let what = format!("cannot make the Maildir of {user}");
        store.make_maildir(&mailbox_directory(user)?).map_err(StartError::new(what))?;
    }
    Ok(Arc::new(store))
}

/// On a thread of its own, because there may be many Maildirs and nobody has to wait for it.
fn remove_stale(store: &Arc<MaildirStore>) -> io::Result<()> {
    let store = store.clone();
    std::thread::Builder::new()
        .name("stale".into())
        .spawn(move || {
            let files = store.remove_stale(SystemTime::now());
            if files > 0 {
                tracing::info!(target: "mta", files, "removed what an earlier crash left in tmp");
            }
        })
        .map(drop)
}

/// Says what was done, and what to type next.
fn introduce(
    output: &mut impl Write,
    config: &Config,
    trial: Option<&Trial>,
    addresses: &[SocketAddr],
    queued: u64,
    durability: &str,
) -> io::Result<()> {
    for (address, listener) in addresses.iter().zip(&config.listeners) {
        let how = match listener.tls {
            ListenerTls::None => "",
            ListenerTls::StartTls => "  STARTTLS",
            ListenerTls::Implicit => "  TLS from the start",
        };
        let who = match listener.service {
            ListenerService::Mx => "",
            ListenerService::Submission => "  for users with a password",
            ListenerService::Mixed => "  for everybody, and for users with a password",
        };
        let what = if listener.protocol == Protocol::Lmtp { "  LMTP" } else { "" };
        match listener.unix_path() {
            Some(path) => writeln!(output, "listening on  unix:{path}{what}{how}{who}")?,
            None => writeln!(output, "listening on  {address}{what}{how}{who}")?,
        }
    }
    for user in config.users.iter().take(SHOWN) {
        let maildir = mailbox_directory(user).map(|maildir| config.data.join(maildir)).unwrap_or_default();
        writeln!(output, "mail for      {user}  in  {}", maildir.display())?;
    }
    if let Some(more) = config.users.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        writeln!(output, "              and {more} more")?;
    }
    if config.mailboxes == Mailboxes::Any {
        let domains = some(&config.domains);
        writeln!(output, "mail for      any mailbox of {domains}  in  {}", config.data.display())?;
    }
    writeln!(output, "postmaster    {}, also for abuse and security", config.postmaster)?;
    match &config.smart_host {
        Some(host) if config.relay_clients.is_empty() => {
            writeln!(output, "other hosts   through {host}, but from no client: `relay.clients` names none")?;
        }
        Some(host) => {
            writeln!(output, "other hosts   through {host}, for clients in {}", some(&config.relay_clients))?;
        }
        None => writeln!(output, "other hosts   mail for them is refused")?,
    }
    let messages = if queued == 1 { "message" } else { "messages" };
    writeln!(output, "queue         {queued} {messages}  in  {}", config.queue_directory().display())?;
    writeln!(output, "durability    {durability}")?;
    if let Some(trial) = trial {
        trial.introduce(output)?;
    }
    writeln!(output)?;
    let listeners = || addresses.iter().zip(&config.listeners);
    let can_be_tried = |listener: &ListenerConfig| {
        let takes_strangers = listener.service != ListenerService::Submission && listener.tls != ListenerTls::Implicit;
        listener.protocol == Protocol::Smtp && listener.unix_path().is_none() && takes_strangers
    };
    if let Some((address, _)) = listeners().find(|(_, listener)| can_be_tried(listener)) {
        let to = config.users.first().unwrap_or(&config.postmaster);
        writeln!(output, "try it:       cargo run --release --bin mta -- send --server {address} --to {to}")?;
        writeln!(output, "or:           swaks --server {address} --to {to}")?;
    }
    if let Some(trial) = trial {
        for (address, listener) in listeners() {
            let scheme = if listener.tls == ListenerTls::Implicit { "smtps" } else { "smtp" };
            if listener.service != ListenerService::Mx {
                writeln!(output, "as a user:    {}", trial.command(scheme, &address.to_string()))?;
            }
        }
    }
    writeln!(output, "to stop:      Ctrl-C")?;
    output.flush()
}

/// The most users, domains or networks that are introduced.
const SHOWN: usize = 5;

fn some<T: ToString>(values: &[T]) -> String {
    let mut shown: Vec<_> = values.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more) = values.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}
