//! The contract test of [`Spool`]: what every backend must do, as laws with names. For other people's backends too.
//!
//! ```
//! use smtp_core::async_trait;
//! use smtp_queue::MemorySpool;
//! use smtp_queue::contract::{SpoolUnderTest, check_spool};
//!
//! struct Memory;
//!
//! #[async_trait]
//! impl SpoolUnderTest for Memory {
//!     type Spool = MemorySpool;
//!
//!     async fn create(&self) -> MemorySpool {
//!         MemorySpool::new()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! check_spool(&Memory).await;
//! # });
//! ```

mod accounts;
mod leases;
mod random;
mod samples;
mod times;

use std::time::SystemTime;

use bytes::Bytes;
use smtp_core::async_trait;

use crate::id::QueueId;

use super::{Change, Lease, Room, Spool};

pub use self::samples::message;
use self::samples::{at, id};

/// Makes spools for [`check_spool`].
#[async_trait]
pub trait SpoolUnderTest: Send + Sync {
    /// The backend.
    type Spool: Spool;

    /// A new, empty spool.
    async fn create(&self) -> Self::Spool;

    /// Closes a spool and opens it again, as after `kill -9`: what it has taken is there, and nobody has a lease. `None`,
    /// the default, where nothing survives; then the laws do without.
    async fn reopen(&self, spool: Self::Spool) -> Option<Self::Spool> {
        drop(spool);
        None
    }
}

/// Checks every law. The name of each is written to standard error before it is checked.
///
/// # Panics
/// Where a law does not hold.
pub async fn check_spool<U: SpoolUnderTest>(subject: &U) {
    macro_rules! laws {
        ($($file:ident :: $law:ident),* $(,)?) => {$(
            eprintln!("law {}", stringify!($law));
            $file::$law(World::new(subject).await).await;
        )*};
    }
    laws![
        accounts::what_was_put_is_there_as_it_was,
        accounts::nothing_without_recipients_is_kept,
        accounts::a_name_is_given_once,
        accounts::the_list_goes_on_where_it_stopped,
        accounts::a_message_disappears_with_its_last_pair,
        accounts::what_an_outcome_causes_is_kept_with_it,
        accounts::a_removed_message_is_gone,
        leases::a_pair_is_leased_once,
        leases::a_put_can_lease,
        leases::a_lost_lease_records_nothing,
        leases::an_outcome_and_a_removal_at_once_count_once,
        leases::an_outcome_and_a_new_time_at_once_both_count,
        leases::what_is_given_back_is_due_when_it_was,
        leases::tasks_never_hold_the_same_pair,
        leases::a_failed_record_changes_nothing,
        times::the_earliest_comes_first,
        times::the_most_urgent_comes_first,
        times::nobody_waits_for_ever,
        times::next_is_when_more_is_due,
        times::no_site_gets_more_than_its_room,
        times::where_there_is_not_room_for_all_who_waited_longest_comes_first,
        times::a_site_without_room_costs_others_nothing,
        times::a_pair_moves_to_another_site,
        times::a_pair_never_moves_onto_another,
        times::what_is_held_is_never_due,
        times::a_message_is_due_when_an_operator_says,
    ];
    for seed in 0..random::SEEDS {
        eprintln!("law any operations have the effect that they have on the model, seed {seed}");
        random::operations_have_the_effect_that_they_have_on_the_model(World::new(subject).await, seed).await;
    }
}

/// A spool and how to open it again.
struct World<'a, U: SpoolUnderTest> {
    subject: &'a U,
    spool: Option<U::Spool>,
}

impl<'a, U: SpoolUnderTest> World<'a, U> {
    async fn new(subject: &'a U) -> Self {
        Self { subject, spool: Some(subject.create().await) }
    }

    fn spool(&self) -> &U::Spool {
        self.spool.as_ref().expect("it is there between reopenings")
    }

    /// Closes and opens the spool; `false` where nothing survives, and then a new one is there.
    async fn reopen(&mut self) -> bool {
        let old = self.spool.take().expect("it is there between reopenings");
        self.spool = self.subject.reopen(old).await;
        let survives = self.spool.is_some();
        if !survives {
            self.spool = Some(self.subject.create().await);
        }
        survives
    }

    /// Puts messages with these numbers, each for these sites.
    async fn put(&self, numbers: impl IntoIterator<Item = u128>, sites: &[&str]) {
        for number in numbers {
            self.spool().put(message(number, sites, 10)).await.expect("it is taken");
        }
    }

    /// Leases everything that is due that many seconds after the start.
    async fn due(&self, seconds: u64) -> Vec<Lease> {
        self.spool().due(at(seconds), &Room::anywhere(usize::MAX)).await.expect("it answers").leases
    }

    /// Names of what is leased, in order.
    async fn due_ids(&self, seconds: u64) -> Vec<QueueId> {
        self.due(seconds).await.into_iter().map(|lease| lease.id).collect()
    }

    /// Nothing remains to be done for that pair.
    async fn finish(&self, lease: Lease) {
        self.spool().record(lease, Change { progress: None, caused: Vec::new() }).await.expect("it is recorded");
    }

    /// It is tried again at that time.
    async fn defer(&self, lease: Lease, next_attempt: SystemTime) {
        let (_, mut progress) = self.spool().load(&lease).await.expect("it is leased");
        progress.attempts += 1;
        progress.next_attempt = next_attempt;
        self.spool().record(lease, Change { progress: Some(progress), caused: Vec::new() }).await.expect("recorded");
    }

    /// How many messages, pairs and recipients there are.
    fn totals(&self) -> (u64, u64, u64) {
        let totals = self.spool().totals();
        (totals.messages, totals.pairs, totals.recipients)
    }

    async fn octets(&self, number: u128) -> Bytes {
        let content = self.spool().content(id(number)).await.expect("it is there");
        samples::octets(&content)
    }
}
