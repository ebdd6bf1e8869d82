//! A server that listens on a Unix socket: who may connect, what clients are there, and what becomes of the file.
#![cfg(unix)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use smtp_core::{
    Bytes, ClientConfig, ClientConnection, ConfigError, ConnectionLimits, Envelope, Error, Listener, Server,
    ServerHandle,
};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::support::client::Client;
use crate::support::world::{Inbox, Log, builder};

/// A directory, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("smtp");
    (directory, path)
}

async fn bind(listener: Listener) -> Result<Server, Error> {
    builder(&Inbox::default(), &Log::default()).listener(listener).bind().await
}

async fn start(inbox: &Inbox, listener: Listener) -> (ServerHandle, JoinHandle<Result<(), Error>>) {
    // A single client of any address would be too many.
    let mut limits = ConnectionLimits::default();
    (limits.per_address, limits.per_network) = (0, 0);
    let builder = builder(inbox, &Log::default()).connection_limits(limits).listener(listener);
    let server = builder.bind().await.expect("nobody else listens there");
    (server.handle(), tokio::spawn(server.run()))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_client_delivers_over_a_unix_socket_by_smtp_and_by_lmtp() {
    for is_lmtp in [false, true] {
        let (_directory, path) = place();
        let inbox = Inbox::default();
        let listener = Listener::unix(&path);
        let config = ClientConfig::new("client.example").expect("a name");
        let (listener, config) = if is_lmtp { (listener.lmtp(), config.with_lmtp()) } else { (listener, config) };
        let (handle, running) = start(&inbox, listener).await;
        let envelope = Envelope::parse("a@client.example", ["alice@example.org", "nobody@example.org"]);
        let envelope = envelope.expect("mailboxes");
        for _ in 0..2 {
            let mut client = ClientConnection::connect_unix(&path, &config).await.expect("it is greeted");
            let report = client.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
            let delivered: Vec<_> = report.recipients().iter().map(Result::is_ok).collect();
            assert_eq!(delivered, [true, false], "LMTP: {is_lmtp}");
            client.quit().await;
        }
        handle.shut_down();
        running.await.expect("no panic").expect("it stops");
        assert_eq!(inbox.len(), 2);
        let nowhere: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let messages = inbox.messages();
        let connection = messages[0].connection();
        assert_eq!((connection.peer(), connection.local()), (nowhere, nowhere));
        assert!(!path.exists(), "the file goes with the server");
    }
}

#[tokio::test]
async fn many_clients_of_a_unix_socket_are_not_one_client() {
    let (_directory, path) = place();
    let (_handle, running) = start(&Inbox::default(), Listener::unix(&path)).await;
    let mut clients = Vec::new();
    for _ in 0..60 {
        let mut client = Client::new(UnixStream::connect(&path).await.expect("it listens"));
        client.expect("220").await;
        clients.push(client);
    }
    running.abort();
}

#[tokio::test]
async fn who_may_connect_is_said_by_the_permissions_of_the_file() {
    for (said, expected) in [(None, 0o660), (Some(0o600), 0o600), (Some(0o666), 0o666)] {
        let (_directory, path) = place();
        let listener = said.into_iter().fold(Listener::unix(&path), Listener::socket_mode);
        let server = bind(listener).await.expect("nobody listens there");
        assert_eq!(mode(&path), expected, "{said:?}");
        assert_eq!(server.local_addresses(), ["127.0.0.1:0".parse().expect("an address")]);
        drop(server);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn only_a_socket_on_which_nobody_answers_is_replaced() {
    let (_directory, path) = place();
    let why = |result: Result<Server, Error>| match result {
        Err(Error::Listen { address, source }) => {
            assert_eq!(address, format!("unix:{}", path.display()));
            source.kind()
        }
        other => panic!("{other:?}"),
    };
    // Dropped without a word, as by a crash: the file stays.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("nothing is there"));
    assert!(path.exists());
    let first = bind(Listener::unix(&path)).await.expect("nobody answers there");
    assert_eq!(why(bind(Listener::unix(&path)).await), std::io::ErrorKind::AddrInUse);
    assert!(path.exists(), "the socket of the first server stays");
    drop(first);

    fs::write(&path, "a file of somebody").expect("the directory is ours");
    assert_eq!(why(bind(Listener::unix(&path)).await), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).expect("it is there"), b"a file of somebody");
    fs::remove_file(&path).expect("it is there");

    let elsewhere = path.with_file_name("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("nothing is there");
    assert_eq!(why(bind(Listener::unix(&path)).await), std::io::ErrorKind::AlreadyExists);
    assert!(!elsewhere.exists(), "nothing is made where a link points");
}

#[tokio::test]
async fn a_file_that_is_another_servers_by_now_is_left_alone() {
    let (_directory, path) = place();
    let first = bind(Listener::unix(&path)).await.expect("nobody listens there");
    // Kept under another name, so that its inode is not given to the next file.
    fs::rename(&path, path.with_file_name("old")).expect("it is there");
    let second = bind(Listener::unix(&path)).await.expect("the name is free");
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn tls_and_proxies_have_no_place_on_a_unix_socket() {
    let (_directory, path) = place();
    let address = format!("unix:{}", path.display());
    let tls = crate::support::tls::server_tls();
    for (listener, expected) in [
        (Listener::unix(&path).tls(tls.clone()), ConfigError::TlsOnUnixSocket(address.clone())),
        (Listener::unix(&path).implicit_tls(), ConfigError::TlsOnUnixSocket(address.clone())),
        (
            Listener::unix(&path).behind_proxy("127.0.0.1/32".parse().expect("a network")),
            ConfigError::ProxyOnUnixSocket(address.clone()),
        ),
    ] {
        assert!(matches!(bind(listener).await, Err(Error::Config(error)) if error == expected), "{expected}");
        assert!(!path.exists());
    }
    // The certificate of the server is for the others.
    let builder = builder(&Inbox::default(), &Log::default()).tls(tls).listener(Listener::unix(&path));
    let server = builder.bind().await.expect("nobody listens there");
    let running = tokio::spawn(server.run());
    let mut client = Client::new(UnixStream::connect(&path).await.expect("it listens"));
    client.expect("220").await;
    client.ask("EHLO client.example", "250").await;
    client.ask("STARTTLS", "502").await;
    running.abort();
}
