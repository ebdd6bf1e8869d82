//! What is wrong with a configuration, and where: `mta.toml:3:9: hostnam: unknown key`.

use std::fmt;
use std::io;
use std::ops::Range;

use smtp_core::SafeText;
use thiserror::Error;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot be read")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// What it says makes no sense.
    #[error("{0}")]
    Problems(Problems),
}

/// All that is wrong with one file, a line for each thing.
#[derive(Debug)]
pub(crate) struct Problems {
    lines: Vec<String>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// Gathers what is wrong with one file.
#[derive(Debug)]
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<(usize, String)>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Something is wrong with the value of `key` that stands at `span`, in octets of the file.
    pub(super) fn add(&mut self, span: Range<usize>, key: &str, problem: impl fmt::Display) {
        let (line, column) = position(self.text, span.start);
        self.found.push((span.start, format!("{}:{line}:{column}: {key}: {problem}", self.file)));
    }

    /// What the parser found, in our words.
    pub(super) fn add_parse_error(&mut self, mut error: toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        // Without its input the error shows itself as the message and, on the next line, the path of the key.
        error.set_input(None);
        let shown = error.to_string();
        let path = shown.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or("");
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let (line, column) = position(self.text, span.start);
        let place = format!("{}:{line}:{column}", self.file);
        let text = match (message.strip_prefix("unknown field "), path) {
            (Some(rest), "") => format!("{place}: unknown key {rest}"),
            (Some(rest), path) => format!("{place}: in `{path}`: unknown key {rest}"),
            (None, "") => format!("{place}: {}: {message}", self.key_in_line(line)),
            (None, path) => format!("{place}: {path}: {message}"),
        };
        self.found.push((span.start, text));
    }

    /// What stands before the `=`, for errors in what is not yet TOML.
    fn key_in_line(&self, line: usize) -> SafeText {
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        SafeText::new(text.split('=').next().unwrap_or_default().trim().to_owned())
    }

    /// Something that cannot be a configuration at all.
    pub(super) fn add_at(&mut self, octet: usize, problem: impl fmt::Display) {
        let (line, column) = position(self.text, octet);
        self.found.push((octet, format!("{}:{line}:{column}: {problem}", self.file)));
    }

    /// `value`, if nothing is wrong.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        self.found.sort();
        let lines = self.found.into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        match value {
            Some(value) if lines.is_empty() => Ok(value),
            _ => Err(ConfigError::Problems(Problems { lines })),
        }
    }
}

/// Line and column, both from 1, of an octet; columns count characters.
fn position(text: &str, octet: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..octet.min(text.len())];
    let line_start = before.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let line = before.split(|&octet| octet == b'\n').count();
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}
