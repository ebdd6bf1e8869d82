//! The contract test of [`StateStore`]: what every backend must do, as laws with names. For other people's backends too.
//!
//! ```
//! use smtp_core::async_trait;
//! use smtp_policy::MemoryStateStore;
//! use smtp_policy::state_contract::{StateStoreUnderTest, check_state_store};
//!
//! struct Memory;
//!
//! #[async_trait]
//! impl StateStoreUnderTest for Memory {
//!     type Store = MemoryStateStore;
//!
//!     async fn create(&self) -> MemoryStateStore {
//!         MemoryStateStore::new()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! check_state_store(&Memory).await;
//! # });
//! ```

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use smtp_core::async_trait;

use super::{
    Change, STATE_KEY_LIMIT_OCTETS, STATE_TABLE_LIMIT_OCTETS, STATE_VALUE_LIMIT_OCTETS, StateError, StateStore,
};

/// Makes stores for [`check_state_store`].
#[async_trait]
pub trait StateStoreUnderTest: Send + Sync {
    /// The backend.
    type Store: StateStore + 'static;

    /// A new, empty store.
    async fn create(&self) -> Self::Store;

    /// Closes a store in an orderly way and opens it again. `None`, the default, where nothing survives; then the laws do
    /// without.
    async fn reopen(&self, store: Self::Store) -> Option<Self::Store> {
        drop(store);
        None
    }
}

/// Checks every law. The name of each is written to standard error before it is checked.
///
/// # Panics
/// Where a law does not hold.
pub async fn check_state_store<U: StateStoreUnderTest>(subject: &U) {
    macro_rules! laws {
        ($($law:ident),* $(,)?) => {$(
            eprintln!("law {}", stringify!($law));
            $law(&subject.create().await).await;
        )*};
    }
    laws![
        what_was_set_is_there_until_it_expires,
        an_end_can_be_moved,
        a_change_sees_what_is_there,
        what_expired_is_not_there_for_a_change,
        keeping_changes_nothing,
        a_removed_value_is_gone,
        a_table_has_its_own_keys,
        any_octets_are_keys_and_values,
        what_is_too_large_changes_nothing,
        a_clock_that_goes_back_does_no_harm,
    ];
    eprintln!("law nobody_comes_between_reading_and_writing");
    nobody_comes_between_reading_and_writing(subject.create().await).await;
    eprintln!("law what_was_set_survives");
    what_was_set_survives(subject).await;
}

const TABLE: &str = "contract";

/// So many seconds after a day in 2025.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000 + seconds)
}

async fn set(store: &impl StateStore, table: &str, key: &[u8], value: &[u8], now: u64, expires: u64) {
    let value = value.to_vec();
    let mut change = |_: Option<&[u8]>| Change::Set { value: value.clone(), expires: at(expires) };
    store.update(table, key, at(now), &mut change).await.expect("a store that works");
}

async fn get(store: &impl StateStore, table: &str, key: &[u8], now: u64) -> Option<Vec<u8>> {
    store.get(table, key, at(now)).await.expect("a store that works")
}

/// What a change is shown.
async fn shown(store: &impl StateStore, key: &[u8], now: u64) -> Option<Vec<u8>> {
    let mut seen = None;
    let mut look = |value: Option<&[u8]>| {
        seen = value.map(<[u8]>::to_vec);
        Change::Keep
    };
    store.update(TABLE, key, at(now), &mut look).await.expect("a store that works");
    seen
}

async fn what_was_set_is_there_until_it_expires(store: &impl StateStore) {
    assert_eq!(get(store, TABLE, b"k", 0).await, None);
    set(store, TABLE, b"k", b"value", 0, 60).await;
    for (now, is_there) in [(0, true), (59, true), (60, false), (61, false), (1_000_000, false)] {
        assert_eq!(get(store, TABLE, b"k", now).await.is_some(), is_there, "after {now} s");
    }
}

async fn an_end_can_be_moved(store: &impl StateStore) {
    set(store, TABLE, b"k", b"1", 0, 60).await;
    set(store, TABLE, b"k", b"2", 1, 90).await;
    assert_eq!(get(store, TABLE, b"k", 80).await.as_deref(), Some(&b"2"[..]), "later");
    set(store, TABLE, b"k", b"3", 2, 30).await;
    assert_eq!(get(store, TABLE, b"k", 29).await.as_deref(), Some(&b"3"[..]));
    assert_eq!(get(store, TABLE, b"k", 30).await, None, "earlier");
}

async fn a_change_sees_what_is_there(store: &impl StateStore) {
    assert_eq!(shown(store, b"k", 0).await, None);
    set(store, TABLE, b"k", b"value", 0, 60).await;
    assert_eq!(shown(store, b"k", 1).await.as_deref(), Some(&b"value"[..]));
}

async fn what_expired_is_not_there_for_a_change(store: &impl StateStore) {
    set(store, TABLE, b"k", b"value", 0, 60).await;
    assert_eq!(shown(store, b"k", 60).await, None);
    set(store, TABLE, b"k", b"new", 61, 90).await;
    assert_eq!(get(store, TABLE, b"k", 62).await.as_deref(), Some(&b"new"[..]));
}

async fn keeping_changes_nothing(store: &impl StateStore) {
    assert_eq!(shown(store, b"k", 0).await, None);
    assert_eq!(get(store, TABLE, b"k", 0).await, None);
    set(store, TABLE, b"k", b"value", 0, 60).await;
    shown(store, b"k", 1).await;
    assert_eq!(get(store, TABLE, b"k", 59).await.as_deref(), Some(&b"value"[..]));
    assert_eq!(get(store, TABLE, b"k", 60).await, None);
}

async fn a_removed_value_is_gone(store: &impl StateStore) {
    set(store, TABLE, b"k", b"value", 0, 60).await;
    set(store, TABLE, b"other", b"value", 0, 60).await;
    for _ in 0..2 {
        let removed = store.update(TABLE, b"k", at(1), &mut |_: Option<&[u8]>| Change::Remove).await;
        removed.expect("a store that works");
        assert_eq!(get(store, TABLE, b"k", 1).await, None);
    }
    assert!(get(store, TABLE, b"other", 1).await.is_some());
}

async fn a_table_has_its_own_keys(store: &impl StateStore) {
    set(store, "a", b"bc", b"1", 0, 60).await;
    set(store, "ab", b"c", b"2", 0, 60).await;
    assert_eq!(get(store, "a", b"bc", 1).await.as_deref(), Some(&b"1"[..]));
    assert_eq!(get(store, "ab", b"c", 1).await.as_deref(), Some(&b"2"[..]));
    assert_eq!(get(store, "abc", b"", 1).await, None);
}

async fn any_octets_are_keys_and_values(store: &impl StateStore) {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let longest = vec![0xff; STATE_KEY_LIMIT_OCTETS];
    let largest = vec![0; STATE_VALUE_LIMIT_OCTETS];
    let name = "x".repeat(STATE_TABLE_LIMIT_OCTETS);
    for (key, value) in [(&b""[..], &b""[..]), (&all, &all), (b"\0", b"\0"), (b"\0\0", b"\r\n"), (&longest, &largest)] {
        set(store, &name, key, value, 0, 60).await;
        assert_eq!(get(store, &name, key, 1).await.as_deref(), Some(value));
    }
}

async fn what_is_too_large_changes_nothing(store: &impl StateStore) {
    set(store, TABLE, b"k", b"value", 0, 60).await;
    let (name, key) = ("x".repeat(STATE_TABLE_LIMIT_OCTETS + 1), vec![0; STATE_KEY_LIMIT_OCTETS + 1]);
    for (table, key, octets) in [(TABLE, &b"k"[..], STATE_VALUE_LIMIT_OCTETS + 1), (TABLE, &key, 1), (&name, b"k", 1)] {
        let mut change = |_: Option<&[u8]>| Change::Set { value: vec![0; octets], expires: at(60) };
        let outcome = store.update(table, key, at(1), &mut change).await;
        assert!(matches!(outcome, Err(StateError::TooLarge)), "{outcome:?}");
    }
    assert_eq!(get(store, TABLE, b"k", 2).await.as_deref(), Some(&b"value"[..]));
}

async fn a_clock_that_goes_back_does_no_harm(store: &impl StateStore) {
    set(store, TABLE, b"k", b"value", 100, 160).await;
    assert!(get(store, TABLE, b"k", 0).await.is_some());
    set(store, TABLE, b"k", b"early", 50, 160).await;
    assert_eq!(get(store, TABLE, b"k", 0).await.as_deref(), Some(&b"early"[..]));
    let epoch = store.get(TABLE, b"k", SystemTime::UNIX_EPOCH).await.expect("a store that works");
    assert!(epoch.is_some());
}

async fn nobody_comes_between_reading_and_writing<S: StateStore + 'static>(store: S) {
    let store = Arc::new(store);
    let count = |store: Arc<S>| async move {
        for _ in 0..25 {
            let mut add = |value: Option<&[u8]>| {
                let counted = value.and_then(|value| value.first().copied()).unwrap_or(0) + 1;
                Change::Set { value: vec![counted], expires: at(60) }
            };
            store.update(TABLE, b"count", at(0), &mut add).await.expect("a store that works");
            tokio::task::yield_now().await;
        }
    };
    for counted in join_all((0..8).map(|_| tokio::spawn(count(store.clone())))).await {
        counted.expect("it did not panic");
    }
    assert_eq!(get(&store, TABLE, b"count", 1).await.as_deref(), Some(&[200][..]));
}

async fn what_was_set_survives<U: StateStoreUnderTest>(subject: &U) {
    let store = subject.create().await;
    for number in 0..50 {
        set(&store, TABLE, &[number], &[number; 100], 0, 60 + u64::from(number)).await;
    }
    set(&store, TABLE, &[3], b"changed", 1, 70).await;
    store.update(TABLE, &[4], at(1), &mut |_: Option<&[u8]>| Change::Remove).await.expect("a store that works");
    let Some(store) = subject.reopen(store).await else { return };
    assert_eq!(get(&store, TABLE, &[3], 2).await.as_deref(), Some(&b"changed"[..]));
    assert_eq!(get(&store, TABLE, &[4], 2).await, None);
    assert_eq!(get(&store, TABLE, &[49], 108).await.as_deref(), Some(&[49; 100][..]));
    assert_eq!(get(&store, TABLE, &[49], 109).await, None, "it has its end");
}
