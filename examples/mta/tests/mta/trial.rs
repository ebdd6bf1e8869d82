//! A server that was never configured: its certificate, its user, and what each of its ports is for.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use crate::common::{Mta, files, mta};
use smtp_core::{
    Bytes, ClientAuth, ClientConfig, ClientConnection, ClientTls, Envelope, Secret, SendError, SendReport,
};

/// What `mta` has without a configuration, but for the ports.
const TRIAL: &str = "trial = true\n\
    [[listener]]\naddress = \"127.0.0.1:0\"\nservice = \"mx\"\n\
    [[listener]]\naddress = \"127.0.0.1:0\"\nservice = \"submission\"\n\
    [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"implicit\"\nservice = \"mixed\"\n";

/// The addresses that it listens on, in their order.
fn addresses(mta: &Mta) -> Vec<SocketAddr> {
    let lines = mta.introduction.lines().filter_map(|line| line.strip_prefix("listening on  "));
    lines.map(|line| line.split(' ').next().expect("an address").parse().expect("an address")).collect()
}

fn root(mta: &Mta) -> String {
    fs::read_to_string(mta.data.join("tls/ca.pem")).expect("an authority")
}

/// What stands behind `alice@localhost has`.
fn shown_password(mta: &Mta) -> Option<String> {
    let line = mta.introduction.lines().find_map(|line| line.strip_prefix("password      alice@localhost has  "));
    line.map(str::to_owned)
}

/// A message of alice, under TLS.
fn send(
    address: SocketAddr,
    is_implicit: bool,
    root: &str,
    password: Option<&str>,
    to: &str,
) -> Result<SendReport, SendError> {
    let mut tls = ClientTls::verified_with_roots(["localhost"], root.as_bytes()).expect("a root");
    if is_implicit {
        tls = tls.implicit();
    }
    let mut config = ClientConfig::new("client.example").expect("a name").with_tls(tls);
    if let Some(password) = password {
        config = config.with_auth(ClientAuth::password("alice@localhost", Secret::new(password)));
    }
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let mut connection = ClientConnection::connect(address, &config).await?;
        let envelope = Envelope::parse("alice@localhost", [to]).expect("valid");
        let report = connection.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
        connection.quit().await;
        Ok(report)
    })
}

#[test] // RFC 6409, RFC 8314 §3.3; PRACTICES L3 to L8
fn a_server_that_was_never_configured_takes_mail_of_its_user() {
    let mut mta = Mta::with_listeners(TRIAL);
    let [mx, submission, mixed] = addresses(&mta)[..] else { panic!("{}", mta.introduction) };
    let (root, password) = (root(&mta), shown_password(&mta).expect("it is shown at the first start"));
    let known = Some(&*password);
    let alice = "alice@localhost";

    for (address, is_implicit) in [(submission, false), (mixed, true)] {
        assert!(send(address, is_implicit, &root, known, alice).expect("she is known").is_delivered());
        let elsewhere = send(address, is_implicit, &root, known, "bob@example.org").expect("she is known");
        assert!(format!("{elsewhere:?}").contains("No way to other hosts"), "{elsewhere:?}");
        let wrong = send(address, is_implicit, &root, Some("looking-glass"), alice).expect_err("another password");
        assert!(wrong.to_string().contains("535 5.7.8"), "{wrong}");
    }
    let copies = mta.delivered("localhost/alice");
    assert_eq!(copies.len(), 2);
    for copy in copies {
        let text = fs::read_to_string(copy).expect("a copy");
        assert!(text.replace("\r\n", "").contains(" with ESMTPSA id "), "{text}");
        assert!(text.contains("\r\nDate: ") && text.contains("\r\nMessage-ID: "), "RFC 6409 §8: {text}");
    }

    // Who has no password is a mail server like any, on two of the three ports.
    assert!(send(mx, false, &root, None, alice).expect("it answers").is_delivered());
    assert!(send(mixed, true, &root, None, alice).expect("it answers").is_delivered());
    let refused =
        |address, is_implicit, to| format!("{:?}", send(address, is_implicit, &root, None, to).expect("it answers"));
    assert!(refused(submission, false, alice).contains("Authentication required"));
    assert!(refused(mx, false, "bob@example.org").contains("Relaying denied\""));
    assert!(refused(mixed, true, "bob@example.org").contains("Relaying denied, authenticate first"));
    let strangers = mta.delivered("localhost/alice");
    let untouched = strangers.iter().filter(|copy| !fs::read_to_string(copy).is_ok_and(|text| text.contains("Date: ")));
    assert_eq!((strangers.len(), untouched.count()), (4, 2), "R6409a: mail of others is not completed");

    mta.terminate();
    let log = mta.log();
    assert!(!log.contains(&password) && !log.contains("looking-glass"), "{log}");
}

#[test] // SECURITY.md D-39
fn d39_authority_and_password_stay_and_are_shown_once() {
    let mut mta = Mta::with_listeners(TRIAL);
    let (first_root, password) = (root(&mta), shown_password(&mta).expect("shown"));
    let certificate = fs::read(mta.data.join("tls/server.pem")).expect("a certificate");
    for file in files(&mta.data.join("tls")) {
        let mode = fs::metadata(&file).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
        let text = fs::read_to_string(&file).expect("text");
        assert!(!text.contains(&password), "only its keys are kept");
    }
    mta.terminate();
    let again = mta.restarted();
    assert_eq!((shown_password(&again), root(&again)), (None, first_root.clone()));
    assert!(again.introduction.contains("/tls/ca.pem\n"), "{}", again.introduction);
    assert!(again.introduction.contains("another one: mta password alice@localhost >"), "{}", again.introduction);
    assert_ne!(fs::read(again.data.join("tls/server.pem")).expect("there"), certificate, "a new one at each start");
    let submission = addresses(&again)[1];
    let sent = send(submission, false, &first_root, Some(&password), "alice@localhost");
    assert!(sent.expect("the authority and the password are the same").is_delivered());
}

#[test] // A password that nobody saw is made anew.
fn a_start_that_fails_keeps_no_password_from_its_user() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address");
    let config = TRIAL.replacen("127.0.0.1:0", &port.to_string(), 1);
    fs::write(directory.path().join("mta.toml"), &config).expect("written");
    let output = mta().args(["run", "--config", "mta.toml"]).current_dir(directory.path()).output().expect("it runs");
    assert!(!output.status.success(), "the port is taken: {output:?}");
    drop(taken);
    let mta = Mta::with_listeners_in(&config, directory);
    assert!(shown_password(&mta).is_some(), "{}", mta.introduction);
}

#[test] // Who says where to listen asks for a server of mail servers: nobody could use a password there.
fn with_other_addresses_there_is_nothing_to_try() {
    let mta = Mta::start();
    assert!(!mta.introduction.contains("STARTTLS") && !mta.introduction.contains("password"), "{}", mta.introduction);
    assert!(!mta.data.join("tls").exists());
}
