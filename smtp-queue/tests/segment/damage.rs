//! A spool on disk with damage in every kind of place: what is damaged is set aside and reported, all else is delivered,
//! and what was removed does not come back. And a spool that another process has.
//!
//! STANDARDS.md C8 and C10.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use smtp_queue::contract::message;
use smtp_queue::{
    Change, Damage, FileStorage, NewMessage, OpenError, QueueId, RecoveryReport, Room, SegmentSettings, SegmentSpool,
    Spool, SpoolAlarm, SpoolError,
};
use tempfile::TempDir;

const BATCH_HEADER: usize = 40;
const RECORD_HEADER: usize = 48;
/// Of the fixed part in front of the envelope.
const HEAD: usize = 36;

/// Messages that stay; the one with this number has a content file, the one behind it has moved on at a site.
const STAYING: u128 = 12;
const LARGE: u128 = 9;
const TRIED: u128 = 4;

fn settings() -> SegmentSettings {
    let mut settings = SegmentSettings::default();
    settings.segment_octets = Some(16 << 10);
    settings.kept_segments = 1;
    settings.content_octets = 2 << 10;
    settings.reserve_octets = Some(0);
    settings
}

fn id(number: u128) -> QueueId {
    QueueId::from_u128(number)
}

fn octets_of(message: &NewMessage) -> Vec<u8> {
    let content = message.content.content.to_bytes().expect("in memory");
    let skipped = usize::try_from(message.content.skipped_octets).expect("few");
    [&message.content.head[..], &content[skipped..]].concat()
}

fn sample(number: u128) -> NewMessage {
    let octets = if number == LARGE { 5000 } else { 700 };
    message(number, &["one", "two"], octets)
}

/// A spool as it was closed: messages that stay, and removed ones between them.
struct Closed {
    directory: TempDir,
}

impl Closed {
    async fn new() -> Self {
        let closed = Self { directory: tempfile::tempdir().expect("made") };
        let storage = FileStorage::open(closed.directory.path()).expect("a directory");
        let (spool, _) = SegmentSpool::open_manual(Arc::new(storage), settings()).expect("opens");
        for number in 1..=STAYING {
            do_now(&spool, spool.put(sample(number))).await.expect("taken");
            do_now(&spool, spool.put(sample(100 + number))).await.expect("taken");
            if number == TRIED {
                closed.try_once(&spool).await;
            }
            do_now(&spool, spool.remove(id(100 + number))).await.expect("works");
        }
        closed
    }

    /// Records an attempt at one site of [`TRIED`], and the end of the other.
    async fn try_once(&self, spool: &SegmentSpool) {
        let due = spool.due(SystemTime::now(), &Room::anywhere(usize::MAX)).await.expect("works");
        for lease in due.leases {
            if lease.id != id(TRIED) {
                spool.give_back(lease).await;
                continue;
            }
            let (_, mut progress) = spool.load(&lease).await.expect("whole");
            progress.attempts += 1;
            let progress = (&*lease.site == "one").then_some(progress);
            let change = Change { progress, caused: Vec::new() };
            do_now(spool, spool.record(lease, change)).await.expect("works");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The files in a directory of the spool, by name.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(name)).expect("there");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        files
    }

    /// Where a record of a message with that kind stands: file, offset, octets of its payload.
    fn record(&self, number: u128, kind: u8) -> (PathBuf, usize, usize) {
        for path in self.files("log") {
            let octets = fs::read(&path).expect("readable");
            let wanted = [&number.to_le_bytes()[..]].concat();
            let mut headers = octets.windows(RECORD_HEADER).enumerate();
            let found = headers.rfind(|(_, header)| header[..3] == [0x53, 0x71, kind] && header[8..24] == wanted[..]);
            if let Some((place, header)) = found {
                let length = u32::from_le_bytes(header[4..8].try_into().expect("four octets"));
                return (path.clone(), place, length as usize);
            }
        }
        panic!("no record of kind {kind} of message {number}");
    }

    fn flip(&self, number: u128, kind: u8, place: impl Fn(usize) -> usize) {
        let (path, offset, octets) = self.record(number, kind);
        flip(&path, offset + place(octets));
    }

    /// Opens it, delivers whatever it gives, and says what was delivered whole at both sites and what was damaged.
    async fn deliver(&self) -> Delivered {
        let storage = FileStorage::open(self.directory.path()).expect("a directory");
        let alarms: Arc<Mutex<BTreeSet<QueueId>>> = Arc::default();
        let seen = alarms.clone();
        let mut settings = settings();
        settings.alarm = Some(Arc::new(move |alarm: &SpoolAlarm| {
            if let SpoolAlarm::Damaged { id } = alarm {
                seen.lock().expect("nobody panicked").insert(*id);
            }
        }));
        let (spool, report) = SegmentSpool::open(Arc::new(storage), settings).expect("opens");
        let mut delivered = Delivered { report, sites: BTreeSet::new(), alarms: BTreeSet::new(), damaged_left: 0 };
        let due = spool.due(SystemTime::now(), &Room::anywhere(usize::MAX)).await.expect("works");
        for lease in due.leases {
            let loaded = spool.load(&lease).await;
            let content = spool.content(lease.id).await;
            let (Ok((envelope, progress)), Ok(content)) = (loaded, content) else { continue };
            let mut octets = Vec::new();
            content.reader().read_to_end(&mut octets).expect("its length was looked at");
            let sent = sample(lease.id.as_u128());
            assert_eq!(octets, octets_of(&sent), "{}: octet for octet", lease.id);
            assert_eq!(envelope, sent.envelope);
            delivered.sites.insert((lease.id.as_u128(), lease.site.to_string(), progress.attempts));
            spool.record(lease, Change { progress: None, caused: Vec::new() }).await.expect("recorded");
        }
        // And it goes on: one comes, and goes.
        spool.put(sample(500)).await.expect("taken");
        assert_eq!(spool.remove(id(500)).await.expect("works"), Some(2));
        delivered.alarms.clone_from(&alarms.lock().expect("nobody panicked"));
        delivered.damaged_left = spool.totals().messages;
        delivered
    }
}

struct Delivered {
    report: RecoveryReport,
    /// Message, site, attempts so far.
    sites: BTreeSet<(u128, String, u32)>,
    /// Messages that an alarm named.
    alarms: BTreeSet<QueueId>,
    /// Messages that nobody was given.
    damaged_left: u64,
}

impl Delivered {
    /// Everything but these messages was delivered.
    fn is_all_but(&self, missing: &[u128]) {
        let mut expected = BTreeSet::new();
        for number in (1..=STAYING).filter(|number| !missing.contains(number)) {
            let attempts = u32::from(number == TRIED);
            expected.insert((number, "one".to_owned(), attempts));
            if number != TRIED {
                expected.insert((number, "two".to_owned(), 0));
            }
        }
        assert_eq!(self.sites, expected);
    }
}

fn flip(path: &Path, place: usize) {
    let mut octets = fs::read(path).expect("readable");
    octets[place] ^= 0x10;
    fs::write(path, octets).expect("writable");
}

/// Runs a future of a spool whose committer is moved by the caller.
async fn do_now<T>(spool: &SegmentSpool, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        loop {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                return std::task::Poll::Ready(value);
            }
            assert!(spool.commit_step(), "it waits for nothing");
        }
    })
    .await
}

const MESSAGE: u8 = 1;
const REFERENCE: u8 = 2;
const PROGRESS: u8 = 3;
const DONE: u8 = 4;
const REMOVAL: u8 = 6;

#[tokio::test]
async fn without_damage_everything_is_delivered() {
    let closed = Closed::new().await;
    let delivered = closed.deliver().await;
    delivered.is_all_but(&[]);
    assert_eq!(delivered.report.damage, []);
    assert_eq!((delivered.damaged_left, delivered.alarms.len()), (0, 0));
}

#[tokio::test]
async fn a_damaged_message_is_reported_and_all_others_are_delivered() {
    type Place = fn(usize) -> usize;
    let places: [(&str, Place); 5] = [
        ("record header", |_| 9),
        ("checksum", |_| 45),
        ("fixed part", |_| RECORD_HEADER + 3),
        ("envelope", |_| RECORD_HEADER + HEAD + 20),
        ("content", |octets| RECORD_HEADER + octets - 5),
    ];
    for (name, place) in places {
        let closed = Closed::new().await;
        closed.flip(5, MESSAGE, place);
        let delivered = closed.deliver().await;
        delivered.is_all_but(&[5]);
        assert!(matches!(delivered.report.damage[..], [Damage::Log { .. }]), "{name}: {:?}", delivered.report);
        assert!(!delivered.report.torn_tail, "{name}");
    }
}

#[tokio::test] // Records prove themselves, so the header in front of them may be lost.
async fn a_damaged_batch_header_costs_no_message() {
    let closed = Closed::new().await;
    let (path, offset, _) = closed.record(5, MESSAGE);
    assert_eq!((offset - BATCH_HEADER) % 512, 0, "the first record of its batch");
    flip(&path, offset - BATCH_HEADER + 20);
    let delivered = closed.deliver().await;
    delivered.is_all_but(&[]);
    assert!(matches!(delivered.report.damage[..], [Damage::Log { .. }]), "{:?}", delivered.report);
}

#[tokio::test]
async fn damaged_progress_costs_its_news_and_no_message() {
    let closed = Closed::new().await;
    closed.flip(TRIED, PROGRESS, |octets| RECORD_HEADER + octets / 2);
    let delivered = closed.deliver().await;
    assert!(delivered.sites.contains(&(TRIED, "one".to_owned(), 0)), "it is as it was before the attempt");
    assert_eq!(delivered.sites.len(), 2 * 12 - 1);
    assert!(matches!(delivered.report.damage[..], [Damage::Log { .. }]), "{:?}", delivered.report);

    let closed = Closed::new().await;
    closed.flip(TRIED, DONE, |_| 20);
    let delivered = closed.deliver().await;
    assert!(delivered.sites.contains(&(TRIED, "two".to_owned(), 0)), "twice rather than never");
    assert!(matches!(delivered.report.damage[..], [Damage::Log { .. }]), "{:?}", delivered.report);
}

#[tokio::test]
async fn a_damaged_removal_brings_back_its_message_alone_and_says_so() {
    let closed = Closed::new().await;
    closed.flip(103, REMOVAL, |_| 20);
    let delivered = closed.deliver().await;
    let back: BTreeSet<u128> = delivered.sites.iter().map(|(number, ..)| *number).filter(|n| *n > 100).collect();
    assert_eq!(back, BTreeSet::from([103]));
    assert_eq!(delivered.sites.len(), 2 * 12 - 1 + 2);
    assert!(matches!(delivered.report.damage[..], [Damage::Log { .. }]), "{:?}", delivered.report);
}

#[tokio::test]
async fn a_content_file_that_is_not_what_it_was_is_never_delivered() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil, bool); 4] = [
        ("missing", |path| fs::remove_file(path).expect("there"), true),
        (
            "cut off",
            |path| fs::OpenOptions::new().write(true).open(path).and_then(|f| f.set_len(10)).expect("done"),
            true,
        ),
        (
            "longer",
            |path| fs::OpenOptions::new().append(true).open(path).and_then(|mut f| f.write_all(b"x")).expect("done"),
            true,
        ),
        // Its octets are looked at when it is read.
        ("other octets", |path| flip(path, 2500), false),
    ];
    for (name, spoil, at_start) in spoils {
        let closed = Closed::new().await;
        let file = closed.files("content").remove(0);
        assert_eq!(file.file_name().expect("named").to_str(), Some(&*id(LARGE).to_string()));
        spoil(&file);
        let delivered = closed.deliver().await;
        delivered.is_all_but(&[LARGE]);
        let is_said = delivered.report.damage.contains(&Damage::Content { id: id(LARGE) });
        assert_eq!(is_said, at_start, "{name}: {:?}", delivered.report);
        assert!(is_said || delivered.alarms.contains(&id(LARGE)), "{name}");
        assert_eq!(delivered.damaged_left, 1, "{name}: it stays where it is");
    }
    let closed = Closed::new().await;
    flip(&closed.files("content")[0], 2500);
    let storage = FileStorage::open(closed.directory.path()).expect("a directory");
    let report = SegmentSpool::check(&storage).expect("nobody has it");
    assert_eq!(report.damage, [Damage::Content { id: id(LARGE) }], "a check looks at every octet");
    let record = closed.record(LARGE, REFERENCE);
    assert!(record.2 < 1000, "its content is not in the log");
}

#[tokio::test]
async fn damaged_snapshots_cost_time_and_no_message() {
    for damaged in [&[1][..], &[0, 1]] {
        let closed = Closed::new().await;
        for number in [300, 301] {
            // Each close writes one, where something was written.
            let storage = FileStorage::open(closed.directory.path()).expect("a directory");
            let (spool, _) = SegmentSpool::open(Arc::new(storage), settings()).expect("opens");
            spool.put(sample(number)).await.expect("taken");
            spool.remove(id(number)).await.expect("works");
        }
        let snapshots = closed.files("snapshots");
        assert_eq!(snapshots.len(), 2);
        for place in damaged {
            let octets = fs::metadata(&snapshots[*place]).expect("there").len();
            flip(&snapshots[*place], usize::try_from(octets / 2).expect("small"));
        }
        let delivered = closed.deliver().await;
        delivered.is_all_but(&[]);
        assert_eq!(delivered.report.damage, vec![Damage::Snapshot; damaged.len()]);
        assert_eq!(delivered.report.used_snapshot, damaged.len() == 1);
    }
}

#[tokio::test] // The last batch of a spool that was closed is known to be whole: its damage is no torn tail.
async fn damage_in_the_last_batch_behind_a_clean_close_is_not_taken_for_a_torn_tail() {
    let closed = Closed::new().await;
    {
        let storage = FileStorage::open(closed.directory.path()).expect("a directory");
        let (spool, _) = SegmentSpool::open(Arc::new(storage), settings()).expect("opens");
        let (first, second) = tokio::join!(spool.put(sample(301)), spool.put(sample(302)));
        assert!(first.is_ok() && second.is_ok());
    }
    closed.flip(302, MESSAGE, |_| 9);
    let delivered = closed.deliver().await;
    assert!(!delivered.report.torn_tail, "{:?}", delivered.report);
    assert!(matches!(delivered.report.damage[..], [Damage::Log { .. }]), "{:?}", delivered.report);
    assert!(delivered.sites.contains(&(301, "one".to_owned(), 0)));
    assert_eq!(delivered.alarms, BTreeSet::from([id(302)]));
}

#[tokio::test]
async fn a_segment_that_is_cut_off_or_void_costs_what_stood_there() {
    for keep in [0, 100, 4096] {
        let closed = Closed::new().await;
        let segments = closed.files("log");
        let (of_five, ..) = closed.record(5, MESSAGE);
        assert!(of_five < segments[segments.len() - 3], "it is not the last that was written");
        let lost: Vec<u128> = (1..=STAYING)
            .filter(|number| {
                let kind = if *number == LARGE { REFERENCE } else { MESSAGE };
                let (path, offset, octets) = closed.record(*number, kind);
                path == of_five && offset + RECORD_HEADER + octets > keep
            })
            .collect();
        assert!(!lost.is_empty() && lost.len() < 12);
        let file = fs::OpenOptions::new().write(true).open(&of_five).expect("there");
        file.set_len(keep as u64).expect("done");
        // Whatever had its removal there may come back; nothing that stood elsewhere is lost, now or later.
        for _ in 0..2 {
            let storage = FileStorage::open(closed.directory.path()).expect("a directory");
            let (spool, _) = SegmentSpool::open(Arc::new(storage), settings()).expect("opens");
            let listed = spool.list(None, usize::MAX).await.expect("works");
            let there: BTreeSet<u128> = listed.iter().map(|listed| listed.id.as_u128()).filter(|n| *n <= 12).collect();
            let expected: BTreeSet<u128> = (1..=STAYING).filter(|number| !lost.contains(number)).collect();
            assert_eq!(there, expected, "cut at {keep}");
            for number in 0..20 {
                spool.put(sample(1000 + number)).await.expect("taken");
                spool.remove(id(1000 + number)).await.expect("works");
            }
        }
    }
}

#[tokio::test] // A message is not delivered while its damage is known, and the operator can still see and remove it.
async fn what_is_damaged_can_be_seen_and_removed() {
    let closed = Closed::new().await;
    fs::remove_file(&closed.files("content")[0]).expect("there");
    let storage = FileStorage::open(closed.directory.path()).expect("a directory");
    let (spool, _) = SegmentSpool::open(Arc::new(storage), settings()).expect("opens");
    let listed = spool.list(Some(id(LARGE - 1)), 1).await.expect("works").remove(0);
    assert!(listed.id == id(LARGE) && listed.held);
    assert!(matches!(spool.content(id(LARGE)).await, Err(SpoolError::Damaged { .. })));
    assert_eq!(spool.remove(id(LARGE)).await.expect("works"), Some(2));
}

/// In the environment of a second process: the directory that it is to take.
const SECOND: &str = "SPOOL_OF_A_SECOND_PROCESS";

#[test] // The second process of the test below; without its variable there is nothing to do.
fn c10_second_process() {
    let Some(directory) = std::env::var_os(SECOND) else { return };
    let storage = Arc::new(FileStorage::open(directory).expect("a directory"));
    match SegmentSpool::open(storage, settings()) {
        Ok(opened) => {
            println!("opened, process {}", std::process::id());
            // Until the first says so.
            let _ = std::io::stdin().read(&mut [0]);
            drop(opened);
        }
        Err(OpenError::InUse(error)) => println!("refused: {error}"),
        Err(error) => panic!("{error}"),
    }
}

fn second_process(directory: &Path) -> std::process::Child {
    let this = std::env::current_exe().expect("it runs");
    let mut command = Command::new(this);
    command.args(["--exact", "damage::c10_second_process", "--nocapture"]).env(SECOND, directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts")
}

/// Reads what it prints, up to that word; the rest of that line.
fn says(output: &mut impl BufRead, what: &str) -> String {
    // Behind the words of the test harness, on one line with them.
    let mut lines = output.lines().map(|line| line.expect("text"));
    let found = lines.find_map(|line| line.split_once(what).map(|(_, rest)| rest.to_owned()));
    found.unwrap_or_else(|| panic!("the second process did not say {what:?}"))
}

#[tokio::test]
async fn c10_a_second_process_is_refused_and_told_who_has_the_spool() {
    let closed = Closed::new().await;
    let storage = Arc::new(FileStorage::open(closed.directory.path()).expect("a directory"));
    let (spool, _) = SegmentSpool::open(storage.clone(), settings()).expect("opens");
    let mut second = second_process(closed.directory.path());
    let mut output = BufReader::new(second.stdout.take().expect("piped"));
    let refused = says(&mut output, "refused: ");
    let owner = format!("is in use by process {} of boot", std::process::id());
    assert!(refused.contains(&owner), "{refused}");
    // Whoever closes the pipe early makes it fail.
    output.read_to_string(&mut String::new()).expect("text");
    assert!(second.wait().expect("it ends").success());
    spool.put(sample(700)).await.expect("the first goes on");
    drop(spool);

    let mut second = second_process(closed.directory.path());
    let mut output = BufReader::new(second.stdout.take().expect("piped"));
    says(&mut output, "opened, ");
    match SegmentSpool::open(storage.clone(), settings()) {
        Err(OpenError::InUse(error)) => {
            assert!(error.to_string().contains(&format!("process {} of boot", second.id())), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Killed, it leaves nothing behind that would keep others out.
    second.kill().expect("it runs");
    second.wait().expect("it ends");
    SegmentSpool::open(storage, settings()).expect("free again");
}
