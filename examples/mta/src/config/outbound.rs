//! How mail leaves: `[[dkim]]`, `[srs]` and `[batv]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smtp_core::{DnsName, Domain, Mailbox};
use toml::Spanned;

use crate::outbound::{DkimEntry, OutboundSettings};

use super::Config;
use super::check::parsed;
use super::file::{Placed, unplaced};
use super::problem::Report;

/// Beyond so many members elsewhere an alias is a list (PRACTICES.md S31): 10.
const MEMBERS_OUTSIDE: usize = 10;

/// A key that signs what leaves.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DkimTable {
    domain: Spanned<String>,
    selector: Spanned<String>,
    key: Spanned<PathBuf>,
}

/// How the reverse-path of what is forwarded is rewritten.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SrsTable {
    domain: Placed<String>,
    secret_file: Placed<PathBuf>,
}

/// Whether our own reverse-paths have a tag.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatvTable {
    sign: Placed<bool>,
    secret_file: Placed<PathBuf>,
}

/// The tables checked.
pub(super) fn check(
    report: &mut Report<'_>,
    (dkim, srs, batv): (&[DkimTable], &SrsTable, &BatvTable),
    domains: &[Domain],
    data: &Path,
) -> OutboundSettings {
    let mut settings = OutboundSettings::default();
    for table in dkim {
        let domain = parsed::<Domain>(report, "dkim.domain", "a domain", &table.domain);
        let selector = parsed::<DnsName>(report, "dkim.selector", "a selector", &table.selector);
        let Some((domain, selector)) = domain.zip(selector) else { continue };
        let is_twice = |known: &DkimEntry| known.domain == domain && known.selector == selector;
        if settings.dkim.iter().any(is_twice) {
            let problem = format!("`{selector}` of `{domain}` is named twice; each key needs a selector of its own");
            report.add(table.selector.span(), "dkim.selector", problem);
        }
        settings.dkim.push(DkimEntry { domain, selector, key: table.key.get_ref().clone() });
    }
    settings.srs_domain = match &srs.domain {
        Some(text) => {
            let domain = parsed::<Domain>(report, "srs.domain", "a domain", text);
            if domain.as_ref().is_some_and(|domain| !domains.contains(domain)) {
                // What comes back must come here.
                report.add(text.span(), "srs.domain", format!("`{}` is in none of the `domains`", text.get_ref()));
            }
            domain.filter(|domain| domains.first() != Some(domain))
        }
        None => None,
    };
    // What lies where it lies by default moves with `data`.
    let other = |file: &Placed<PathBuf>, usual: PathBuf| {
        file.as_ref().map(|file| file.get_ref().clone()).filter(|file| *file != usual)
    };
    settings.srs_secret = other(&srs.secret_file, Config::default_srs_secret(data));
    settings.batv_secret = other(&batv.secret_file, Config::default_batv_secret(data));
    settings.batv = batv.sign.as_ref().is_some_and(|sign| *sign.get_ref());
    settings
}

/// With every key, so that every default can be seen.
pub(super) fn tables(config: &Config) -> (Vec<DkimTable>, SrsTable, BatvTable) {
    let dkim = config.outbound.dkim.iter().map(|entry| DkimTable {
        domain: unplaced(entry.domain.to_string()),
        selector: unplaced(entry.selector.to_string()),
        key: unplaced(entry.key.clone()),
    });
    let srs = SrsTable {
        domain: config.srs_domain().map(|domain| unplaced(domain.to_string())),
        secret_file: Some(unplaced(config.srs_secret())),
    };
    let batv =
        BatvTable { sign: Some(unplaced(config.outbound.batv)), secret_file: Some(unplaced(config.batv_secret())) };
    (dkim.collect(), srs, batv)
}

impl Config {
    /// The domain of rewritten reverse-paths; by default the first of the local ones.
    pub(crate) fn srs_domain(&self) -> Option<&Domain> {
        self.outbound.srs_domain.as_ref().or(self.domains.first())
    }

    /// Where the secret of SRS is.
    pub(crate) fn srs_secret(&self) -> PathBuf {
        self.outbound.srs_secret.clone().unwrap_or_else(|| Self::default_srs_secret(&self.data))
    }

    /// Where the secret of BATV is.
    pub(crate) fn batv_secret(&self) -> PathBuf {
        self.outbound.batv_secret.clone().unwrap_or_else(|| Self::default_batv_secret(&self.data))
    }

    /// No domain has a directory that starts with a dot.
    fn default_srs_secret(data: &Path) -> PathBuf {
        data.join(".srs-secret")
    }

    fn default_batv_secret(data: &Path) -> PathBuf {
        data.join(".batv-secret")
    }

    /// The aliases that lead out of our domains, and how many members they have there.
    pub(crate) fn forwards(&self) -> impl Iterator<Item = (&Mailbox, usize)> {
        let is_outside = |mailbox: &&Mailbox| mailbox.domain().is_none_or(|domain| !self.domains.contains(domain));
        self.aliases.iter().filter_map(move |(alias, mailboxes)| {
            let outside = mailboxes.iter().filter(is_outside).count();
            (outside > 0).then_some((alias, outside))
        })
    }

    /// What can be done better.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let long = self.forwards().filter(|(_, outside)| *outside > MEMBERS_OUTSIDE);
        let warning = |(alias, outside): (&Mailbox, usize)| {
            format!(
                "`{alias}` leads to {outside} mailboxes elsewhere: a list manager would care for who comes and goes"
            )
        };
        long.map(warning).chain(self.policy_warnings()).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn errors(text: &str) -> String {
        Config::parse("mta.toml", text).expect_err("something is wrong").to_string()
    }

    #[test]
    fn what_leaves_has_its_place_and_its_errors() {
        for (text, expected) in [
            ("[[dkim]]\ndomain = \"a b\"\nselector = \"x\"\nkey = \"x\"\n", "2:10: dkim.domain: `a b` is not a domain"),
            (
                "[[dkim]]\ndomain = \"a.example\"\nselector = \"x y\"\nkey = \"x\"\n",
                "3:12: dkim.selector: `x y` is not a selector",
            ),
            ("[srs]\ndomain = \"other.example\"\n", "2:10: srs.domain: `other.example` is in none of the `domains`"),
            ("[batv]\nsign = 1\n", "2:8: batv.sign: invalid type: integer `1`, expected a boolean"),
            ("[policy]\ntrusted_sealers = [\"a b\"]\n", "2:20: policy.trusted_sealers: `a b` is not a domain"),
        ] {
            let error = errors(text);
            assert!(error.starts_with(&format!("mta.toml:{expected}")), "{error}");
        }
        let twice = "[[dkim]]\ndomain = \"a.example\"\nselector = \"x\"\nkey = \"k\"\n".repeat(2);
        assert_eq!(
            errors(&twice),
            "mta.toml:7:12: dkim.selector: `x` of `a.example` is named twice; each key needs a selector of its own"
        );
        let text = "[[dkim]]\ndomain = \"a.example\"\nselector = \"x\"\nkey = \"k\"\n[srs]\ndomain = \"localhost\"\n\
                    secret_file = \"s\"\n[batv]\nsign = true\n[policy]\ntrusted_sealers = [\"list.example\"]\n";
        let config = Config::parse("mta.toml", text).expect("it makes sense");
        let again = Config::parse("mta.toml", config.to_toml().expect("it can be written")).expect("it makes sense");
        assert_eq!((&again.outbound, &again.policy), (&config.outbound, &config.policy));
        assert_eq!((config.srs_secret(), config.batv_secret()), ("s".into(), "mta-data/.batv-secret".into()));
    }
}
