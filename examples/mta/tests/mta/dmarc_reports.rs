//! Reports of DMARC: what was collected before a restart goes out through the queue, once.

use std::path::Path;
use std::time::{Duration, SystemTime};

use smtp_core::{Accepted, Listener, Message, ResolverTable, Server};
use smtp_policy::{Chain, Dkim, Dmarc, DmarcReports, FileStateStore, Preset, Spf};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::common::smart_host::SmartHost;
use crate::common::{Mta, wait_until};

/// What a server would have counted two days ago: one message that forged an author of `client.example`.
async fn collect(state: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let dns = ResolverTable::new().with_txt("_dmarc.client.example", "v=DMARC1; p=none; rua=mailto:rua@client.example");
    let store = FileStateStore::open(state)?;
    let reports = DmarcReports::new(store, "dmarc@localhost".parse()?)
        .with_clock(|| SystemTime::now() - Duration::from_secs(2 * 86_400));
    let chain = Chain::new("author", Preset::Bcp)
        .with(Spf::new(dns.clone()))
        .with(Dkim::new(dns.clone()))
        .with(Dmarc::new(dns))
        .recorded_by(reports);
    let server = Server::builder("mx.example.org")
        .local_domain("example.org")
        .policy(chain)
        .listener(Listener::new("127.0.0.1:0").refuse_early_talkers(false))
        .deliver(|_: Message| async { Ok(Accepted::all()) })
        .bind()
        .await?;
    let (mut client, stream) = duplex(1 << 16);
    let said = "EHLO a.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<u@example.org>\r\nDATA\r\n\
                From: <me@client.example>\r\n\r\nx\r\n.\r\nQUIT\r\n";
    client.write_all(said.as_bytes()).await?;
    server.serve_connection(stream, "192.0.2.9:1".parse()?, "192.0.2.25:25".parse()?).await;
    let mut replies = String::new();
    client.read_to_string(&mut replies).await?;
    assert!(replies.contains("250 2.0.0"), "{replies}");
    Ok(())
}

#[test] // RFC 9990 §3.5; SECURITY D-40
fn r9990_what_was_collected_goes_out_once() -> Result<(), Box<dyn std::error::Error>> {
    let hub = SmartHost::start();
    let config = format!(
        "users = [\"alice@localhost\"]\n[relay]\nsmart_host = \"{}\"\n[policy]\ndns = [\"127.0.0.1:1\"]\n\
         [aliases]\n\"dmarc@localhost\" = [\"alice@localhost\"]\n[policy.dmarc_reports]\nenabled = ENABLED\nfrom = \"dmarc@localhost\"\norganization = \"Example\"\n",
        hub.address
    );
    let mut mta = Mta::with_config(&config.replace("ENABLED", "false"));
    mta.terminate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(collect(&mta.data.join(".state")))?;
    std::fs::write(mta.directory.path().join("mta.toml"), config.replace("ENABLED", "true"))?;
    let mut mta = mta.restarted();
    wait_until("the report is taken", || !hub.taken().is_empty());
    mta.logged("queued a report of DMARC");
    mta.terminate();
    let mut mta = mta.restarted();
    mta.terminate();
    let taken = hub.taken();
    let [report] = &taken[..] else { panic!("one report: {taken:?}") };
    assert_eq!((report.from.as_str(), &report.to[..]), ("dmarc@localhost", &["rua@client.example".to_owned()][..]));
    let text = String::from_utf8_lossy(&report.content);
    assert!(
        text.contains("Subject: Report Domain: client.example\r\n Submitter: localhost\r\n Report-ID: <"),
        "{text}"
    );
    assert!(text.contains("filename=\"localhost!client.example!"), "{text}");
    Ok(())
}
