//! Every limit of a queue: unit, default, and where it comes from.

use std::time::Duration;

use crate::schedule::Schedule;

/// How a queue works. Start from [`QueueSettings::default`] and change single values.
///
/// ```
/// let mut settings = smtp_queue::QueueSettings::default();
/// settings.concurrency_limit = 50;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueSettings {
    /// When a message is tried again, and when it is given up (RFC 5321 §4.5.4.1).
    pub schedule: Schedule,
    /// Attempts at a time at a site of which nothing is known yet: 5 (Q11). It rises while attempts succeed and is
    /// halved where the site cannot be reached.
    pub concurrency_start: usize,
    /// Attempts at a time at one site: 20 (Q11).
    pub concurrency_limit: usize,
    /// Attempts at a time at all sites: 5,000 (ours). When half of them are used, a site that has not just succeeded
    /// gets one.
    pub total_concurrency: usize,
    /// Messages that wait for a place at one site, are tried there, or whose outcome is being recorded: 1,000 (ours).
    /// Others stay in the spool, where they cost little.
    pub site_window: usize,
    /// The same for all sites: 20,000 (ours). When half of them are used, a site that has not just succeeded gets one.
    pub total_window: usize,
    /// Content that is kept in memory for the first attempt, in octets: 64 MiB (ours). Beyond it, content is read back.
    pub window_octets: u64,
    /// How long an attempt may take: 1 h (ours). It is longer than everything that RFC 5321 §4.5.3.2 allows for a usual
    /// message, so it ends only what would never end.
    pub attempt_timeout: Duration,
    /// Notifications to one mailbox at once, and within each hour: 1,000 (ours; SECURITY.md D-17). Of more nobody is told but
    /// the observer.
    pub notifications_per_hour: u32,
    /// For how long nothing expires after a start or a jump of the clock: 1 h (SECURITY.md D-36).
    pub expiry_suspension: Duration,
    /// How long a message may be due without being tried before it is reported: 1 h (ours).
    pub past_due_after: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            schedule: Schedule::default(),
            concurrency_start: 5,
            concurrency_limit: 20,
            total_concurrency: 5000,
            site_window: 1000,
            total_window: 20_000,
            window_octets: 64 << 20,
            attempt_timeout: HOUR,
            notifications_per_hour: 1000,
            expiry_suspension: HOUR,
            past_due_after: HOUR,
        }
    }
}

impl QueueSettings {
    /// No limit is 0, because nothing would ever move.
    pub(super) fn checked(mut self) -> Self {
        for limit in [
            &mut self.concurrency_start,
            &mut self.concurrency_limit,
            &mut self.total_concurrency,
            &mut self.site_window,
            &mut self.total_window,
        ] {
            *limit = (*limit).max(1);
        }
        self
    }
}
