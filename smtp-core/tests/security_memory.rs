//! SECURITY.md D-28, D-31, D-46, STANDARDS LI3: floods over real sockets.
//!
//! The last reply is read by a client that is still sending, and the memory of the server does not grow with
//! what it is sent.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use smtp_core::{AuthError, Authenticator, Connection, Identity, Listener, Mechanisms, Secret, ServerSession, Step};
use smtp_core::{Mechanism, ReversePath, async_trait};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Mutex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use support::client::Client;
use support::machine::{Machine, replies, without_policies};
use support::tls::server_tls;
use support::world::{Inbox, Log, Running, builder, start};

const MIB: usize = 1 << 20;

/// These tests measure the memory of the process, so they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// Resident octets of this process; `None` where the system does not say.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? << 10)
}

/// How much more memory is resident than `before`.
fn growth(before: Option<usize>) -> usize {
    match (before, resident()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => 0,
    }
}

/// Looks at the memory of the process again and again, until it is asked for the most.
struct Peak {
    most: Arc<AtomicUsize>,
    looking: JoinHandle<()>,
}

impl Peak {
    fn watch() -> Self {
        let most = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        let looking = tokio::spawn(async move {
            loop {
                seen.fetch_max(resident().unwrap_or_default(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { most, looking }
    }

    /// How much more than `before` was resident at the worst moment.
    fn growth(self, before: Option<usize>) -> usize {
        self.looking.abort();
        before.map_or(0, |before| self.most.load(Ordering::Relaxed).saturating_sub(before))
    }
}

/// Writes `piece` again and again, at most `octets` in all, and reads at the same time; octets written and what the
/// server said.
async fn flood<S>(stream: S, piece: &'static [u8], octets: usize) -> (usize, String)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        let mut written = 0;
        while written < octets {
            match write.write(&piece[..piece.len().min(octets - written)]).await {
                Ok(sent) if sent > 0 => written += sent,
                _ => break,
            }
        }
        (written, write)
    });
    let mut said = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(octets @ 1..) = read.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..octets]);
        }
    };
    timeout(Duration::from_secs(60), reading).await.expect("the server ends the session");
    let (written, _write) =
        timeout(Duration::from_secs(60), writing).await.expect("and takes no more").expect("no panic");
    (written, String::from_utf8(said).expect("replies are ASCII"))
}

async fn server() -> Running {
    start(builder(&Inbox::default(), &Log::default())).await
}

/// Connects and reads the greeting.
async fn greeted(server: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("the server listens");
    let mut octets = Vec::new();
    while !octets.ends_with(b"\r\n") {
        octets.push(stream.read_u8().await.expect("a greeting"));
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)] // LI18: 1 MiB is discarded, then `500 5.5.2` and the end.
async fn d28_endless_lines_on_100_connections() {
    static PIECE: [u8; 16 << 10] = [b'x'; 16 << 10];
    let _turn = TURN.lock().await;
    let server = server().await;
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let (before, peak) = (resident(), Peak::watch());
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(tokio::spawn(flood(greeted(&server).await, &PIECE, 64 * MIB)));
        }
        let mut sent = 0;
        for client in clients {
            let (written, said) = client.await.expect("no panic");
            assert_eq!(replies(&said), ["500 5.5.2"], "the reply is seen by a client that is still sending");
            assert!((MIB..64 * MIB).contains(&written), "1 MiB is discarded, and not everything: {written}");
            sent += written;
        }
        rounds.push((sent, peak.growth(before)));
    }
    let (sent, grown) = rounds[0];
    assert!(sent >= 100 * MIB && grown < sent / 8, "{grown} octets more for {sent}");
    assert!(rounds[1].1 < 8 * MIB, "a second flood costs nothing more: {rounds:?}");
    println!("octets sent and memory grown, by round: {rounds:?}");
    server.run.abort();
}

/// 1,000 recipients are taken, 1,000 are too many, and then it is enough (LI7, LI11).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn li7_30000_recipients_end_with_a_reply_that_is_read() {
    let _turn = TURN.lock().await;
    let server = server().await;
    let commands: &'static [u8] = {
        let recipients: Vec<_> = (0..30_000).map(|number| format!("RCPT TO:<user{number}@example.org>\r\n")).collect();
        let text = ["EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n", &recipients.concat()].concat();
        Vec::leak(text.into_bytes())
    };
    for round in 0..3 {
        let before = resident();
        let mut stream = greeted(&server).await;
        // The reply to EHLO is waited for; the rest goes out in one piece.
        let ehlo = commands.iter().position(|&octet| octet == b'\n').expect("a line") + 1;
        stream.write_all(&commands[..ehlo]).await.expect("the server reads");
        let mut octets = [0; 4096];
        let read = stream.read(&mut octets).await.expect("a reply");
        assert!(octets[..read].starts_with(b"250-"));
        let (written, said) = flood(stream, &commands[ehlo..], commands.len() - ehlo).await;
        let replies = replies(&said);
        let count = |reply: &str| replies.iter().filter(|it| *it == reply).count();
        assert_eq!(count("250 2.1.0"), 1);
        assert_eq!((count("250 2.1.5"), count("452 4.5.3"), count("421 4.7.0")), (1000, 1000, 1), "{written} octets");
        assert_eq!(replies.len(), 2002);
        assert_eq!(replies.last().map(String::as_str), Some("421 4.7.0"));
        assert!(round == 0 || growth(before) < 4 * MIB, "{}", growth(before));
    }
    server.run.abort();
}

/// The same for a client that writes all of it before it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn li7_a_client_that_reads_late_still_finds_the_reply() {
    let _turn = TURN.lock().await;
    let server = server().await;
    let mut stream = greeted(&server).await;
    stream.write_all(b"EHLO client.example\r\n").await.expect("the server reads");
    let mut octets = [0; 4096];
    let read = stream.read(&mut octets).await.expect("a reply");
    assert!(octets[..read].starts_with(b"250-"));
    let commands = format!("MAIL FROM:<>\r\n{}", "RCPT TO:<alice@example.org>\r\n".repeat(30_000));
    let _ = stream.write_all(commands.as_bytes()).await;
    let mut said = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut octets).await {
        said.extend_from_slice(&octets[..read]);
    }
    let replies = replies(std::str::from_utf8(&said).expect("ASCII"));
    assert_eq!(replies.last().map(String::as_str), Some("421 4.7.0"), "{} replies", replies.len());
    server.run.abort();
}

/// `alice`, by every mechanism that a flood can begin.
struct Alice;

#[async_trait]
impl Authenticator for Alice {
    fn mechanisms(&self) -> Mechanisms {
        use Mechanism::{Login, OauthBearer, Plain, ScramSha256};
        Mechanisms::from([Plain, Login, ScramSha256, OauthBearer])
    }

    async fn password(&self, _: &Connection, user: &str, password: &Secret) -> Result<Identity, AuthError> {
        let is_alice = user == "alice" && *password == Secret::new("wonderland");
        if is_alice { Ok(Identity::new("alice")) } else { Err(AuthError::Rejected) }
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

/// The server of [`Alice`], where passwords are taken in clear too.
async fn server_of_alice(inbox: &Inbox, log: &Log) -> Running {
    let mut limits = smtp_core::Limits::default();
    limits.error_delay = Duration::from_millis(5);
    limits.authentication_delay = Duration::from_millis(5);
    let listener = Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear();
    let builder = builder(inbox, log).authenticate(Alice).tls(server_tls()).limits(limits).listener(listener);
    let server = builder.bind().await.expect("loopback has free ports");
    let (address, handle) = (server.local_addresses()[0], server.handle());
    Running { address, handle, run: tokio::spawn(server.run()) }
}

/// Says `AUTH` and sends so many octets without an end of line; goes on once all others have done so too.
async fn flood_of_base64<S>(
    mut client: Client<S>,
    mechanism: &str,
    piece: &'static [u8],
    first_octets: usize,
    all: Arc<Barrier>,
) -> (usize, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    client.ask("EHLO client.example", "250").await;
    client.ask(&format!("AUTH {mechanism}"), "334").await;
    client.send("A".repeat(first_octets)).await;
    all.wait().await;
    // What lies in the sockets is read meanwhile, and seen by who watches the memory.
    tokio::time::sleep(Duration::from_millis(200)).await;
    flood(client.stream, piece, 64 * MIB).await
}

/// RFC 4954 §4, STANDARDS LI3, LI11, LI18: a line that does not end is `500 5.5.6` once 1 MiB of it was discarded; lines that
/// do end are responses and then commands, of which there are too many soon. Either way the session is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn li3_endless_base64_in_auth_on_100_connections() {
    static WITHOUT_END: [u8; 16 << 10] = [b'A'; 16 << 10];
    let _turn = TURN.lock().await;
    let (inbox, log) = (Inbox::default(), Log::default());
    let server = server_of_alice(&inbox, &log).await;
    let lines: &'static [u8] = Vec::leak(format!("{}\r\n", "QUJD".repeat(1000)).repeat(4).into_bytes());
    let address = server.address;
    let mut rounds = Vec::new();
    for (piece, first_octets) in [(&WITHOUT_END[..], MIB / 2), (&WITHOUT_END, MIB / 2), (lines, 0)] {
        let all = Arc::new(Barrier::new(100));
        let (before, peak) = (resident(), Peak::watch());
        let mut clients = Vec::new();
        for number in 0..100 {
            let mechanism = ["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER"][number % 4];
            let all = all.clone();
            let flooding = async move {
                if number % 5 == 0 {
                    let client = Client::connect(address).await.start_tls().await;
                    return flood_of_base64(client, mechanism, piece, first_octets, all).await;
                }
                let mut client = Client::connect(address).await;
                client.expect("220").await;
                flood_of_base64(client, mechanism, piece, first_octets, all).await
            };
            clients.push((mechanism, tokio::spawn(flooding)));
        }
        let honest = tokio::spawn(async move {
            let mut client = Client::connect(address).await.start_tls().await;
            client.ask("EHLO client.example", "250").await;
            client.ask("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=", "235 2.7.0").await;
            client.send_message_from("alice@example.org").await;
            client.expect("250 2.0.0").await;
        });
        let mut sent = 0;
        for (mechanism, client) in clients {
            let (written, said) = client.await.expect("no panic");
            let replies = replies(&said);
            if piece == lines {
                assert_eq!(replies.last().map(String::as_str), Some("421 4.7.0"), "{mechanism}: {replies:?}");
                assert!(replies.len() <= 24, "{mechanism}: {replies:?}");
            } else {
                assert_eq!(replies, ["500 5.5.6"], "{mechanism}: the reply is read by a client that still sends");
                assert!(written + first_octets >= MIB, "{mechanism}: 1 MiB is discarded, not {written} octets");
            }
            assert!(written < 16 * MIB, "{mechanism}: {written} octets were taken");
            sent += written;
        }
        honest.await.expect("it is served meanwhile");
        rounds.push((sent, peak.growth(before)));
    }
    assert_eq!(inbox.len(), rounds.len());
    let (sent, grown) = rounds[0];
    assert!(sent >= 100 * MIB && grown < 32 * MIB, "{grown} octets more for {sent}");
    assert!(rounds[1..].iter().all(|&(_, grown)| grown < 24 * MIB), "a further flood costs nothing more: {rounds:?}");
    println!("octets sent and memory grown, by round: {rounds:?}");
    let events = format!("{:?}", log.events());
    assert!(!events.contains("AAAAAAAA") && !events.contains("QUJDQUJD"), "what came may be a password");
    server.run.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)] // Junk in a loop: the end is told, and nothing grows.
async fn d31_floods_of_junk_end_with_a_reply_that_is_read() {
    let _turn = TURN.lock().await;
    let mut limits = smtp_core::Limits::default();
    limits.error_delay = Duration::from_millis(20);
    let server = start(builder(&Inbox::default(), &Log::default()).limits(limits)).await;
    let before = resident();
    for junk in [
        &b"RSET\r\n"[..],
        b"NOOP\r\n",
        b"VRFY alice\r\n",
        b"HELP\r\n",
        b"EXPN list\r\n",
        b"junk\r\n",
        b"\r\n",
        b"\0\r\n",
    ] {
        let piece: &'static [u8] = Vec::leak(junk.repeat(2000));
        let (_, said) = flood(greeted(&server).await, piece, 2 * MIB).await;
        let replies = replies(&said);
        assert_eq!(replies.last().map(String::as_str), Some("421 4.7.0"), "{junk:?}: {} replies", replies.len());
        assert!(replies.len() <= 102, "{junk:?}: {} replies", replies.len());
    }
    assert!(growth(before) < 8 * MIB, "{}", growth(before));
    server.run.abort();
}

/// Content that is refused early is drained, at most one further message, and never kept (LI18): lines
/// without number and one line without end, in the body and in the header section (SECURITY D-25).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn li18_d25_content_without_end_is_drained_and_refused() {
    static LINE: [u8; 16 << 10] = [b'y'; 16 << 10];
    let _turn = TURN.lock().await;
    let mut limits = smtp_core::Limits::default();
    limits.message_octets = 4 * MIB as u64;
    let server = start(builder(&Inbox::default(), &Log::default()).limits(limits)).await;
    let before = resident();
    let lines: &[u8] = format!("{}\r\n", "y".repeat(62)).repeat(256).leak().as_bytes();
    let body = "Subject: endless\r\n\r\n";
    for (start, piece, expected) in [
        (body, &LINE[..], "552 5.3.4"),
        (body, lines, "552 5.3.4"),
        ("Subject: ", &LINE, "554 5.6.0"),
        ("X-Field: y", lines, "554 5.6.0"),
        (body, &LINE, "552 5.3.4"),
    ] {
        let mut stream = greeted(&server).await;
        let mut octets = [0; 4096];
        for command in ["EHLO client.example\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<alice@example.org>\r\n", "DATA\r\n"] {
            stream.write_all(command.as_bytes()).await.expect("the server reads");
            assert!(stream.read(&mut octets).await.expect("a reply") > 0);
        }
        stream.write_all(start.as_bytes()).await.expect("the server reads");
        let (written, said) = flood(stream, piece, 1024 * MIB).await;
        assert_eq!(replies(&said), [expected], "{start:?}");
        assert!(written < 32 * MIB, "{written}");
    }
    assert!(growth(before) < 12 * MIB, "{}", growth(before));
    server.run.abort();
}

/// Gives one octet at a time to the session, and drops its content.
fn feed(session: &mut ServerSession, now: Instant, octets: impl Iterator<Item = u8>) -> u64 {
    let mut content = 0;
    for octet in octets {
        let piece = [octet];
        let mut input = &piece[..];
        while let Some(step) = session.poll(now, &mut input) {
            match step {
                Step::Content(octets) => content += octets.len() as u64,
                Step::Ask(question) => panic!("no question is expected: {question:?}"),
            }
        }
        session.output_written();
    }
    content
}

#[tokio::test]
async fn d46_growth_by_tiny_steps_does_not_happen() {
    let _turn = TURN.lock().await;
    let mut machine = Machine::with_recipient(without_policies());
    assert_eq!(machine.codes("DATA\r\n"), ["354"]);
    let now = machine.now;
    feed(&mut machine.session, now, b"\r\n".iter().copied());
    let before = resident();
    let lines = 2_000_000;
    let content = feed(&mut machine.session, now, b"\r\n".iter().copied().cycle().take(2 * lines));
    assert_eq!(content, 2 * lines as u64, "empty lines are content");
    assert!(growth(before) < MIB, "{}", growth(before));
    // An endless command line, one octet at a time.
    let mut machine = Machine::greeted(without_policies());
    let now = machine.now;
    let before = resident();
    feed(&mut machine.session, now, std::iter::repeat_n(b'x', MIB + 16));
    assert!(machine.is_closed());
    assert!(growth(before) < MIB / 2, "{}", growth(before));
}

/// Many sessions, each in the middle of a command line: LI14 holds for what an idle session keeps.
#[tokio::test]
async fn li14_half_a_command_costs_no_more_than_itself() {
    let _turn = TURN.lock().await;
    let config = Arc::new(without_policies());
    let connection = Machine::new((*config).clone()).session.connection().clone();
    let now = Instant::now();
    let count = 5000;
    let before = resident();
    let mut sessions = Vec::new();
    for _ in 0..count {
        let mut session = ServerSession::new(config.clone(), connection.clone(), now);
        feed(&mut session, now, b"x".iter().copied());
        feed(&mut session, now, b"EHLO client.example\r\nMAIL FR".iter().copied());
        sessions.push(session);
    }
    if before.is_some() {
        assert!(growth(before) / count < 8 << 10, "{} octets for each session", growth(before) / count);
    }
}
