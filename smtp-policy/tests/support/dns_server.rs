//! A name server on the loopback interface that says what a test wants, by UDP and by TCP.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, rdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
}

/// What it says to a question: nothing, or one message after the other.
type Respond = dyn Fn(&Message, Way) -> Vec<Vec<u8>> + Send + Sync;

/// It stops when it is dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl DnsServer {
    pub(crate) async fn start(respond: impl Fn(&Message, Way) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let respond: Arc<Respond> = Arc::new(respond);
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().expect("a bound socket");
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let (counter, by_udp) = (asked.clone(), respond.clone());
        tasks.spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                counter.fetch_add(1, Ordering::Relaxed);
                for answer in by_udp(&question, Way::Udp) {
                    udp.send_to(&answer, from).await.ok();
                }
            }
        });
        let counter = asked.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                // One after the other will do.
                serve_tcp(stream, &*respond, &counter).await.ok();
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    /// How many questions came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve_tcp(mut stream: TcpStream, respond: &Respond, counter: &AtomicUsize) -> std::io::Result<()> {
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let Ok(question) = Message::from_vec(&buffer) else { return Ok(()) };
    counter.fetch_add(1, Ordering::Relaxed);
    for answer in respond(&question, Way::Tcp) {
        stream.write_u16(u16::try_from(answer.len()).expect("an answer of a test is short")).await?;
        stream.write_all(&answer).await?;
    }
    Ok(())
}

/// Two of the same port.
async fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("a bound socket")).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

/// An answer to this question, so far without records.
pub(crate) fn answer(question: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.queries.clone_from(&question.queries);
    message
}

/// The octets of a message, alone.
pub(crate) fn alone(message: &Message) -> Vec<Vec<u8>> {
    vec![message.to_vec().expect("a message")]
}

/// What a message asks for: the name, in lower case and without a final dot, and the type.
pub(crate) fn asked_for(question: &Message) -> (String, RecordType) {
    let query = question.queries.first().expect("one question");
    let labels: Vec<_> = query.name().iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    (labels.join("."), query.query_type())
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_labels(text.split('.').map(str::as_bytes)).expect("a name")
}

pub(crate) fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

pub(crate) fn address(owner: &str, address: &str) -> Record {
    record(owner, 300, RData::A(rdata::A(address.parse().expect("an address"))))
}

pub(crate) fn alias(owner: &str, target: &str) -> Record {
    record(owner, 300, RData::CNAME(rdata::CNAME(name(target))))
}

/// What says how long it holds that there is nothing.
pub(crate) fn authority(zone: &str, ttl: u32) -> Record {
    record(zone, ttl, RData::SOA(rdata::SOA::new(name("ns.example"), name("root.example"), 1, 1, 1, 1, ttl)))
}
