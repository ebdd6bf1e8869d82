//! How many notifications one sender gets: whoever asks to be told of everything, or is made to look as if, is not flooded
//! (SECURITY.md D-17; PRACTICES.md S21).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use smtp_core::Mailbox;
use tokio::time::Instant;

/// Within what time the number holds.
const HOUR: Duration = Duration::from_secs(3600);
/// Senders that are remembered: 65,536. Where there are more, those who come last have no limit until others are forgotten.
const SENDERS: usize = 1 << 16;

/// What senders were told of late. It is forgotten with the process.
#[derive(Debug)]
pub(super) struct NotificationRates {
    per_hour: u32,
    by: RandomState,
    /// When everything that a sender was told would be paid back, at an even rate.
    paid_back: Mutex<HashMap<u64, Instant>>,
}

impl NotificationRates {
    /// So many at once and within each hour; 0 admits none.
    pub(super) fn new(per_hour: u32) -> Self {
        Self { per_hour, by: RandomState::new(), paid_back: Mutex::default() }
    }

    /// Whether one more may go to that mailbox. If so, it counts.
    pub(super) fn admit(&self, mailbox: &Mailbox) -> bool {
        let now = Instant::now();
        let Some(each) = HOUR.checked_div(self.per_hour) else { return false };
        let key = self.by.hash_one(mailbox.to_string().to_lowercase());
        let mut senders = self.paid_back.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= SENDERS && !senders.contains_key(&key) {
            senders.retain(|_, paid_back| *paid_back > now);
        }
        let next = senders.get(&key).map_or(now, |paid_back| now.max(*paid_back)) + each;
        if next - now > HOUR {
            return false;
        }
        if senders.len() < SENDERS || senders.contains_key(&key) {
            senders.insert(key, next);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn mailbox(number: usize) -> Mailbox {
        Mailbox::parse(format!("u{number}@client.example")).expect("in the grammar")
    }

    #[tokio::test(start_paused = true)] // SECURITY.md D-17
    async fn d17_a_burst_and_then_an_even_rate_for_each_sender() {
        let rates = NotificationRates::new(10);
        let admitted = |times: usize| (0..times).filter(|_| rates.admit(&mailbox(1))).count();
        assert_eq!(admitted(50), 10);
        assert!(!rates.admit(&Mailbox::parse("U1@CLIENT.example").expect("in the grammar")));
        assert!(rates.admit(&mailbox(2)), "nobody else");
        advance(HOUR / 10).await;
        assert_eq!(admitted(50), 1);
        advance(24 * HOUR).await;
        assert_eq!(admitted(50), 10);
        assert!(!NotificationRates::new(0).admit(&mailbox(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn d17_what_is_remembered_is_bounded() {
        let rates = NotificationRates::new(1);
        let remembered = || rates.paid_back.lock().expect("no panic").len();
        for number in 0..SENDERS + 10 {
            assert!(rates.admit(&mailbox(number)));
        }
        assert_eq!(remembered(), SENDERS);
        advance(2 * HOUR).await;
        assert!(rates.admit(&mailbox(SENDERS + 11)));
        assert_eq!(remembered(), 1);
    }
}
