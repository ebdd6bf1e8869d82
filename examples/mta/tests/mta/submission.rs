//! Users with passwords: who they are, where their mail goes, and that nobody else sends anything.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::common::{Mta, mta, text};
use rcgen::generate_simple_self_signed;
use rustix::process::{Pid, Signal, kill_process};
use smtp_core::{
    Bytes, ClientAuth, ClientConfig, ClientConnection, ClientTls, Envelope, Mechanism, Mechanisms, Secret, SendError,
    SendReport,
};

/// What `mta password` prints.
fn line(user: &str, password: &str) -> String {
    line_with(&[], user, password)
}

fn line_with(options: &[&str], user: &str, password: &str) -> String {
    let mut command = mta();
    command.arg("password").args(options).arg(user).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(format!("{password}\n").as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    text(&output.stdout)
}

fn write_users(path: &Path, lines: &[String]) {
    fs::write(path, lines.concat()).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

struct Client {
    runtime: tokio::runtime::Runtime,
    config: ClientConfig,
}

impl Client {
    fn new(root: &str, auth: Option<ClientAuth>) -> Self {
        let tls = ClientTls::verified_with_roots(["mx.example.org"], root.as_bytes()).expect("a name and a root");
        let mut config = ClientConfig::new("client.example").expect("a name").with_tls(tls);
        if let Some(auth) = auth {
            config = config.with_auth(auth);
        }
        Self { runtime: tokio::runtime::Runtime::new().expect("a runtime"), config }
    }

    fn send(&self, mta: &Mta, from: &str, to: &str) -> Result<SendReport, SendError> {
        self.runtime.block_on(async {
            let mut connection = ClientConnection::connect(mta.address, &self.config).await?;
            let envelope = Envelope::parse(from, [to]).expect("valid");
            let report = connection.send(&envelope, Bytes::from("Subject: x\r\n\r\nx\r\n")).await;
            connection.quit().await;
            Ok(report)
        })
    }
}

#[test] // RFC 6409 §4.3, §6.1; PRACTICES S25, S26
fn who_has_a_password_sends_anywhere_and_nobody_else_sends_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let made = generate_simple_self_signed(["mx.example.org".to_owned()]).expect("a name");
    let root = made.cert.pem();
    fs::write(path.join("mx.pem"), &root).expect("written");
    fs::write(path.join("mx.key"), made.signing_key.serialize_pem()).expect("written");
    let users = path.join("users");
    write_users(&users, &[line("alice@localhost", "wonderland")]);
    let elsewhere = Mta::with_config("domains = [\"example.org\"]\nmailboxes = \"any\"\n");
    let place = path.display();
    let mta = Mta::with_listeners(&format!(
        "passwords = \"{place}/users\"\n[relay]\nsmart_host = \"{}\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\nservice = \"submission\"\n\
         [[certificate]]\nchain = \"{place}/mx.pem\"\nkey = \"{place}/mx.key\"\n",
        elsewhere.address
    ));
    assert!(mta.introduction.contains("  STARTTLS  for users with a password\n"), "{}", mta.introduction);

    for mechanism in [Mechanism::ScramSha256, Mechanism::Plain] {
        let auth = |user: &str, password: &str| {
            ClientAuth::password(user, Secret::new(password)).only(Mechanisms::from([mechanism]))
        };
        let alice = Client::new(&root, Some(auth("alice@localhost", "wonderland")));
        assert!(alice.send(&mta, "alice@localhost", "bob@example.org").expect("she is known").is_delivered());
        let refused = alice.send(&mta, "bob@localhost", "bob@example.org").expect("she is known");
        assert!(format!("{refused:?}").contains("code: 550"), "{refused:?}");
        for (user, password) in [("alice@localhost", "looking-glass"), ("carol@localhost", "wonderland")] {
            let error = Client::new(&root, Some(auth(user, password))).send(&mta, user, "bob@example.org");
            assert!(error.is_err_and(|error| error.to_string().contains("535 5.7.8")), "{user}");
        }
    }
    let stranger = Client::new(&root, None).send(&mta, "alice@localhost", "alice@localhost").expect("it answers");
    assert!(format!("{stranger:?}").contains("code: 530"), "{stranger:?}");
    mta.until_idle();
    let copies = elsewhere.delivered("example.org/bob");
    assert_eq!(copies.len(), 2);
    let copy = fs::read_to_string(&copies[0]).expect("a copy").replace("\r\n", "");
    assert!(copy.contains(" with ESMTPSA id "), "{copy}");

    // A new user, without a restart.
    let dave = line_with(&["--argon2"], "dave@localhost", "y");
    assert!(dave.starts_with("dave@localhost $argon2id$"), "{dave}");
    write_users(&users, &[line("carol@localhost", "x"), dave]);
    let process = Pid::from_raw(mta.process().try_into().expect("small")).expect("not 0");
    kill_process(process, Signal::HUP).expect("it runs");
    mta.logged("users read again");
    let carol = Client::new(&root, Some(ClientAuth::password("carol@localhost", Secret::new("x"))));
    assert!(carol.send(&mta, "carol@localhost", "bob@example.org").expect("she is known").is_delivered());
    let by_hash = ClientAuth::password("dave@localhost", Secret::new("y")).only(Mechanisms::PASSWORD);
    let dave = Client::new(&root, Some(by_hash));
    assert!(dave.send(&mta, "dave@localhost", "bob@example.org").expect("he is known").is_delivered());
    let log = mta.log();
    assert!(!log.contains("wonderland") && !log.contains("looking-glass"), "{log}");
}

#[test]
fn a_password_that_cannot_be_one_has_no_line() {
    for (user, password) in [("alice", "x"), ("alice@localhost", ""), ("alice@localhost", "\u{7}")] {
        let mut child = mta()
            .args(["password", user])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let _ = child.stdin.take().expect("piped").write_all(password.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{user}");
        assert!(!output.stderr.is_empty());
    }
}
