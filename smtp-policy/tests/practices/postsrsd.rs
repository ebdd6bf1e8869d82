//! Addresses exchanged with postsrsd, both ways (PRACTICES S30).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use smtp_core::Mailbox;
use smtp_policy::{RewritingKey, Srs, SrsError};

const KEY: &str = "correct horse battery";

/// A running postsrsd with its two tables; it ends with the test.
struct Postsrsd {
    child: Child,
    forward: u16,
    reverse: u16,
    _secret: tempfile::TempDir,
}

impl Postsrsd {
    /// `None` where it is not installed.
    fn start() -> std::io::Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let secret = directory.path().join("secret");
        std::fs::write(&secret, format!("{KEY}\n"))?;
        let free = || Ok::<_, std::io::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (forward, reverse) = (free()?, free()?);
        let program = std::env::var_os("POSTSRSD").unwrap_or_else(|| "/usr/sbin/postsrsd".into());
        let started = Command::new(program)
            .args([format!("-s{}", secret.display()), "-dforwarder.example".to_owned()])
            .args([format!("-f{forward}"), format!("-r{reverse}"), "-l127.0.0.1".to_owned()])
            .stdin(Stdio::null())
            .spawn();
        let child = match started {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let this = Self { child, forward, reverse, _secret: directory };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", reverse)).is_ok() {
                return Ok(Some(this));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(std::io::Error::other("postsrsd does not listen"))
    }

    /// What a table says of an address: `Ok` with another, or what is wrong.
    fn ask(port: u16, address: &str) -> std::io::Result<Result<String, String>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(format!("get {address}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(match line.trim_end().split_once(' ') {
            Some(("200", found)) => Ok(found.to_owned()),
            _ => Err(line),
        })
    }
}

impl Drop for Postsrsd {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test] // PRACTICES S30
fn s30_addresses_are_exchanged_with_postsrsd_both_ways() -> Result<(), Box<dyn std::error::Error>> {
    let Some(other) = Postsrsd::start()? else {
        assert!(std::env::var_os("CI").is_none(), "postsrsd is not installed");
        println!("skipped: postsrsd");
        return Ok(());
    };
    let srs = Srs::new("forwarder.example".parse()?, RewritingKey::new(KEY)?);
    for sender in [
        "alice@client.example",
        "Bob.X@Client.Example",
        "a=b+c-d@client.example",
        "bounce-17+user=example.org@c.example",
        "SRS0=abcd=2A=c.example=alice@f.example",
        "SRS0+abcd=2A=c.example=alice@f.example",
        "SRS1=wxyz=f.example==abcd=2A=c.example=al@second.example",
    ] {
        let address: Mailbox = sender.parse()?;
        let (mut ours, mut theirs) = (String::new(), String::new());
        // Midnight may come in between, once.
        for _ in 0..2 {
            ours = srs.forward(&address, SystemTime::now())?.to_string();
            theirs = Postsrsd::ask(other.forward, sender)??;
            if ours == theirs {
                break;
            }
        }
        assert_eq!(ours, theirs);
        let back = srs.reverse(&theirs.parse()?, SystemTime::now())?.to_string();
        assert_eq!(Postsrsd::ask(other.reverse, &ours)?, Ok(back), "{ours}");
    }
    // What one refuses, the other does.
    let long_ago = SystemTime::now() - Duration::from_secs(30 * 24 * 60 * 60);
    let expired = srs.forward(&"alice@client.example".parse()?, long_ago)?;
    assert_eq!(srs.reverse(&expired, SystemTime::now()), Err(SrsError::Expired));
    assert!(Postsrsd::ask(other.reverse, &expired.to_string())?.is_err());
    let forged = "SRS1=aaaa=f.example==abcd=2A=c.example=alice@forwarder.example";
    assert_eq!(srs.reverse(&forged.parse()?, SystemTime::now()), Err(SrsError::BadHash));
    assert!(Postsrsd::ask(other.reverse, forged)?.is_err());
    Ok(())
}
