//! Opens the queue of this host: spool, routing, and what a sync costs here.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smtp_core::{ClientConfig, ClientTls, Host, NextHop, Observer, OutboundPolicy, Refusal, TlsError};
use smtp_policy::RECEIPT_FIELDS;
use smtp_queue::{
    FileStorage, MaildirStore, MaildirTransport, OpenError, Outcome, Quarantine, Queue, QueueSettings, RecoveryReport,
    Route, Routing, SegmentSettings, SegmentSpool, SmtpSettings, SmtpTransport, SourcePool, Spool, SpoolAlarm,
};

use crate::AnyError;
use crate::config::{Config, Protocol, RelayTls};

/// What the queue keeps, and what was found of it: this process owns it, and nothing is delivered yet.
pub(crate) struct QueueOnDisk {
    spool: Arc<dyn Spool>,
    quarantine: Quarantine,
    pub(crate) report: RecoveryReport,
}

impl QueueOnDisk {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// What kept it from opening, with the directory.
    pub(crate) async fn open(config: &Config) -> Result<Self, AnyError> {
        let (spool, report) = open_spool(&config.queue_directory(), "queue")?;
        let (aside, _) = open_spool(&config.quarantine_directory(), "quarantine")?;
        let quarantine = Quarantine::open(aside, config.quarantine.clone()).await?;
        Ok(Self { spool, quarantine, report })
    }

    /// Starts delivering.
    ///
    /// # Errors
    /// What is wrong with the way to other hosts.
    pub(crate) fn start(
        &self,
        config: &Config,
        (store, sources): (&Arc<MaildirStore>, &SourcePool),
        outbound: Arc<dyn OutboundPolicy>,
        observer: Arc<dyn Observer>,
    ) -> Result<Queue, AnyError> {
        let mut queue_settings = QueueSettings::default();
        queue_settings.schedule = config.schedule.clone();
        queue_settings.concurrency_limit = config.concurrency;
        queue_settings.concurrency_start = queue_settings.concurrency_start.min(config.concurrency);
        Ok(Queue::builder(self.spool.clone(), config.hostname.clone(), routing(config, store, sources)?)
            .postmaster(config.postmaster.clone())
            .outbound(outbound)
            .observer(observer)
            .quarantine(self.quarantine.clone())
            .settings(queue_settings)
            .start())
    }
}

/// Opens the spool in that directory; `what` is kept in it.
fn open_spool(directory: &Path, what: &str) -> Result<(Arc<dyn Spool>, RecoveryReport), AnyError> {
    let failed = |error: OpenError| -> AnyError {
        match error {
            OpenError::InUse(owner) => owner.to_string().into(),
            other => format!("cannot open the {what} in {}: {}", directory.display(), crate::describe(&other)).into(),
        }
    };
    let storage = FileStorage::open(directory).map_err(|error| failed(error.into()))?;
    let mut settings = SegmentSettings::default();
    settings.alarm = Some(Arc::new(log_alarm));
    let (spool, report) = SegmentSpool::open(Arc::new(storage), settings).map_err(failed)?;
    for damage in &report.damage {
        tracing::error!(target: "mta", damage = %damage, "the {what} is damaged; what is damaged is set aside");
    }
    Ok((Arc::new(spool), report))
}

/// The site of the Maildirs.
pub(super) const LOCAL: &str = "local";

/// Local domains to their Maildirs, everything else to the smart host.
fn routing(config: &Config, store: &Arc<MaildirStore>, sources: &SourcePool) -> Result<Routing, AnyError> {
    let report = |_: &smtp_queue::Attempt, error: &smtp_queue::MaildirError| {
        tracing::error!(target: "mta", %error, "a Maildir cannot be written to");
    };
    let left_out: &[&str] = if config.policy.strips_receipts { &RECEIPT_FIELDS } else { &[] };
    let maildirs = MaildirTransport::new(store.clone()).on_failure(report).leaving_out(left_out.iter().copied());
    let local = Route::new(LOCAL, maildirs);
    let elsewhere = match &config.smart_host {
        Some(host) => {
            let protocol = if config.relay_protocol == Protocol::Lmtp { "lmtp" } else { "smtp" };
            Route::new(format!("{protocol}:{host}"), smart_host(host, config, sources)?)
        }
        None => Route::new("nowhere", nowhere),
    };
    Ok(Routing::new(elsewhere).domains(config.domains.iter().cloned(), &local))
}

fn smart_host(host: &str, config: &Config, sources: &SourcePool) -> Result<SmtpTransport, AnyError> {
    let mut client = sources.config_for(host, ClientConfig::named(Host::Domain(config.hostname.clone())));
    if config.relay_protocol == Protocol::Lmtp {
        client = client.with_lmtp();
    }
    let is_path = host.starts_with('/');
    if !is_path && let Some(tls) = relay_tls(host, config.relay_tls)? {
        client = client.with_tls(tls);
    }
    let mut settings = SmtpSettings::default();
    settings.connections.idle_limit = config.concurrency;
    let transport =
        if is_path { SmtpTransport::to_unix_socket(host, client) } else { SmtpTransport::to(host, client)? };
    let transport = transport.with_settings(&settings);
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let next_hop = NextHop::new(name, port.parse().unwrap_or_default());
    let policy = config.tls_policy();
    // What is said of this host comes before what is said of the relay.
    let is_named = !is_path && policy.find(&next_hop).is_some();
    Ok(if is_named { transport.with_tls_policy(None, Arc::new(policy)) } else { transport })
}

fn relay_tls(smart_host: &str, demanded: RelayTls) -> Result<Option<ClientTls>, TlsError> {
    let host = smart_host.rsplit_once(':').map_or(smart_host, |(host, _)| host).trim_matches(['[', ']']);
    let tls = match demanded {
        RelayTls::None => return Ok(None),
        RelayTls::Opportunistic => ClientTls::opportunistic()?,
        RelayTls::Required => ClientTls::encrypted()?,
        RelayTls::Verified => return ClientTls::verified([host]).map(Some),
    };
    // A literal address is no name to ask for.
    let is_address = host.parse::<IpAddr>().is_ok();
    if is_address { Ok(Some(tls)) } else { tls.with_server_name(host).map(Some) }
}

/// Mail that was taken when there was a smart host waits until there is one again.
async fn nowhere(attempt: smtp_queue::Attempt) -> Vec<Outcome> {
    let refusal = Refusal::transient(4, 4, "No smart host is configured");
    attempt.recipients().map(|_| refusal.clone().into()).collect()
}

fn log_alarm(alarm: &SpoolAlarm) {
    match alarm {
        SpoolAlarm::ReadOnly { action, cause } => {
            tracing::error!(target: "mta", action, %cause, "the queue takes nothing until a restart");
        }
        SpoolAlarm::SnapshotFailed { cause } => {
            tracing::warn!(target: "mta", %cause, "no snapshot of the queue; a restart will take longer");
        }
        SpoolAlarm::Damaged { id } => {
            tracing::error!(target: "mta", %id, "a message is damaged and set aside");
        }
        SpoolAlarm::NotRemoved { id, cause } => {
            tracing::warn!(target: "mta", %id, %cause, "content that is not needed could not be removed");
        }
        other => tracing::warn!(target: "mta", alarm = ?other, "the queue reports"),
    }
}

/// How often a sync is tried.
const TRIALS: u32 = 9;

/// Says what `250` means on this disk, and what it costs: the median of some syncs.
///
/// # Errors
/// What the system gave.
pub(crate) fn describe_durability(directory: &Path) -> io::Result<String> {
    if is_in_memory(directory) {
        return Ok("none: the queue is in memory (tmpfs), and nothing survives a power loss".into());
    }
    let path = directory.join("sync-trial");
    let trial = || -> io::Result<Duration> {
        let mut file = File::create(&path)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        let mut times = Vec::new();
        for number in 0..TRIALS {
            file.write_all_at(&number.to_le_bytes().repeat(1024), 0)?;
            let start = Instant::now();
            file.sync_data()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    let median = trial();
    // Left behind it would do no harm.
    let _ = std::fs::remove_file(&path);
    let micros = median?.as_micros();
    Ok(format!(
        "every message is synced before its 250; a sync takes {}.{} ms here and is shared by all that wait",
        micros / 1000,
        micros % 1000 / 100
    ))
}

fn is_in_memory(directory: &Path) -> bool {
    // TMPFS_MAGIC of Linux; its type differs between architectures.
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type == 0x0102_1994)
}
