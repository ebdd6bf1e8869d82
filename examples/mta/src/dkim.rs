//! `mta dkim`: keys that sign what leaves, and the records of DNS that they need.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use smtp_core::{DnsName, Domain};
use smtp_policy::DkimKey;

use crate::AnyError;
use crate::config::Config;
use crate::trial::write;

#[derive(Debug, Subcommand)]
pub(crate) enum DkimCommand {
    /// Make an RSA and an Ed25519 key, and print what to publish and what to configure
    Generate(GenerateOptions),
    /// Print the records to publish for the keys of a configuration
    Show {
        /// The configuration
        file: PathBuf,
    },
}

/// What `mta dkim generate` is told.
#[derive(Debug, Args)]
pub(crate) struct GenerateOptions {
    /// The domain of the authors
    domain: Domain,
    /// The first part of both selectors, to which `r` for RSA and `e` for Ed25519 are added
    #[arg(long, default_value = "mta")]
    selector: DnsName,
    /// Where the keys go
    #[arg(long, value_name = "DIR", default_value = "dkim")]
    directory: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// What kept it from being done; nothing that is there is written over.
pub(crate) fn run(command: &DkimCommand) -> Result<(), AnyError> {
    let text = match command {
        DkimCommand::Generate(options) => generate(options)?,
        DkimCommand::Show { file } => show(&Config::load(Some(file))?)?,
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn generate(options: &GenerateOptions) -> Result<String, AnyError> {
    let domain = options.domain.to_ascii();
    std::fs::create_dir_all(&options.directory)
        .map_err(|error| format!("cannot make {}: {error}", options.directory.display()))?;
    let keys = [
        ("r", KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?),
        ("e", KeyPair::generate_for(&PKCS_ED25519)?),
    ];
    let keys = keys.map(|(kind, key)| {
        let selector = format!("{}{kind}", options.selector);
        let path = options.directory.join(format!("{domain}.{selector}.pem"));
        (selector, path, key.serialize_pem())
    });
    // Mail signed by a lost key cannot be verified any more.
    if let Some((_, path, _)) = keys.iter().find(|(_, path, _)| path.exists()) {
        return Err(format!("{} is there already: choose another --selector", path.display()).into());
    }
    let (mut records, mut tables) = (String::new(), String::new());
    for (selector, path, pem) in &keys {
        write(path, pem.as_bytes())?;
        records.push_str(&record(&domain, &DkimKey::from_pem(selector, pem.as_bytes())?));
        let path = path.display().to_string();
        write!(tables, "\n[[dkim]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nkey = {path:?}\n")?;
    }
    Ok(format!("; publish first, in the zone of {domain}:\n{records}\n# then add to the configuration:\n{tables}"))
}

fn show(config: &Config) -> Result<String, AnyError> {
    let records = config.outbound.dkim.iter().map(|entry| Ok(record(&entry.domain.to_ascii(), &entry.read()?)));
    records.collect()
}

/// A line of a zone. A string of DNS has at most 255 octets, so a long record is several (RFC 6376 §3.6.2.2).
fn record(domain: &Domain, key: &DkimKey) -> String {
    let text = key.record();
    let strings = text.as_bytes().chunks(STRING_OCTETS).map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)));
    format!("{}._domainkey.{domain}. IN TXT ( {} )\n", key.selector(), strings.collect::<Vec<_>>().join(" "))
}

const STRING_OCTETS: usize = 255;
