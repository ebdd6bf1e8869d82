//! Accepts every message for anybody and discards it: the yardstick for benches.
//!
//! `cargo run --release --example sink -- --help` lists what can be raised above the defaults of a public server.

use clap::Parser;
use smtp_core::{
    Accepted, Connection, ConnectionLimits, ContentSettings, ForwardPath, Limits, Lookup, LookupError, Message,
    RecipientLookup, Server, Transaction, async_trait,
};

#[derive(Debug, Parser)]
struct Options {
    /// Where to listen; loopback, because it takes mail for anybody
    #[arg(default_value = "127.0.0.1:2525")]
    address: String,
    /// Threads; 1 means that everything runs on the main thread
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Connections in all
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Messages in a session
    #[arg(long, default_value_t = 1_000)]
    transactions: u32,
    /// Octets of a message that are kept in memory; larger ones go to a file
    #[arg(long, default_value_t = 256 << 10)]
    memory: usize,
}

/// Every mailbox exists.
struct Anybody;

#[async_trait]
impl RecipientLookup for Anybody {
    async fn lookup(&self, _: &Connection, _: &Transaction, _: &ForwardPath) -> Result<Lookup, LookupError> {
        Ok(Lookup::Mailbox)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let runtime = if options.threads > 1 {
        tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()?
    } else {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    };
    Ok(runtime.block_on(run(options))?)
}

async fn run(options: Options) -> Result<(), smtp_core::Error> {
    let mut limits = Limits::default();
    limits.transactions = options.transactions;
    let mut connections = ConnectionLimits::default();
    connections.total = options.connections;
    let mut content = ContentSettings::default();
    content.memory_octets = options.memory;
    let server = Server::builder("sink.localhost")
        .recipients(Anybody)
        .limits(limits)
        .connection_limits(connections)
        .content(content)
        .deliver(|_: Message| async { Ok(Accepted::all()) })
        .graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .listen(&options.address)
        .await?;
    println!("sink: {:?}, {options:?}", server.local_addresses());
    server.run().await
}
