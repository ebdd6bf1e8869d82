//! The law of recovery: whatever stands in the files of a spool, it opens, gives what is whole, says what is not, and
//! goes on working.
//!
//! ```text
//! choices   the input, read once from its start
//! memory    a storage in memory whose octets can be taken out and put back
//! script    builds a real spool and remembers what must be in it
//! damage    flips, overwrites, swaps, puts back, truncates, removes; makes files up
//! reader    a second reading of the log: where the records of each message stand
//! expected  what must be there after damage, and what may be
//! ```
//!
//! The first octet of an input chooses: even, a script and then damage; odd, files that were made up.

mod choices;
mod damage;
mod expected;
mod memory;
mod reader;
mod script;

use std::collections::BTreeMap;
use std::io::Read;

use smtp_queue::{Listed, QueueId, RecoveryReport, Shown, Spool, SpoolError, StoredContent};

use self::choices::Choices;
use self::expected::Expected;
use self::script::{Script, at, now};

/// A message as the spool gives it; `None` for what it says is damaged.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    held: bool,
    shown: Option<BTreeMap<String, smtp_queue::Progress>>,
    content: Option<Vec<u8>>,
}

/// Builds or makes up a spool, and opens it.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.next() % 2 == 1 {
        let image = damage::made_up(&mut choices);
        let (mut script, _) = Script::open(&image, FRESH);
        let seen = see(&script, None);
        goes_on(&mut script, &seen, None);
        return;
    }
    let (mut script, _) = Script::open(&memory::Image::new(), 0);
    script.run(&mut choices);
    let before = script.storage.image();
    let mut after = before.clone();
    damage::damage(&mut after, &script.images, &mut choices);
    let expected = Expected::new(&script.known, &before, &after);
    let (mut opened, report) = Script::open(&after, FRESH);
    let seen = see(&opened, Some(&expected));
    is_as_expected(&expected, &seen, &report);
    goes_on(&mut opened, &seen, Some(&expected));
}

/// The number of the first message that is put after damage: no script reaches it.
const FRESH: u64 = 1 << 40;

/// Everything that a spool gives. Where it is known what a message was, nothing else is given under its name.
fn see(script: &Script, expected: Option<&Expected>) -> BTreeMap<QueueId, Seen> {
    let spool = &script.spool;
    let listed = now(spool, spool.list(None, usize::MAX)).expect("the list is in memory");
    assert_eq!(listed.len() as u64, spool.totals().messages);
    listed.into_iter().map(|listed| (listed.id, see_one(script, &listed, expected))).collect()
}

fn see_one(script: &Script, listed: &Listed, expected: Option<&Expected>) -> Seen {
    let spool = &script.spool;
    let known = expected.map(|expected| expected.known.get(&listed.id).expect("no message comes from nowhere"));
    let shown = match now(spool, spool.show(listed.id)) {
        Ok(shown) => shown,
        Err(error) => return Seen { held: false, shown: is_damage(&error), content: None },
    };
    let Shown { envelope, progress, .. } = shown.expect("it is listed");
    let content = match now(spool, spool.content(listed.id)) {
        Ok(content) => Some(octets(&content)),
        Err(error) => is_damage(&error),
    };
    if let Some(known) = known {
        assert_eq!(envelope, known.envelope, "the envelope never changes");
        assert!(content.as_ref().is_none_or(|content| *content == known.content), "{} has other content", listed.id);
        for progress in &progress {
            assert!(known.history.contains(progress), "{} was never at {progress:?}", listed.id);
        }
    }
    let progress = progress.into_iter().map(|progress| (progress.site.to_string(), progress)).collect();
    Seen { held: listed.held, shown: Some(progress), content }
}

/// What cannot be read is said to be damaged and nothing else: another error would be tried again for ever.
fn is_damage<T>(error: &SpoolError) -> Option<T> {
    assert!(matches!(error, SpoolError::Damaged { .. }), "{error:?}");
    None
}

fn octets(content: &StoredContent) -> Vec<u8> {
    let mut octets = Vec::new();
    content.reader().read_to_end(&mut octets).expect("its length was looked at");
    assert_eq!(octets.len() as u64, content.len());
    octets
}

fn is_as_expected(expected: &Expected, seen: &BTreeMap<QueueId, Seen>, report: &RecoveryReport) {
    let mut is_said = report.torn_tail || !report.damage.is_empty();
    let mut differs = None;
    for (id, known) in &expected.known {
        let seen = seen.get(id);
        let (is_there, must_be_there) = (seen.is_some(), !known.progress.is_empty());
        let is_right = is_there == must_be_there
            && seen.is_none_or(|seen| {
                let content = seen.content.as_ref() == Some(&known.content);
                content && seen.held == known.held && seen.shown.as_ref() == Some(&known.progress)
            });
        is_said |= seen.is_some_and(|seen| seen.shown.is_none() || seen.content.is_none());
        if !is_right {
            if expected.must_be_said(*id) {
                differs = Some(id);
            }
            let what = if is_there { "is not as it was" } else { "is not there" };
            assert!(expected.is_touched(*id), "{id} {what}, though nothing of it was touched: {known:?}\n{seen:?}");
        }
    }
    if let Some(id) = differs {
        assert!(is_said, "{id} is not as it was, and nobody says so");
    }
}

/// Messages come, go and stay, also over a restart, and what was whole before still is.
fn goes_on(script: &mut Script, before: &BTreeMap<QueueId, Seen>, expected: Option<&Expected>) {
    script.known.clear();
    for (octets, sites) in [(10, &[0, 1][..]), (3000, &[2]), (900, &[3]), (0, &[0]), (700, &[1])] {
        let message = script.message(sites, octets);
        script.put(message);
    }
    let first = *script.known.keys().next().expect("five were put");
    let removed = now(&script.spool, script.spool.remove(first)).expect("it works");
    assert_eq!(removed, Some(2));
    script.known.remove(&first);
    for with_snapshot in [false, true, false] {
        if with_snapshot {
            script.spool.write_snapshot();
        }
        let known = std::mem::take(&mut script.known);
        let next = FRESH + 100;
        let (mut opened, report) = Script::open(&script.storage.image(), next);
        assert!(!report.torn_tail, "what was written is whole");
        opened.known = known;
        *script = opened;
        is_still_there(script, before, expected);
    }
    // Whatever came is due and can be finished.
    let due = now(&script.spool, script.spool.due(at(1 << 40), &smtp_queue::Room::anywhere(usize::MAX)));
    let leases = due.expect("it works").leases;
    assert!(script.known.keys().all(|id| leases.iter().any(|lease| lease.id == *id)));
    for lease in leases {
        let change = smtp_queue::Change { progress: None, caused: Vec::new() };
        now(&script.spool, script.spool.record(lease, change)).expect("it works");
    }
    assert!(script.known.keys().all(|id| now(&script.spool, script.spool.show(*id)).expect("it works").is_none()));
}

fn is_still_there(script: &Script, before: &BTreeMap<QueueId, Seen>, expected: Option<&Expected>) {
    let seen = see(script, None);
    let may_change = |id: &QueueId| expected.is_some_and(|expected| expected.may_change(*id));
    for (id, known) in &script.known {
        let seen = seen.get(id).expect("what came after the damage stays");
        assert_eq!(seen.content.as_ref(), Some(&known.content));
        assert_eq!(seen.shown.as_ref(), Some(&known.progress));
    }
    for (id, seen_now) in &seen {
        if !script.known.contains_key(id) {
            // A snapshot may know a message whose record is damaged; nobody is given it.
            let is_given = seen_now.content.is_some();
            assert!(before.contains_key(id) || !is_given, "{id} was not there at the first start");
        }
        if let Some(before) = before.get(id)
            && before.content.is_some()
            && !may_change(id)
        {
            assert_eq!(seen_now, before, "{id} has changed");
        }
    }
    let stays = |id: &QueueId, one: &Seen| one.content.is_none() || may_change(id) || seen.contains_key(id);
    assert!(before.iter().all(|(id, one)| stays(id, one)), "one is gone");
}
