//! The embedded spool on a real directory: what it took is there again, whole, after it was closed and opened.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smtp_core::{Content, Mailbox, ReversePath, async_trait};
use smtp_queue::contract::{SpoolUnderTest, check_spool};
use smtp_queue::{
    Change, Due, Envelope, FileStorage, Lease, Listed, NewContent, NewMessage, NewProgress, OpenError, Progress,
    QueueId, Room, SegmentSettings, SegmentSpool, Shown, Spool, SpoolError, SpoolTotals, StoredContent,
};
use tempfile::TempDir;

const START: SystemTime = SystemTime::UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    START + Duration::from_secs(seconds)
}

fn small() -> SegmentSettings {
    let mut settings = SegmentSettings::default();
    settings.segment_octets = Some(64 << 10);
    settings.kept_segments = 1;
    settings.content_octets = 4 << 10;
    settings.snapshot_octets = 256 << 10;
    settings.reserve_octets = Some(0);
    settings
}

fn open(directory: &TempDir, settings: SegmentSettings) -> SegmentSpool {
    let storage = FileStorage::open(directory.path()).expect("a directory");
    let (spool, report) = SegmentSpool::open(Arc::new(storage), settings).expect("opens");
    assert_eq!(report.damage, []);
    spool
}

fn message(number: u64, octets: usize, sites: &[&str]) -> NewMessage {
    let id = QueueId::from_u128(u128::from(number) << 64 | 7);
    let mut envelope = Envelope::new(id, at(number), ReversePath::parse("<a@client.example>").expect("valid"));
    for site in sites {
        envelope = envelope.with_recipient(Mailbox::parse(format!("b@{site}.example")).expect("valid"));
    }
    let octet = b'a' + u8::try_from(number % 26).expect("small");
    let content = Content::new(Bytes::from(vec![octet; octets]));
    let progress = sites.iter().zip(0..).map(|(site, index)| NewProgress {
        progress: Progress::new((*site).into(), [index], at(number)),
        lease: false,
    });
    NewMessage {
        envelope: Arc::new(envelope),
        content: NewContent { head: Bytes::from(format!("Received: {number}\r\n")), content, skipped_octets: 0 },
        progress: progress.collect(),
    }
}

fn octets_of(content: &smtp_queue::StoredContent) -> Vec<u8> {
    let mut octets = Vec::new();
    std::io::Read::read_to_end(&mut content.reader(), &mut octets).expect("reads");
    octets
}

async fn lease_all(spool: &SegmentSpool) -> Vec<Lease> {
    let room = Room::anywhere(usize::MAX);
    spool.due(at(1 << 40), &room).await.expect("works").leases
}

#[tokio::test]
async fn what_was_taken_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("made");
    let messages: Vec<_> = (0..40_u16).map(|n| message(n.into(), usize::from(n) * 407, &["x", "y"])).collect();
    let spool = open(&directory, small());
    for message in &messages {
        assert_eq!(spool.put(message.clone()).await.expect("taken"), []);
    }
    drop(spool);
    let spool = open(&directory, small());
    assert_eq!(spool.totals().messages, 40);
    let leases = lease_all(&spool).await;
    assert_eq!(leases.len(), 80);
    for lease in &leases {
        let number = usize::try_from(lease.id.as_u128() >> 64).expect("small");
        let (envelope, progress) = spool.load(lease).await.expect("loads");
        assert_eq!(envelope, messages[number].envelope);
        assert!(messages[number].progress.iter().any(|new| new.progress == progress));
        let content = octets_of(&spool.content(lease.id).await.expect("there"));
        let expected = &messages[number].content;
        assert_eq!(content, [&expected.head[..], &expected.content.to_bytes().expect("in memory")].concat());
    }
}

#[tokio::test]
async fn outcomes_survive_many_turns_of_the_segments() {
    let directory = tempfile::tempdir().expect("made");
    let mut spool = open(&directory, small());
    // One that stays, so that its segment must be emptied again and again.
    spool.put(message(0, 100, &["stays", "other"])).await.expect("taken");
    for number in 1..2000 {
        spool.put(message(number, 1500, &["x"])).await.expect("taken");
        let room = Room::anywhere(10);
        for lease in spool.due(at(number), &room).await.expect("works").leases {
            if lease.site.starts_with('x') {
                spool.record(lease, Change { progress: None, caused: Vec::new() }).await.expect("recorded");
            } else {
                let (_, mut progress) = spool.load(&lease).await.expect("loads");
                progress.attempts += 1;
                progress.next_attempt = at(number + 3);
                let change = Change { progress: Some(progress), caused: Vec::new() };
                spool.record(lease, change).await.expect("recorded");
            }
        }
        if number % 500 == 0 {
            drop(spool);
            spool = open(&directory, small());
        }
    }
    drop(spool);
    let spool = open(&directory, small());
    assert_eq!(spool.totals().messages, 1);
    let listed = spool.list(None, 10).await.expect("works");
    assert_eq!(listed.len(), 1);
    assert!(listed[0].pairs.iter().all(|pair| pair.attempts > 400), "{listed:?}");
    let log: u64 = std::fs::read_dir(directory.path().join("log")).expect("there").count() as u64;
    assert!(log < 40, "{log} segments for one message");
}

#[tokio::test] // STANDARDS.md C10
async fn c10_a_second_owner_is_refused() {
    let directory = tempfile::tempdir().expect("made");
    let spool = open(&directory, small());
    let storage = Arc::new(FileStorage::open(directory.path()).expect("a directory"));
    match SegmentSpool::open(storage.clone(), small()) {
        Err(OpenError::InUse(error)) => assert!(error.to_string().contains("is in use by process"), "{error}"),
        other => panic!("{other:?}"),
    }
    drop(spool);
    SegmentSpool::open(storage, small()).expect("free again");
}

#[tokio::test]
async fn a_lost_lease_records_nothing() {
    let directory = tempfile::tempdir().expect("made");
    let spool = open(&directory, small());
    spool.put(message(1, 10, &["x", "y"])).await.expect("taken");
    let lease = lease_all(&spool).await.remove(0);
    assert!(lease_all(&spool).await.is_empty(), "nothing is leased twice");
    assert_eq!(spool.remove(lease.id).await.expect("works"), Some(2));
    let change = Change { progress: None, caused: vec![message(2, 10, &["x"])] };
    let lost = spool.record(lease, change).await;
    assert!(matches!(lost, Err(SpoolError::LeaseLost { .. })), "{lost:?}");
    assert_eq!(spool.totals().messages, 0);
}

/// Spools in directories that are removed with this.
struct OnDisk {
    root: TempDir,
    count: std::sync::atomic::AtomicUsize,
}

/// A spool that knows where it lies.
struct Placed {
    spool: SegmentSpool,
    place: std::path::PathBuf,
}

impl OnDisk {
    fn open(place: std::path::PathBuf) -> Placed {
        let storage = FileStorage::open(&place).expect("a directory");
        let (spool, report) = SegmentSpool::open(Arc::new(storage), small()).expect("opens");
        assert_eq!(report.damage, []);
        Placed { spool, place }
    }
}

#[async_trait]
impl SpoolUnderTest for OnDisk {
    type Spool = Placed;

    async fn create(&self) -> Placed {
        let number = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self::open(self.root.path().join(number.to_string()))
    }

    async fn reopen(&self, spool: Placed) -> Option<Placed> {
        let place = spool.place.clone();
        drop(spool);
        Some(Self::open(place))
    }
}

#[async_trait]
impl Spool for Placed {
    async fn put(&self, message: NewMessage) -> Result<Vec<Lease>, SpoolError> {
        self.spool.put(message).await
    }
    async fn due(&self, now: SystemTime, room: &Room) -> Result<Due, SpoolError> {
        self.spool.due(now, room).await
    }
    async fn load(&self, lease: &Lease) -> Result<(Arc<Envelope>, Progress), SpoolError> {
        self.spool.load(lease).await
    }
    async fn content(&self, id: QueueId) -> Result<StoredContent, SpoolError> {
        self.spool.content(id).await
    }
    async fn record(&self, lease: Lease, change: Change) -> Result<(), SpoolError> {
        self.spool.record(lease, change).await
    }
    async fn give_back(&self, lease: Lease) {
        self.spool.give_back(lease).await;
    }
    async fn remove(&self, id: QueueId) -> Result<Option<u64>, SpoolError> {
        self.spool.remove(id).await
    }
    async fn set_held(&self, id: QueueId, held: bool) -> Result<bool, SpoolError> {
        self.spool.set_held(id, held).await
    }
    async fn reschedule(&self, id: QueueId, next_attempt: SystemTime) -> Result<bool, SpoolError> {
        self.spool.reschedule(id, next_attempt).await
    }
    async fn list(&self, after: Option<QueueId>, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        self.spool.list(after, limit).await
    }
    async fn show(&self, id: QueueId) -> Result<Option<Shown>, SpoolError> {
        self.spool.show(id).await
    }
    fn totals(&self) -> SpoolTotals {
        self.spool.totals()
    }
    fn has_room(&self, octets: Option<u64>) -> bool {
        self.spool.has_room(octets)
    }
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let root = tempfile::tempdir().expect("made");
    check_spool(&OnDisk { root, count: 0.into() }).await;
}
