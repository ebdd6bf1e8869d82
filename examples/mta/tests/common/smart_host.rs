//! A next hop that does as it is told, and keeps what it took.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A message that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The client's address, and how it introduced itself.
    pub(crate) client: (IpAddr, String),
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) content: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    /// What is said to `RCPT`, where it is not `250`.
    replies: HashMap<String, String>,
    taken: Vec<Taken>,
}

#[derive(Debug)]
pub(crate) struct SmartHost {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

impl SmartHost {
    pub(crate) fn start() -> Self {
        Self::at(nobody())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let (state, has_ended) = (Arc::<Mutex<State>>::default(), Arc::<AtomicBool>::default());
        let (for_thread, ended) = (state.clone(), has_ended.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let state = for_thread.clone();
                // It ends when the client leaves.
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state, has_ended, thread: Some(thread) }
    }

    /// From now on that is said of a recipient.
    pub(crate) fn says(&self, recipient: &str, reply: &str) {
        self.state.lock().expect("no panic").replies.insert(recipient.to_owned(), reply.to_owned());
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.lock().expect("no panic").taken.clone()
    }
}

impl Drop for SmartHost {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut output = stream.try_clone().ok()?;
    let mut client = (stream.peer_addr().ok()?.ip(), String::new());
    let mut input = BufReader::new(stream);
    let mut say = move |reply: &str| output.write_all(format!("{reply}\r\n").as_bytes()).ok();
    say("220 smart.example ESMTP")?;
    let mut message = Taken { client: client.clone(), from: String::new(), to: Vec::new(), content: Vec::new() };
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let path = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        match line.get(..4)? {
            "EHLO" => {
                line.get(5..)?.trim_end().clone_into(&mut client.1);
                say("250-smart.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250 8BITMIME")?;
            }
            "MAIL" => {
                message = Taken { client: client.clone(), from: path, to: Vec::new(), content: Vec::new() };
                say("250 2.1.0 Ok")?;
            }
            "RCPT" => {
                let reply = state.lock().expect("no panic").replies.get(&path).cloned();
                if reply.as_ref().is_none_or(|reply| reply.starts_with('2')) {
                    message.to.push(path);
                }
                say(reply.as_deref().unwrap_or("250 2.1.5 Ok"))?;
            }
            "DATA" if message.to.is_empty() => say("554 5.5.1 No valid recipients")?,
            "DATA" => {
                say("354 Go ahead")?;
                message.content = content(&mut input)?;
                state.lock().expect("no panic").taken.push(message.clone());
                say("250 2.0.0 Taken")?;
            }
            "QUIT" => return say("221 2.0.0 Bye"),
            _ => say("250 2.0.0 Ok")?,
        }
    }
}

fn content(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line).ok().filter(|octets| *octets > 0)?;
        if line == b".\r\n" {
            return Some(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
