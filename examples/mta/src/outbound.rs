//! What leaves is rewritten and signed: SRS for what an alias leads out, tags for our own reverse-paths, DKIM and ARC.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use smtp_core::{
    DnsName, Domain, ForwardPath, Mailbox, Outbound, OutboundPolicy, OutboundRecipient, RecipientLookup, ReversePath,
    Transient, async_trait,
};
use smtp_policy::{
    ArcChain, ArcSealing, Batv, BatvLookup, BatvSigning, DkimKey, DkimSigner, DkimSigning, OutboundChain, RewritingKey,
    Srs, SrsForwarding, SrsLookup,
};

use crate::AnyError;
use crate::config::Config;
use crate::policy::Services;
use crate::trial::{random, write};

/// How mail leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OutboundSettings {
    /// Keys that sign. The domain of the first seals what is forwarded.
    pub(crate) dkim: Vec<DkimEntry>,
    /// The domain of rewritten reverse-paths; `None`: the first of the local ones.
    pub(crate) srs_domain: Option<Domain>,
    /// The file of its secrets; `None`: beneath the data.
    pub(crate) srs_secret: Option<PathBuf>,
    /// Whether our own reverse-paths have a tag, and notifications need one.
    pub(crate) batv: bool,
    /// The file of the secrets of tags; `None`: beneath the data.
    pub(crate) batv_secret: Option<PathBuf>,
}

/// A key that signs for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DkimEntry {
    pub(crate) domain: Domain,
    pub(crate) selector: DnsName,
    pub(crate) key: PathBuf,
}

impl DkimEntry {
    /// Reads the key.
    ///
    /// # Errors
    /// With the file, where it is not there or no key that can sign.
    pub(crate) fn read(&self) -> Result<DkimKey, AnyError> {
        let of_file = |error: String| format!("cannot use the key {}: {error}", self.key.display());
        let pem = fs::read(&self.key).map_err(|error| of_file(error.to_string()))?;
        Ok(DkimKey::from_pem(self.selector.as_str(), &pem).map_err(|error| of_file(error.to_string()))?)
    }
}

/// What the secrets of rewritten addresses make possible.
pub(crate) struct Rewriting {
    srs: Option<Srs>,
    batv: Option<Batv>,
}

impl Rewriting {
    /// Reads the secrets that the configuration needs, or makes them.
    ///
    /// # Errors
    /// Where a file cannot be read or made, or holds no secret.
    pub(crate) fn open(config: &Config) -> Result<Self, AnyError> {
        let srs = config.srs_domain().filter(|_| config.forwards().next().is_some());
        let srs = srs.map(|domain| -> Result<Srs, AnyError> {
            let mut keys = secrets(&config.srs_secret())?.into_iter();
            let newest = keys.next().ok_or("no secret of SRS")?;
            Ok(keys.fold(Srs::new(domain.clone(), newest), Srs::verifying_also))
        });
        let batv = config.outbound.batv.then(|| -> Result<Batv, AnyError> {
            let keys = secrets(&config.batv_secret())?;
            // The number that a tag names is that of the key from the end of the file; whoever verifies asks all keys.
            let numbers = (0..keys.len()).rev().map(|number| u8::try_from(number % 10).unwrap_or_default());
            let mut keys = numbers.zip(keys);
            let (number, newest) = keys.next().ok_or("no secret of BATV")?;
            Ok(keys.fold(Batv::new(number, newest), |batv, (number, key)| batv.verifying_also(number, key)))
        });
        Ok(Self { srs: srs.transpose()?, batv: batv.transpose()? })
    }

    /// The mailboxes, and behind rewritten addresses those that were rewritten.
    pub(crate) fn recipients(&self, config: &Config) -> Arc<dyn RecipientLookup> {
        let mut recipients: Arc<dyn RecipientLookup> = Arc::new(config.recipients());
        if let Some(batv) = &self.batv {
            recipients = Arc::new(BatvLookup::new(recipients, batv.clone(), config.domains.clone()));
        }
        if let Some(srs) = &self.srs {
            recipients = Arc::new(SrsLookup::new(recipients, srs.clone()));
        }
        recipients
    }

    /// What a queue asks of each message.
    ///
    /// # Errors
    /// Where a key cannot be used.
    pub(crate) fn policy(&self, config: &Config, services: &Services) -> Result<OutboundChain, AnyError> {
        let mut chain = OutboundChain::new().with(ListOwners::new(config, self.batv.clone()));
        if let Some(srs) = &self.srs {
            chain = chain.with(SrsForwarding::new(srs.clone(), config.domains.clone()));
        }
        if let Some(batv) = &self.batv {
            chain = chain.with(BatvSigning::new(batv.clone(), config.domains.clone()));
        }
        let mut signers: Vec<(Domain, DkimSigner)> = Vec::new();
        for entry in &config.outbound.dkim {
            let key = entry.read()?;
            match signers.iter().position(|(domain, _)| *domain == entry.domain) {
                Some(place) => {
                    let (domain, signer) = signers.remove(place);
                    signers.insert(place, (domain, signer.with_key(key)));
                }
                None => signers.push((entry.domain.clone(), DkimSigner::new(&entry.domain, key))),
            }
        }
        let signers: Vec<Arc<DkimSigner>> = signers.into_iter().map(|(_, signer)| Arc::new(signer)).collect();
        if let Some(first) = signers.first() {
            let before = ArcChain::new(services.dns.clone());
            let sealing = ArcSealing::new(before, first.clone(), config.domains.clone());
            chain = chain.with(sealing.reporting_as(&config.hostname));
        }
        Ok(chain.with(signers.into_iter().fold(DkimSigning::new(), DkimSigning::with)))
    }
}

/// The secrets of a file, one a line, the newest first. Where there is none, one is made.
fn secrets(path: &Path) -> Result<Vec<RewritingKey>, AnyError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("{:032x}", u128::from_le_bytes(random()?));
            write(path, format!("{text}\n").as_bytes())?;
            text
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<_>, _> = lines.map(RewritingKey::new).collect();
    let keys = keys.map_err(|error| format!("{}: {error}", path.display()))?;
    if keys.is_empty() { Err(format!("{} holds no secret", path.display()).into()) } else { Ok(keys) }
}

/// Who answers for a list: what an alias leads out leaves under the reverse-path of its `owner-` alias, where there is one
/// (PRACTICES.md S31), so that notifications do not go to whoever wrote to the list.
#[derive(Debug)]
struct ListOwners {
    /// By the alias, in lower case.
    owners: HashMap<String, Mailbox>,
    domains: Vec<Domain>,
    /// What notifications to them need.
    batv: Option<Batv>,
}

impl ListOwners {
    fn new(config: &Config, batv: Option<Batv>) -> Self {
        let names = config.aliases.iter().map(|(name, _)| name).chain(&config.users);
        let known: HashMap<String, &Mailbox> =
            names.map(|name| (name.to_string().to_ascii_lowercase(), name)).collect();
        let owner = |(alias, _): &(Mailbox, Vec<Mailbox>)| {
            let alias = alias.to_string().to_ascii_lowercase();
            let owner = known.get(&format!("owner-{alias}"))?;
            Some((alias, (*owner).clone()))
        };
        Self { owners: config.aliases.iter().filter_map(owner).collect(), domains: config.domains.clone(), batv }
    }

    fn owner(&self, recipient: &OutboundRecipient) -> Option<&Mailbox> {
        let ForwardPath::Mailbox(alias) = recipient.path() else { return None };
        let leaves = recipient.mailbox().domain().is_none_or(|domain| !self.domains.contains(domain));
        self.owners.get(&alias.to_string().to_ascii_lowercase()).filter(|_| leaves)
    }
}

#[async_trait]
impl OutboundPolicy for ListOwners {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        // Nobody answers a notification (RFC 5321 §4.5.5).
        if message.reverse_path().mailbox().is_none() {
            return Ok(());
        }
        for recipient in recipients {
            if let Some(owner) = self.owner(recipient).cloned() {
                let tagged = self.batv.as_ref().and_then(|batv| batv.tag(&owner, SystemTime::now()).ok());
                recipient.set_reverse_path(ReversePath::Mailbox(tagged.unwrap_or(owner)));
            }
        }
        Ok(())
    }
}
