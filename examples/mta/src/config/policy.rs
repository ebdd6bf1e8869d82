//! What is looked at in mail of strangers, and what is done about it: `[policy]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smtp_policy::{Action, FilterAddress, FilterLimits, Preset, Receipts, UnknownPractice};
use toml::Spanned;

use crate::policy::{Blocklist, BlocklistOf, CalloutSettings, PolicySettings};

use super::access::{self, AccessTable};
use super::check::{parsed, set};
use super::dmarc_reports::{self, DmarcReportsTable};
use super::file::{Placed, texts, unplaced};
use super::milters::{self, MilterTable};
use super::problem::Report;
use super::rates::{self, RateTable};
use super::{ABUSE, Config};

/// The table as it stands in a file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyTable {
    preset: Placed<String>,
    trusted: Option<Vec<Spanned<String>>>,
    trusted_sealers: Option<Vec<Spanned<String>>>,
    forwarders: Option<Vec<Spanned<String>>>,
    dns: Option<Vec<Spanned<String>>>,
    greylist: Placed<bool>,
    receipts: Placed<String>,
    abuse_form: Placed<String>,
    clamd: Placed<String>,
    spamd: Placed<String>,
    rspamd: Placed<String>,
    filter_seconds: Placed<u64>,
    filter_octets: Placed<u64>,
    greylist_score: Placed<u32>,
    tag_score: Placed<u32>,
    reject_score: Placed<u32>,
    allowlists: Option<Vec<Spanned<String>>>,
    callout: Option<Vec<Spanned<String>>>,
    callouts_per_minute: Placed<u32>,
    #[serde(default)]
    actions: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    unknown: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    weights: BTreeMap<Spanned<String>, Spanned<u16>>,
    #[serde(default)]
    dmarc_reports: DmarcReportsTable,
    #[serde(default)]
    milter: Vec<MilterTable>,
    #[serde(default)]
    blocklist: Vec<BlocklistTable>,
    #[serde(default)]
    rate: Vec<RateTable>,
    #[serde(default)]
    access: Vec<AccessTable>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BlocklistTable {
    zone: Spanned<String>,
    of: Placed<BlocklistOf>,
    weight: Placed<u16>,
    refuse: Placed<bool>,
}

/// What becomes of requests for receipts.
const STRIP: &str = "strip";
const KEEP: &str = "keep";

fn receipts_of_word(word: &str) -> Option<bool> {
    match word {
        STRIP => Some(true),
        KEEP => Some(false),
        _ => None,
    }
}

/// Networks whose clients are not looked at unless others are named: this host.
const TRUSTED: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// The table checked, but for the names of practices.
pub(super) fn check(report: &mut Report<'_>, table: &PolicyTable) -> PolicySettings {
    let preset =
        word(report, "policy.preset", "rfc-strict, bcp or bcp-strict", table.preset.as_ref(), Preset::from_word);
    let preset = preset.unwrap_or_default();
    let receipts = word(report, "policy.receipts", "strip or keep", table.receipts.as_ref(), receipts_of_word);
    let trusted = match &table.trusted {
        Some(texts) => all(report, "policy.trusted", "a network like `10.0.0.0/8`", texts),
        None => TRUSTED.iter().filter_map(|text| text.parse().ok()).collect(),
    };
    let mut thresholds = smtp_policy::Rules::new(preset).thresholds();
    for (key, value, threshold) in [
        ("policy.greylist_score", &table.greylist_score, &mut thresholds.greylist),
        ("policy.tag_score", &table.tag_score, &mut thresholds.tag),
        ("policy.reject_score", &table.reject_score, &mut thresholds.reject),
    ] {
        let mut score = threshold.unwrap_or(0);
        set(report, key, 0, 1000, value.clone(), &mut score);
        *threshold = Some(score).filter(|score| *score > 0);
    }
    if let (Some(tag), Some(reject), Some(text)) = (thresholds.tag, thresholds.reject, &table.tag_score)
        && tag > reject
    {
        report.add(
            text.span(),
            "policy.tag_score",
            format!("from {reject} on all is refused, so nothing would be marked"),
        );
    }
    let filter = |report: &mut Report<'_>, key: &str, text: &Placed<String>| {
        let text = text.as_ref()?;
        parsed(report, key, "the address of a filter, `host:port` or `unix:/path`", text)
    };
    let blocklists = table.blocklist.iter().filter_map(|list| {
        let zone = parsed(report, "policy.blocklist.zone", "a zone of DNS", &list.zone)?;
        let refuse = list.refuse.as_ref().is_some_and(|refuse| *refuse.get_ref());
        let of = list.of.as_ref().map(|of| *of.get_ref()).unwrap_or_default();
        Some(Blocklist { zone, of, weight: list.weight.as_ref().map(|weight| *weight.get_ref()), refuse })
    });
    let blocklists: Vec<Blocklist> = blocklists.collect();
    named_twice(report, "policy.blocklist.zone", table.blocklist.iter().map(|list| &list.zone));
    named_twice(report, "policy.allowlists", table.allowlists.iter().flatten());
    for text in table.dns.iter().flatten().filter(|text| text.get_ref().ends_with(":0")) {
        report.add(text.span(), "policy.dns", "no name server has port 0");
    }
    for (_, text) in table.unknown.iter().filter(|(_, text)| text.get_ref() == Action::Reject.as_str()) {
        let problem = "what is not known is never refused for good; `defer` has it come again";
        report.add(text.span(), "policy.unknown", problem);
    }
    PolicySettings {
        preset,
        trusted,
        trusted_sealers: all(
            report,
            "policy.trusted_sealers",
            "a domain",
            table.trusted_sealers.as_deref().unwrap_or_default(),
        ),
        dns: all(
            report,
            "policy.dns",
            "the address of a name server, like `192.0.2.53:53`",
            table.dns.as_deref().unwrap_or_default(),
        ),
        forwarders: all(
            report,
            "policy.forwarders",
            "a network like `192.0.2.0/24`",
            table.forwarders.as_deref().unwrap_or_default(),
        ),
        filter_limits: filter_limits(report, table),
        greylist: table.greylist.as_ref().is_none_or(|on| *on.get_ref()),
        strips_receipts: receipts.unwrap_or_else(|| Receipts::are_stripped(preset)),
        abuse_form: table
            .abuse_form
            .as_ref()
            .and_then(|text| parsed(report, "policy.abuse_form", "a form for reports", text)),
        clamd: filter(report, "policy.clamd", &table.clamd),
        spamd: filter(report, "policy.spamd", &table.spamd),
        rspamd: filter(report, "policy.rspamd", &table.rspamd),
        milters: milters::check(report, &table.milter),
        thresholds,
        allowlists: all(report, "policy.allowlists", "a zone of DNS", table.allowlists.as_deref().unwrap_or_default()),
        blocklists,
        access: access::check(report, &table.access),
        callouts: callouts(report, table),
        actions: actions(report, "policy.actions", &table.actions),
        unknown: actions(report, "policy.unknown", &table.unknown),
        weights: table.weights.iter().map(|(name, weight)| (name.get_ref().clone(), *weight.get_ref())).collect(),
        rates: rates::check(report, &table.rate),
        dmarc_reports: dmarc_reports::check(report, &table.dmarc_reports),
    }
}

/// Names the practices that nobody looks at, rules that would refuse our own domains, and reports that have no way.
pub(super) fn check_with_others(report: &mut Report<'_>, table: &PolicyTable, config: &Config) {
    access::check_own_domains(report, &table.access, &config.policy.access, &config.domains);
    access::check_recipients(report, &table.access, &config.policy.access, &config.domains);
    dmarc_reports::check_ways(report, &table.dmarc_reports, config);
    if let Some(form) = table.abuse_form.as_ref().filter(|_| !config.roles.iter().any(|role| role == ABUSE)) {
        report.add(
            form.span(),
            "policy.abuse_form",
            "it would stand for the mailbox `abuse`, which is not among `roles`",
        );
    }
    let plain =
        PolicySettings { actions: Vec::new(), unknown: Vec::new(), weights: Vec::new(), ..config.policy.clone() };
    let Ok(chain) = crate::policy::plan(&config.hostname, &config.domains, &plain) else { return };
    let named = [
        ("policy.actions", table.actions.keys().collect::<Vec<_>>()),
        ("policy.unknown", table.unknown.keys().collect()),
        ("policy.weights", table.weights.keys().collect()),
    ];
    for (key, names) in named {
        for name in names.into_iter().filter(|name| chain.rules().action(name.get_ref()).is_none()) {
            let shown = name.get_ref().escape_debug();
            report.add(
                name.span(),
                key,
                format!("nobody looks at `{shown}`; `mta policy explain` lists what is looked at"),
            );
        }
    }
}

/// Case of letters means nothing.
fn named_twice<'a>(report: &mut Report<'_>, key: &str, names: impl Iterator<Item = &'a Spanned<String>>) {
    let mut seen = BTreeSet::new();
    for name in names.filter(|name| !seen.insert(name.get_ref().to_ascii_lowercase())) {
        report.add(name.span(), key, format!("`{}` is named twice", name.get_ref().escape_debug()));
    }
}

/// What one look of clamd, spamd or rspamd may cost.
fn filter_limits(report: &mut Report<'_>, table: &PolicyTable) -> FilterLimits {
    let limits = FilterLimits::default();
    let (mut seconds, mut octets) = (limits.time.as_secs(), limits.octets);
    set(report, "policy.filter_seconds", 1, 100, table.filter_seconds.clone(), &mut seconds);
    set(report, "policy.filter_octets", 1, 1 << 30, table.filter_octets.clone(), &mut octets);
    FilterLimits { time: Duration::from_secs(seconds), octets }
}

impl Config {
    /// All that is looked at in mail, in the order in which that is done.
    ///
    /// # Errors
    /// Where a practice is named that nobody looks at.
    pub(crate) fn explain_policy(&self) -> Result<String, UnknownPractice> {
        let chain = crate::policy::plan(&self.hostname, &self.domains, &self.policy)?;
        let mut text = String::new();
        let mut list = |heading: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(text, "{heading}\n  {}\n", lines.join("\n  "));
            }
        };
        list("no faster than that [policy.rate]", self.policy.rates.iter().map(ToString::to_string).collect());
        list(
            "rules of your own, in their order [policy.access]",
            self.policy.access.iter().map(access::in_words).collect(),
        );
        let _ = writeln!(text, "{}", chain.explain_chain());
        let mut filters = self.policy.milters.iter().map(ToString::to_string).peekable();
        if filters.peek().is_some() {
            let filters = filters.collect::<Vec<_>>().join("\n  ");
            let _ = writeln!(text, "\nfilters, about mail of everybody [policy.milter]\n  {filters}");
        }
        Ok(text)
    }
}

fn callouts(report: &mut Report<'_>, table: &PolicyTable) -> CalloutSettings {
    let mut callouts = CalloutSettings::default();
    for text in table.callout.iter().flatten() {
        match text.get_ref().as_str() {
            "sender" => callouts.sender = true,
            "client" => callouts.client = true,
            other => {
                let shown = other.escape_debug();
                report.add(text.span(), "policy.callout", format!("`{shown}` is not sender or client"));
            }
        }
    }
    let per_minute = table.callouts_per_minute.clone();
    set(report, "policy.callouts_per_minute", 1, 6000, per_minute, &mut callouts.per_minute);
    callouts
}

fn callout_words(callouts: CalloutSettings) -> Vec<&'static str> {
    [("sender", callouts.sender), ("client", callouts.client)]
        .iter()
        .filter(|(_, on)| *on)
        .map(|(word, _)| *word)
        .collect()
}

fn all<T: FromStr<Err: Display>>(report: &mut Report<'_>, key: &str, kind: &str, texts: &[Spanned<String>]) -> Vec<T> {
    texts.iter().filter_map(|text| parsed(report, key, kind, text)).collect()
}

fn actions(
    report: &mut Report<'_>,
    key: &str,
    table: &BTreeMap<Spanned<String>, Spanned<String>>,
) -> Vec<(String, Action)> {
    let kinds = Action::ALL.map(Action::as_str).join(", ");
    let action = |(name, text): (&Spanned<String>, &Spanned<String>)| {
        let action = word(report, key, &format!("one of {kinds}"), Some(text), Action::from_word)?;
        Some((name.get_ref().clone(), action))
    };
    table.iter().filter_map(action).collect()
}

fn word<T>(
    report: &mut Report<'_>,
    key: &str,
    kinds: &str,
    text: Option<&Spanned<String>>,
    meaning: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let text = text?;
    let found = meaning(text.get_ref());
    if found.is_none() {
        report.add(text.span(), key, format!("`{}` is not {kinds}", text.get_ref().escape_debug()));
    }
    found
}

/// With every key, so that every default can be seen.
impl From<&PolicySettings> for PolicyTable {
    fn from(config: &PolicySettings) -> Self {
        let address = |address: &Option<FilterAddress>| address.as_ref().map(|it| unplaced(it.to_string()));
        let score = |score: Option<u32>| Some(unplaced(score.unwrap_or(0)));
        let words = |actions: &[(String, Action)]| {
            let word = |(name, action): &(String, Action)| (unplaced(name.clone()), unplaced(action.to_string()));
            actions.iter().map(word).collect()
        };
        Self {
            preset: Some(unplaced(config.preset.as_str().to_owned())),
            trusted: Some(texts(&config.trusted)),
            trusted_sealers: Some(texts(&config.trusted_sealers)),
            forwarders: Some(texts(&config.forwarders)),
            dns: Some(texts(&config.dns)),
            greylist: Some(unplaced(config.greylist)),
            receipts: Some(unplaced(if config.strips_receipts { STRIP } else { KEEP }.to_owned())),
            abuse_form: config.abuse_form.as_ref().map(|form| unplaced(form.as_str().to_owned())),
            clamd: address(&config.clamd),
            spamd: address(&config.spamd),
            rspamd: address(&config.rspamd),
            filter_seconds: Some(unplaced(config.filter_limits.time.as_secs())),
            filter_octets: Some(unplaced(config.filter_limits.octets)),
            greylist_score: score(config.thresholds.greylist),
            tag_score: score(config.thresholds.tag),
            reject_score: score(config.thresholds.reject),
            allowlists: Some(texts(&config.allowlists)),
            callout: Some(texts(&callout_words(config.callouts))),
            callouts_per_minute: Some(unplaced(config.callouts.per_minute)),
            actions: words(&config.actions),
            unknown: words(&config.unknown),
            weights: config.weights.iter().map(|(name, weight)| (unplaced(name.clone()), unplaced(*weight))).collect(),
            access: config.access.iter().map(access::table).collect(),
            dmarc_reports: DmarcReportsTable::from(&config.dmarc_reports),
            milter: config.milters.iter().map(MilterTable::from).collect(),
            blocklist: config
                .blocklists
                .iter()
                .map(|list| BlocklistTable {
                    zone: unplaced(list.zone.to_string()),
                    of: Some(unplaced(list.of)),
                    weight: list.weight.map(unplaced),
                    refuse: Some(unplaced(list.refuse)),
                })
                .collect(),
            rate: config.rates.iter().map(RateTable::from).collect(),
        }
    }
}
