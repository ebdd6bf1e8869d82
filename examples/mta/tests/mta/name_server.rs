//! A name server on the loopback interface, for a program in a process of its own: it knows a few records by heart, and answers
//! that there is nothing else.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;

/// It stops when it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    has_stopped: Arc<AtomicBool>,
}

impl NameServer {
    /// With lines like `example.org MX 10 mx.example.org`.
    pub(crate) fn start(records: &[&str]) -> Self {
        let records: Vec<_> = records.iter().map(|line| record(line)).collect();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        let address = socket.local_addr().expect("an address");
        let has_stopped = Arc::new(AtomicBool::new(false));
        let stopped = has_stopped.clone();
        std::thread::spawn(move || {
            let mut question = [0; 1024];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = answer(&question[..length], &records) {
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { address, has_stopped }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }
}

/// Its name as on the wire, its type, and its data.
type Record = (Vec<u8>, u16, Vec<u8>);

fn record(line: &str) -> Record {
    let mut words = line.splitn(3, ' ');
    let (owner, kind, data) = (words.next(), words.next(), words.next().unwrap_or_default());
    let (kind, data) = match kind {
        Some("A") => (A, data.parse::<Ipv4Addr>().expect("an address").octets().to_vec()),
        Some("NS") => (NS, name(data)),
        Some("PTR") => (PTR, name(data)),
        // Its numbers are of no interest.
        Some("SOA") => (SOA, [name("ns1.example.org"), name(data), vec![0; 20]].concat()),
        Some("MX") => {
            let (preference, host) = data.split_once(' ').expect("two words");
            let preference: u16 = preference.parse().expect("a number");
            (MX, [preference.to_be_bytes().to_vec(), name(host)].concat())
        }
        Some("TXT") => (TXT, [vec![u8::try_from(data.len()).expect("one string")], data.into()].concat()),
        other => panic!("{other:?} is no type here"),
    };
    (name(owner.expect("a name")), kind, data)
}

fn name(text: &str) -> Vec<u8> {
    let label = |label: &str| [vec![u8::try_from(label.len()).expect("a label")], label.into()].concat();
    text.split('.').flat_map(label).chain([0]).collect()
}

/// RFC 1035 §4.1: the header, the question, and what is known.
fn answer(question: &[u8], records: &[Record]) -> Option<Vec<u8>> {
    let body = question.get(12..)?;
    let end = body.iter().position(|octet| *octet == 0)? + 1;
    let (asked, kind) = (body.get(..end)?.to_ascii_lowercase(), body.get(end..end + 2)?);
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    let found: Vec<_> = records.iter().filter(|record| record.0 == asked && record.1 == kind).collect();
    let mut answer = question[..2].to_vec();
    // An answer, recursion wanted and available, no error; one question.
    answer.extend([0x81, 0x80, 0, 1]);
    answer.extend(u16::try_from(found.len()).ok()?.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(body.get(..end + 4)?);
    for (owner, kind, data) in found {
        answer.extend(owner);
        answer.extend(kind.to_be_bytes());
        // Class IN, a minute.
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}
