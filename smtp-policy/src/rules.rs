//! The configuration of the verdict: what is done about each practice, and the thresholds.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::finding::Action;
use crate::practice::{Practice, Preset, Setting};

/// From which score on a message is greylisted, tagged, rejected (PRACTICES P8). `None` of one switches it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// The client is asked to come again. Default: 2.
    pub greylist: Option<u32>,
    /// The message is delivered with a mark. Default: 5.
    pub tag: Option<u32>,
    /// The message is refused, once its content was seen. Default: 10.
    pub reject: Option<u32>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { greylist: Some(2), tag: Some(5), reject: Some(10) }
    }
}

/// A configuration names a practice that no check observes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no check observes `{0}`")]
pub struct UnknownPractice(pub String);

/// What is done about each practice.
#[derive(Debug, Clone)]
pub struct Rules {
    preset: Preset,
    thresholds: Thresholds,
    practices: BTreeMap<&'static str, (Practice, Setting)>,
}

impl Rules {
    /// Those of a preset, for practices that are added later. With [`Preset::RfcStrict`] no score has an effect.
    pub fn new(preset: Preset) -> Self {
        let thresholds = match preset {
            Preset::RfcStrict => Thresholds { greylist: None, tag: None, reject: None },
            Preset::Bcp | Preset::BcpStrict => Thresholds::default(),
        };
        Self { preset, thresholds, practices: BTreeMap::new() }
    }

    /// With these practices, as the preset has them. One that is there stays.
    #[must_use]
    pub fn with_practices<'a>(mut self, practices: impl IntoIterator<Item = &'a Practice>) -> Self {
        self.add(practices);
        self
    }

    pub(crate) fn add<'a>(&mut self, practices: impl IntoIterator<Item = &'a Practice>) {
        for practice in practices {
            self.practices.entry(practice.name()).or_insert((*practice, practice.setting(self.preset)));
        }
    }

    /// With other thresholds.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds, ..self }
    }

    /// Sets what is done where a practice is not kept. [`Action::Off`] holds also for where it cannot be known.
    ///
    /// # Errors
    /// [`UnknownPractice`].
    pub fn set_action(&mut self, practice: &str, action: Action) -> Result<(), UnknownPractice> {
        let setting = self.setting_mut(practice)?;
        setting.fails = action;
        if action == Action::Off {
            setting.unknown = Action::Off;
        }
        Ok(())
    }

    /// Sets what is done where a practice cannot be known. [`Action::Reject`] has the effect of [`Action::Defer`].
    ///
    /// # Errors
    /// [`UnknownPractice`].
    pub fn set_action_for_unknown(&mut self, practice: &str, action: Action) -> Result<(), UnknownPractice> {
        self.setting_mut(practice)?.unknown = action;
        Ok(())
    }

    /// Sets what a practice adds to the score where it scores.
    ///
    /// # Errors
    /// [`UnknownPractice`].
    pub fn set_weight(&mut self, practice: &str, weight: u16) -> Result<(), UnknownPractice> {
        self.setting_mut(practice)?.weight = weight;
        Ok(())
    }

    fn setting_mut(&mut self, practice: &str) -> Result<&mut Setting, UnknownPractice> {
        let found = self.practices.get_mut(practice);
        found.map(|(_, setting)| setting).ok_or_else(|| UnknownPractice(practice.to_owned()))
    }

    /// The preset they come from.
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// The thresholds.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// What is done where a practice is not kept; `None` of one that no check observes.
    pub fn action(&self, practice: &str) -> Option<Action> {
        self.practices.get(practice).map(|(_, setting)| setting.fails)
    }

    /// Whether anything depends on one of these practices.
    pub fn want_any(&self, practices: &[Practice]) -> bool {
        practices.iter().any(|practice| self.get(practice.name()).is_some_and(|(_, setting)| !setting.is_off()))
    }

    /// The names of the practices that are looked at.
    pub fn looked_at(&self) -> impl Iterator<Item = &'static str> {
        self.practices.iter().filter(|(_, (_, setting))| !setting.is_off()).map(|(name, _)| *name)
    }

    /// What is only observed here and more by the preset: that action of the preset.
    pub(crate) fn shadow_action(&self, practice: &Practice, setting: Setting) -> Option<Action> {
        let preset = practice.setting(self.preset).fails;
        (setting.fails == Action::Observe && preset > Action::Observe).then_some(preset)
    }

    /// The same, where all that is only observed has the action of the preset: what shadow mode holds back.
    #[must_use]
    pub fn without_shadow(&self) -> Self {
        let mut rules = self.clone();
        for (practice, setting) in rules.practices.values_mut() {
            setting.fails = self.shadow_action(practice, *setting).unwrap_or(setting.fails);
        }
        rules
    }

    pub(crate) fn get(&self, practice: &str) -> Option<(&Practice, Setting)> {
        self.practices.get(practice).map(|(practice, setting)| (practice, *setting))
    }

    /// A line for each practice: its number, name, what is done about it, and what it asks.
    pub fn explain(&self) -> String {
        let mut lines = vec![self.explain_preset()];
        lines.extend(self.practices.keys().filter_map(|name| self.explain_practice(name)));
        lines.push(self.explain_thresholds());
        lines.join("\n")
    }

    pub(crate) fn explain_preset(&self) -> String {
        format!("preset {}", self.preset.as_str())
    }

    /// What is only observed has the action of the preset behind it.
    pub(crate) fn explain_practice(&self, name: &str) -> Option<String> {
        let (practice, setting) = self.get(name)?;
        let weight = if setting.fails == Action::Score { format!(" {}", setting.weight) } else { String::new() };
        let shadow = self.shadow_action(practice, setting);
        let shadow = shadow.map(|action| format!(", in shadow: {action}")).unwrap_or_default();
        let unknown = match setting.unknown {
            Action::Off | Action::Observe => String::new(),
            action => format!(", unknown: {action}"),
        };
        let action = format!("{}{weight}{shadow}{unknown}", setting.fails);
        Some(format!("{:<7} {:<28} {action:<28} {}", practice.id(), practice.name(), practice.about()))
    }

    pub(crate) fn explain_thresholds(&self) -> String {
        let threshold = |score: Option<u32>| score.map_or_else(|| "off".to_owned(), |score| score.to_string());
        let Thresholds { greylist, tag, reject } = self.thresholds;
        let [greylist, tag, reject] = [greylist, tag, reject].map(threshold);
        format!("score: greylist {greylist}, tag {tag}, reject {reject}")
    }
}
