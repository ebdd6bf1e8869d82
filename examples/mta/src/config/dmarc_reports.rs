//! What domains are told of mail in their name: `[policy.dmarc_reports]`.

use serde::{Deserialize, Serialize};
use smtp_core::Mailbox;

use crate::dmarc_reports::DmarcReportSettings;

use super::Config;
use super::check::parsed;
use super::file::{Mailboxes, Placed, unplaced};
use super::problem::Report;

/// The table as it stands in a file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DmarcReportsTable {
    enabled: Placed<bool>,
    from: Placed<String>,
    organization: Placed<String>,
}

/// The table checked, but for what the rest of the configuration says of it.
pub(super) fn check(report: &mut Report<'_>, table: &DmarcReportsTable) -> DmarcReportSettings {
    let from = table.from.as_ref();
    let mailbox = from.and_then(|text| parsed::<Mailbox>(report, "policy.dmarc_reports.from", "a mailbox", text));
    DmarcReportSettings {
        enabled: table.enabled.as_ref().is_some_and(|on| *on.get_ref()),
        from: mailbox,
        organization: table.organization.as_ref().map(|name| name.get_ref().clone()),
    }
}

/// Whether reports have somewhere to come from and somewhere to go.
pub(super) fn check_ways(report: &mut Report<'_>, table: &DmarcReportsTable, config: &Config) {
    let settings = &config.policy.dmarc_reports;
    let is_ours = |mailbox: &Mailbox| mailbox.domain().is_some_and(|domain| config.domains.contains(domain));
    if let Some((text, _)) = table.from.as_ref().zip(settings.from.as_ref().filter(|mailbox| !is_ours(mailbox))) {
        let problem = format!("`{}` is in none of the `domains`", text.get_ref());
        report.add(text.span(), "policy.dmarc_reports.from", problem);
    }
    let knows = |mailbox: &Mailbox| {
        let is = |other: &Mailbox| other.to_string().eq_ignore_ascii_case(&mailbox.to_string());
        let is_role = config.roles.iter().any(|role| mailbox.local_part().as_str().eq_ignore_ascii_case(role));
        config.mailboxes == Mailboxes::Any
            || is_role
            || config.users.iter().chain(config.aliases.iter().map(|(name, _)| name)).any(is)
    };
    let unknown = settings.from.as_ref().filter(|mailbox| is_ours(mailbox) && !knows(mailbox));
    if let Some((text, _)) = table.from.as_ref().zip(unknown) {
        let problem = format!("`{}` is none of the users or aliases, and answers would find nobody", text.get_ref());
        report.add(text.span(), "policy.dmarc_reports.from", problem);
    }
    let Some(enabled) = table.enabled.as_ref().filter(|on| *on.get_ref()) else { return };
    if table.from.is_none() {
        let problem = "say which of our mailboxes they come `from`";
        report.add(enabled.span(), "policy.dmarc_reports.enabled", problem);
    }
    if config.smart_host.is_none() {
        let problem = "reports would have nowhere to go: name a `relay.smart_host`";
        report.add(enabled.span(), "policy.dmarc_reports.enabled", problem);
    }
}

/// With every key that has a default, so that it can be seen.
impl From<&DmarcReportSettings> for DmarcReportsTable {
    fn from(settings: &DmarcReportSettings) -> Self {
        Self {
            enabled: Some(unplaced(settings.enabled)),
            from: settings.from.as_ref().map(|mailbox| unplaced(mailbox.to_string())),
            organization: settings.organization.clone().map(unplaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_need_a_mailbox_of_ours_and_a_way_out() {
        let relay = "[relay]\nsmart_host = \"smtp.example.com:25\"\n";
        for (text, problems) in [
            ("", ""),
            ("enabled = false\n", ""),
            ("enabled = true\nfrom = \"alice@localhost\"\n", ""),
            ("enabled = true\nfrom = \"abuse@localhost\"\n", ""),
            (
                "enabled = true\nfrom = \"dmarc@localhost\"\n",
                "5:8: policy.dmarc_reports.from: `dmarc@localhost` is none of the users or aliases, and answers would find nobody",
            ),
            ("enabled = true\n", "4:11: policy.dmarc_reports.enabled: say which of our mailboxes they come `from`"),
            (
                "enabled = true\nfrom = \"dmarc@example.net\"\n",
                "5:8: policy.dmarc_reports.from: `dmarc@example.net` is in none of the `domains`",
            ),
        ] {
            let text = format!("{relay}[policy.dmarc_reports]\n{text}");
            let found = Config::parse("mta.toml", text).map_err(|error| crate::describe(&error));
            let found = found.err().unwrap_or_default();
            assert!(if problems.is_empty() { found.is_empty() } else { found.contains(problems) }, "{found}");
        }
        let alone = "[policy.dmarc_reports]\nenabled = true\nfrom = \"alice@localhost\"\n";
        let found = Config::parse("mta.toml", alone).map_err(|error| crate::describe(&error)).err();
        assert!(
            found.is_some_and(|found| found.contains("2:11: policy.dmarc_reports.enabled: reports would have nowhere"))
        );
    }

    #[test]
    fn what_is_shown_means_the_same() -> Result<(), Box<dyn std::error::Error>> {
        let text = "[relay]\nsmart_host = \"smtp.example.com:25\"\n\
                    [policy.dmarc_reports]\nenabled = true\nfrom = \"alice@localhost\"\norganization = \"A & B\"\n";
        let config = Config::parse("mta.toml", text)?;
        let again = Config::parse("mta.toml", config.to_toml()?)?;
        assert_eq!(config.policy.dmarc_reports, again.policy.dmarc_reports);
        assert!(again.policy.dmarc_reports.enabled);
        Ok(())
    }
}
