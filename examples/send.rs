//! Sends one message from the command line, and says for each recipient what became of it.
//!
//! `cargo run -p examples --example send -- 127.0.0.1:2525 alice@client.example bob@example.org`, the text on standard
//! input.

use std::io::Read;
use std::process::ExitCode;
use std::time::SystemTime;

use smtp_core::{DateTime, Envelope};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, from, to @ ..] = &arguments[..] else {
        return Err("which server, from whom, to whom?".into());
    };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let date = DateTime::new(SystemTime::now());
    let mut content = format!("Date: {date}\r\nFrom: {from}\r\nTo: {}\r\n\r\n", to.join(", "));
    for line in text.lines() {
        content.push_str(line);
        content.push_str("\r\n");
    }

    let envelope = Envelope::parse(from, to)?;
    let report = smtp_core::send(server, &envelope, content).await?;
    for (recipient, result) in envelope.recipients().iter().zip(report.recipients()) {
        match result {
            Ok(reply) => println!("{recipient}: {reply}"),
            Err(error) => println!("{recipient}: {error}"),
        }
    }
    Ok(if report.is_delivered() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
