//! What was found of our own records: how bad it is, what was seen, and what to do about it.

use std::fmt::{self, Display, Write as _};

use smtp_core::{DnsName, SafeText};

/// How bad it is. The order is that of what to look at first, the last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Nothing is wrong; something could be better, or must be looked at by people.
    Note,
    /// DNS, or whoever else was asked, gave no answer: neither good nor bad.
    Unknown,
    /// Mail may be judged worse for it, or is lost in rare cases.
    Warning,
    /// Mail is refused or lost for it.
    Error,
}

impl Severity {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// One character in front of a line.
    pub fn symbol(self) -> char {
        match self {
            Self::Ok => '+',
            Self::Note => '-',
            Self::Unknown => '?',
            Self::Warning => '!',
            Self::Error => 'X',
        }
    }
}

/// One thing that is looked at: its name, the practice that asks for it, and how it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfItem {
    id: &'static str,
    practice: &'static str,
    what: &'static str,
}

impl SelfItem {
    /// With its name like `mx-alias`, its number in the list of practices, and how it should be.
    pub const fn new(id: &'static str, practice: &'static str, what: &'static str) -> Self {
        Self { id, practice, what }
    }

    /// It is so.
    pub fn ok(&self, subject: impl Display, evidence: impl Into<String>) -> SelfFinding {
        self.found(Severity::Ok, subject, evidence)
    }

    /// It could be better, or must be looked at by people.
    pub fn note(&self, subject: impl Display, evidence: impl Into<String>) -> SelfFinding {
        self.found(Severity::Note, subject, evidence)
    }

    /// Nobody said.
    pub fn unknown(&self, subject: impl Display, evidence: impl Into<String>) -> SelfFinding {
        self.found(Severity::Unknown, subject, evidence)
    }

    /// It is not quite so.
    pub fn warning(&self, subject: impl Display, evidence: impl Into<String>) -> SelfFinding {
        self.found(Severity::Warning, subject, evidence)
    }

    /// It is not so.
    pub fn error(&self, subject: impl Display, evidence: impl Into<String>) -> SelfFinding {
        self.found(Severity::Error, subject, evidence)
    }

    fn found(&self, severity: Severity, subject: impl Display, evidence: impl Into<String>) -> SelfFinding {
        let (subject, evidence) = (SafeText::new(subject.to_string()), SafeText::new(evidence.into()));
        SelfFinding { item: *self, severity, subject, evidence, instruction: None, records: Vec::new() }
    }
}

/// What was found of one thing. All text in it can be shown to people: nothing that came from DNS drives a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfFinding {
    item: SelfItem,
    severity: Severity,
    subject: SafeText,
    evidence: SafeText,
    instruction: Option<SafeText>,
    records: Vec<String>,
}

impl SelfFinding {
    /// With what is to be done.
    #[must_use]
    pub fn advising(self, instruction: impl Into<String>) -> Self {
        Self { instruction: Some(SafeText::new(instruction.into())), ..self }
    }

    /// With a record that belongs into DNS.
    #[must_use]
    pub(super) fn publishing(mut self, record: String) -> Self {
        self.records.push(record);
        self
    }

    /// Its name.
    pub fn id(&self) -> &'static str {
        self.item.id
    }

    /// The practice that asks for it.
    pub fn practice(&self) -> &'static str {
        self.item.practice
    }

    /// How it should be.
    pub fn what(&self) -> &'static str {
        self.item.what
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Of what: a name or an address.
    pub fn subject(&self) -> &SafeText {
        &self.subject
    }

    /// What was seen.
    pub fn evidence(&self) -> &SafeText {
        &self.evidence
    }

    /// What is to be done.
    pub fn instruction(&self) -> Option<&SafeText> {
        self.instruction.as_ref()
    }

    /// What belongs into DNS, as lines of a zone (RFC 1035 §5.1), ready to paste.
    pub fn records(&self) -> &[String] {
        &self.records
    }
}

impl Display for SelfFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (symbol, SelfItem { id, practice, what }) = (self.severity.symbol(), self.item);
        writeln!(f, "{symbol} {id} ({practice}) {}: {what}", self.subject)?;
        writeln!(f, "    seen: {}", self.evidence)?;
        if let Some(instruction) = &self.instruction {
            writeln!(f, "    do:   {instruction}")?;
        }
        self.records.iter().try_for_each(|record| writeln!(f, "          {record}"))
    }
}

/// All that was found. Its text has a paragraph for each finding, and the sums at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelfReport {
    findings: Vec<SelfFinding>,
}

impl SelfReport {
    /// Of these findings.
    pub fn new(findings: impl IntoIterator<Item = SelfFinding>) -> Self {
        Self { findings: findings.into_iter().collect() }
    }

    /// The findings, in the order in which things were looked at.
    pub fn findings(&self) -> &[SelfFinding] {
        &self.findings
    }

    /// How many are so bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl Extend<SelfFinding> for SelfReport {
    fn extend<T: IntoIterator<Item = SelfFinding>>(&mut self, findings: T) {
        self.findings.extend(findings);
    }
}

impl Display for SelfReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| finding.fmt(f))?;
        let sums = [Severity::Error, Severity::Warning, Severity::Unknown, Severity::Note, Severity::Ok]
            .map(|severity| format!("{} {}", self.count(severity), severity.as_str()));
        writeln!(f, "{}", sums.join(", "))
    }
}

/// A line of a zone.
pub(super) fn record(owner: &DnsName, kind: &str, data: impl Display) -> String {
    format!("{owner}. IN {kind} {data}")
}

/// The line of a `TXT` record, in strings of 255 octets at most (RFC 1035 §3.3).
pub(super) fn text_record(owner: &DnsName, text: &str) -> String {
    let mut strings = String::new();
    for part in text.as_bytes().chunks(255) {
        let part = String::from_utf8_lossy(part).replace('\\', "\\\\").replace('"', "\\\"");
        // Writing into memory does not fail.
        let _ = write!(strings, "{}\"{part}\"", if strings.is_empty() { "" } else { " " });
    }
    record(owner, "TXT", strings)
}
