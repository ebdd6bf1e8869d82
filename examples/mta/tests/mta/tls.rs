//! TLS on both sides: what is offered, what is demanded of the next host, and new certificates without a restart.

use std::fs;
use std::path::Path;

use crate::common::{Mta, text};
use rcgen::generate_simple_self_signed;
use rustix::process::{Pid, Signal, kill_process};
use smtp_core::{ClientConfig, ClientConnection, ClientTls, SendCause};

/// Writes a certificate for that name and its key, and returns the certificate.
fn write_certificate(directory: &Path, name: &str) -> String {
    let made = generate_simple_self_signed([name.to_owned()]).expect("a name");
    fs::write(directory.join("mx.pem"), made.cert.pem()).expect("written");
    fs::write(directory.join("mx.key"), made.signing_key.serialize_pem()).expect("written");
    made.cert.pem()
}

fn with_certificate(directory: &Path) -> Mta {
    let directory = directory.display();
    Mta::with_config(&format!(
        "domains = [\"example.org\"]\nmailboxes = \"any\"\n\
         [[certificate]]\nchain = \"{directory}/mx.pem\"\nkey = \"{directory}/mx.key\"\n"
    ))
}

#[test] // RFC 3207, RFC 7435, RFC 3848
fn mail_goes_to_the_next_host_as_well_protected_as_is_demanded() {
    let directory = tempfile::tempdir().expect("a directory");
    write_certificate(directory.path(), "mx.example.org");
    let (with, without) =
        (with_certificate(directory.path()), Mta::with_config("domains = [\"example.org\"]\nmailboxes = \"any\"\n"));
    assert!(with.introduction.contains("  STARTTLS\n") && !without.introduction.contains("STARTTLS"));
    for (demanded, back, arrives_with) in [
        ("", &with, Ok("ESMTPS")),
        ("tls = \"required\"\n", &with, Ok("ESMTPS")),
        ("tls = \"none\"\n", &with, Ok("ESMTP")),
        ("", &without, Ok("ESMTP")),
        ("tls = \"required\"\n", &without, Err("TLS is demanded, and the server does not offer it")),
        ("tls = \"verified\"\n", &with, Err("the TLS handshake failed")),
    ] {
        let front = Mta::with_config(&format!(
            "[relay]\nsmart_host = \"{}\"\nclients = [\"127.0.0.0/8\"]\n{demanded}",
            back.address
        ));
        let sent = front.send("a@client.example", &["bob@example.org"], b"Subject: x\r\n\r\nx\r\n");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        match arrives_with {
            Ok(protocol) => {
                front.until_idle();
                let copies = back.delivered("example.org/bob");
                let copy = fs::read_to_string(&copies[0]).expect("a copy").replace("\r\n", "");
                assert!(copy.contains(&format!(" with {protocol} id ")), "{demanded}{protocol}: {copy}");
                fs::remove_file(&copies[0]).expect("removed");
            }
            Err(why) => {
                let id = front.deferred();
                let shown = front.queue_says(&["show", &id]);
                assert!(shown.contains(why), "{demanded}{why}: {shown}");
                assert_eq!(back.delivered("example.org/bob").len(), 0);
            }
        }
    }
}

#[test]
fn new_certificates_are_used_without_a_restart_and_useless_ones_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = write_certificate(directory.path(), "mx.example.org");
    let mta = with_certificate(directory.path());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let shows = |certificate: &str, name: &str| {
        let tls = ClientTls::verified_with_roots([name], certificate.as_bytes()).expect("a certificate");
        let config = ClientConfig::new("client.example").expect("a name").with_tls(tls);
        match runtime.block_on(ClientConnection::connect(mta.address, &config)) {
            Ok(connection) => {
                runtime.block_on(connection.quit());
                true
            }
            Err(error) => {
                assert!(matches!(error.cause(), SendCause::Handshake(_)), "{error}");
                false
            }
        }
    };
    let hang_up = || {
        let process = Pid::from_raw(mta.process().try_into().expect("small")).expect("not 0");
        kill_process(process, Signal::HUP).expect("it runs");
    };
    assert!(shows(&first, "mx.example.org"));
    let second = write_certificate(directory.path(), "mail.example.org");
    assert!(shows(&first, "mx.example.org"));
    hang_up();
    mta.logged("certificates read again");
    assert!(shows(&second, "mail.example.org") && !shows(&first, "mx.example.org"));
    fs::write(directory.path().join("mx.key"), "no key").expect("written");
    hang_up();
    mta.logged("certificates stay as they were");
    assert!(shows(&second, "mail.example.org"));
}

#[test]
fn a_certificate_that_is_not_there_keeps_it_from_starting() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("mta.toml"), "[[certificate]]\nchain = \"no.pem\"\nkey = \"no.key\"\n")
        .expect("written");
    let output = crate::common::mta()
        .args(["run", "--config", "mta.toml"])
        .current_dir(directory.path())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot read no.pem: No such file"), "{}", text(&output.stderr));
}
