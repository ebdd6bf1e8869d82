//! A filter by script: what it agrees to, what it says to which command, and where it dies. It keeps what it was told.

use std::sync::{Arc, Mutex, PoisonError};

use smtp_policy::FilterAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One packet of the protocol.
pub(crate) fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).expect("short");
    [&length.to_be_bytes()[..], &[kind], data].concat()
}

/// What a filter does when it reads a command.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Says these octets.
    Says(Vec<u8>),
    /// Says these, and leaves.
    SaysAndLeaves(Vec<u8>),
    /// Says nothing more.
    Hangs,
    /// Says these, and again each time that it has waited so many milliseconds, so many times; then these.
    Works(u64, u32, Vec<u8>),
}

/// A filter by script.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// Its answer to the negotiation.
    pub(crate) agrees: Vec<u8>,
    /// Its flags, by which it does not answer.
    protocol: u32,
    acts: Vec<(u8, Act)>,
}

/// All that it may do.
pub(crate) const EVERYTHING: u32 = 0xff;

impl Script {
    /// One that says `continue` to everything.
    pub(crate) fn new() -> Self {
        Self::agreeing(EVERYTHING, 0)
    }

    pub(crate) fn agreeing(actions: u32, protocol: u32) -> Self {
        let numbers = [6, actions, protocol].map(u32::to_be_bytes).concat();
        Self { agrees: packet(b'O', &numbers), protocol, acts: Vec::new() }
    }

    pub(crate) fn on(mut self, letter: u8, act: Act) -> Self {
        self.acts.push((letter, act));
        self
    }

    /// Says these octets to that command.
    pub(crate) fn says(self, letter: u8, octets: Vec<u8>) -> Self {
        self.on(letter, Act::Says(octets))
    }

    /// Whether it has nothing to say to that command.
    fn is_silent(&self, letter: u8) -> bool {
        let flag = match letter {
            b'C' => 0x1000,
            b'H' => 0x2000,
            b'M' => 0x4000,
            b'R' => 0x8000,
            b'T' => 0x1_0000,
            b'N' => 0x4_0000,
            b'B' => 0x8_0000,
            b'L' => 0x80,
            b'D' | b'A' | b'Q' => return true,
            _ => 0,
        };
        self.protocol & flag != 0
    }

    /// Listens.
    pub(crate) async fn start(self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = format!("inet:{}", listener.local_addr().expect("bound")).parse().expect("host and port");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let running = Running { address, heard: heard.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().serve(stream, heard.clone()));
            }
        });
        running
    }

    async fn serve(self, mut stream: TcpStream, heard: Arc<Mutex<Vec<String>>>) -> Option<()> {
        loop {
            let length = stream.read_u32().await.ok()?;
            let mut data = vec![0; usize::try_from(length).ok()?];
            stream.read_exact(&mut data).await.ok()?;
            let (letter, told) = data.split_first()?;
            // Numbers are no text.
            let told = if *letter == b'O' { &[] } else { told };
            let text: String = String::from_utf8_lossy(told).chars().map(|c| if c == '\0' { '|' } else { c }).collect();
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}{text}", char::from(*letter)));
            if *letter == b'O' {
                stream.write_all(&self.agrees).await.ok()?;
                continue;
            }
            match self.acts.iter().find(|(other, _)| other == letter).map(|(_, act)| act.clone()) {
                Some(Act::Says(octets)) => stream.write_all(&octets).await.ok()?,
                Some(Act::SaysAndLeaves(octets)) => {
                    stream.write_all(&octets).await.ok()?;
                    return None;
                }
                Some(Act::Hangs) => {
                    while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
                    return None;
                }
                Some(Act::Works(milliseconds, times, octets)) => {
                    for _ in 0..times {
                        stream.write_all(&packet(b'p', b"")).await.ok()?;
                        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
                    }
                    stream.write_all(&octets).await.ok()?;
                }
                None if self.is_silent(*letter) => {}
                None => stream.write_all(&packet(b'c', b"")).await.ok()?,
            }
        }
    }
}

/// A filter that listens.
pub(crate) struct Running {
    pub(crate) address: FilterAddress,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// The commands that it was told, with `|` for each NUL; without macros.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.all().into_iter().filter(|told| !told.starts_with('D')).collect()
    }

    /// The letters of the commands.
    pub(crate) fn letters(&self) -> String {
        self.commands().iter().filter_map(|told| told.chars().next()).collect()
    }

    /// Everything.
    pub(crate) fn all(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
