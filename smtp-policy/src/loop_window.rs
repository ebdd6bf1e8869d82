//! Does the same message come to the same recipient again and again? A loop whose hops take trace fields away (SECURITY D-18).
//!
//! `Received` counts hops and `Delivered-To` names mailboxes; a hop that removes both hides the loop from them. What it
//! cannot change without making another message of it is the `Message-ID` with the body: how often they came for a recipient
//! within an hour is remembered. Where it is too often the message is held at whoever sends it (`451 4.4.6`), which the log
//! tells, until the hour is over: a loop comes to rest, and no mail is lost for having been sent twice.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};
use smtp_core::{Content, Transaction, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::clock::Clock;
use crate::finding::{Action, Finding};
use crate::header::{fields, read_section};
use crate::practice::{ForRoleMailboxes, Practice};
use crate::state::{Change, StateError, StateStore, short_key};

const TABLE: &str = "loops";
/// For how long it is remembered, from the first time on: 1 h (ours).
const WINDOW: Duration = Duration::from_secs(3600);
/// How often a message may come for a recipient within that: 10 times (ours). Retries of a server come less often.
const TIMES: u32 = 10;
/// Recipients of a message of which it is counted: 100 (ours). A loop has one.
const RECIPIENTS: usize = 100;

/// SECURITY D-18
const LOOP: Practice = Practice::new("loop", "D-18", "The same message does not come again and again")
    .fails([Action::Observe, Action::Defer, Action::Defer], [0; 3])
    .refuses(4, 6, "This message comes again and again, perhaps in a loop; try again in an hour")
    .for_role_mailboxes(ForRoleMailboxes::Kept);

/// Counts how often a message comes for a recipient, by its `Message-ID` and body.
///
/// ```
/// use smtp_policy::{Chain, LoopWindow, MemoryStateStore, Preset};
///
/// let chain = Chain::new("mx", Preset::Bcp).with(LoopWindow::new(MemoryStateStore::new()));
/// ```
#[derive(Clone)]
pub struct LoopWindow {
    store: Arc<dyn StateStore>,
    clock: Clock,
}

impl LoopWindow {
    /// What is counted is in that store.
    pub fn new(store: impl StateStore + 'static) -> Self {
        Self { store: Arc::new(store), clock: Clock::default() }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Clock::new(now), ..self }
    }

    /// How often it came within the hour, this time included.
    async fn count(&self, key: &[u8]) -> Result<u32, StateError> {
        let now = self.clock.now();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut times = 1;
        let mut add = |value: Option<&[u8]>| {
            // How often, and until when.
            let kept = value.and_then(|value| value.split_first_chunk::<4>());
            let kept = kept
                .and_then(|(times, end)| Some((u32::from_be_bytes(*times), u64::from_be_bytes(end.try_into().ok()?))));
            let latest = seconds(now + WINDOW);
            let (before, end) = kept.filter(|(_, end)| *end <= latest).unwrap_or((0, latest));
            times = before.saturating_add(1);
            let value = [&times.to_be_bytes()[..], &end.to_be_bytes()].concat();
            Change::Set { value, expires: SystemTime::UNIX_EPOCH + Duration::from_secs(end) }
        };
        self.store.update(TABLE, key, now, &mut add).await?;
        Ok(times)
    }
}

impl fmt::Debug for LoopWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopWindow").finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for LoopWindow {
    fn practices(&self) -> &[Practice] {
        &[LOOP]
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    /// Hosts of ours and programs of users leave `Received` as it is, which ends their loops.
    fn examines_submission(&self) -> bool {
        false
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        let Some((content, transaction)) = subject.content().zip(subject.transaction()) else {
            return Observation::new();
        };
        let Ok(known_by) = known_by(content).await else {
            return Finding::unknown(LOOP.name(), "cannot read the content").into();
        };
        // A message without a Message-ID may be one of many that look alike.
        let Some(known_by) = known_by else { return Observation::new() };
        let mut most = 0;
        for recipient in Transaction::recipients(transaction).iter().take(RECIPIENTS) {
            let key = short_key(&format!("{known_by} {}", recipient.path().to_string().to_lowercase()));
            match self.count(&key).await {
                Ok(times) => most = most.max(times),
                // PRACTICES P5: a store that does not answer holds nobody up.
                Err(error) => return Finding::unknown(LOOP.name(), error.to_string()).into(),
            }
        }
        let evidence = format!("came {most} times within an hour");
        if most > TIMES { Finding::fail(LOOP.name(), evidence).into() } else { Observation::new() }
    }
}

/// The `Message-ID` and the hash of the body; `None` where there is no `Message-ID`.
async fn known_by(content: &Content) -> io::Result<Option<String>> {
    if let Some(octets) = content.as_bytes() {
        return read_known_by(&octets[..]);
    }
    let content = content.clone();
    let read = tokio::task::spawn_blocking(move || read_known_by(content.reader()?));
    read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn read_known_by(content: impl Read) -> io::Result<Option<String>> {
    let mut content = BufReader::new(content);
    let section = read_section(&mut content)?;
    let Some(id) = fields(&section).find(|field| field.is("Message-ID")) else { return Ok(None) };
    let id = String::from_utf8_lossy(id.value.trim_ascii()).into_owned();
    let mut hash = Sha256::new();
    io::copy(&mut content, &mut Hashing(&mut hash))?;
    Ok(Some(format!("{} {id}", BASE64_STANDARD.encode(hash.finalize()))))
}

/// What is written is hashed.
struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.update(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hops_add_or_remove_changes_nothing_and_what_they_write_does() -> io::Result<()> {
        let same = read_known_by(&b"Message-ID: <1@b>\r\nReceived: x\r\n\r\nbody\r\n"[..])?;
        assert_eq!(read_known_by(&b"X: y\r\nmessage-id :\r\n <1@b>\r\n\r\nbody\r\n"[..])?, same);
        assert_ne!(read_known_by(&b"Message-ID: <2@b>\r\n\r\nbody\r\n"[..])?, same);
        assert_ne!(read_known_by(&b"Message-ID: <1@b>\r\n\r\nbody.\r\n"[..])?, same);
        assert_eq!(read_known_by(&b"Subject: x\r\n\r\nMessage-ID: <1@b>\r\n"[..])?, None);
        Ok(())
    }
}
