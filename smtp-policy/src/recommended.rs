//! What the practices ask of a server that takes mail of strangers, in one line.

use std::sync::Arc;

use smtp_core::{Domain, Resolver};

use crate::arc::ArcChain;
use crate::chain::Chain;
use crate::dkim::Dkim;
use crate::dmarc::Dmarc;
use crate::greylist::Greylist;
use crate::header_sanity::HeaderSanity;
use crate::helo::Helo;
use crate::loop_window::LoopWindow;
use crate::null_sender::NullSender;
use crate::practice::Preset;
use crate::reverse_dns::ReverseDns;
use crate::sender_domain::SenderDomain;
use crate::spf::Spf;
use crate::state::StateStore;

/// Everything that needs nobody but DNS and a memory: the client's names, its greeting, the reverse-path, SPF, DKIM, ARC, DMARC,
/// the header section, loops, and greylisting of strangers who score. What is found of the author is written into `Authentication-Results`, with the name
/// of `host`.
///
/// `host` is the name of the server, `domains` are those that it takes mail for: no stranger may claim them in its greeting.
/// Lists of others, filters and exceptions are added to it: [`Chain::with`], [`Chain::trusting`], [`Chain::with_action`].
/// [`Preset::Bcp`] is what most servers want.
///
/// ```
/// use smtp_core::{Accepted, Message, ResolverTable, Server};
/// use smtp_policy::{MemoryStateStore, Preset};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let host = "mx.example.org".parse()?;
/// let domains = ["example.org".parse()?];
/// let dns = ResolverTable::new(); // `HickoryResolver::from_system()` asks the network
/// let memory = MemoryStateStore::new(); // `FileStateStore::open` keeps it over restarts
/// let server = Server::builder("mx.example.org")
///     .local_domain("example.org")
///     .policy(smtp_policy::recommended(Preset::Bcp, &host, domains, dns, memory))
///     .deliver(|_: Message| async { Ok(Accepted::all()) });
/// # Ok(())
/// # }
/// ```
pub fn recommended(
    preset: Preset,
    host: &Domain,
    domains: impl IntoIterator<Item = Domain>,
    resolver: impl Resolver + 'static,
    memory: impl StateStore + 'static,
) -> Chain {
    let dns: Arc<dyn Resolver> = Arc::new(resolver);
    let helo = Helo::new(dns.clone()).with_domain(host.clone());
    let memory: Arc<dyn StateStore> = Arc::new(memory);
    let greylist = Greylist::new(memory.clone());
    Chain::new("recommended", preset)
        .reporting_as(host)
        .with(ReverseDns::new(dns.clone()))
        .with(domains.into_iter().fold(helo, Helo::with_domain))
        .with(SenderDomain::new(dns.clone()))
        .with(NullSender)
        .with(HeaderSanity)
        .with(LoopWindow::new(memory))
        .with(Spf::new(dns.clone()).named(host))
        .with(Dkim::new(dns.clone()))
        .with(ArcChain::new(dns.clone()))
        .with(Dmarc::new(dns))
        .with(greylist.clone())
        .with_greylisting(greylist)
}
