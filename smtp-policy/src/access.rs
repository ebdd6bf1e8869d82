//! The operator's own rules: who is refused, asked to come later, or spared, by address or name (PRACTICES B2505.5–7; RFC 2505
//! §2.5, §2.6).
//!
//! No rule can match the null reverse-path as sender: whoever refuses it loses notifications (RFC 2505 §2.6.1).

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use smtp_core::{
    Connection, Domain, ForwardPath, Mailbox, Policy, PolicyContext, Recipient, Refusal, SafeText, Stages, Transaction,
    Treatment, Verdict, async_trait,
};
use thiserror::Error;

/// A domain, or all domains beneath one: `example.com`, `.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainPattern {
    /// In lower case, as A-labels.
    domain: String,
    is_beneath: bool,
}

impl DomainPattern {
    /// Whether it means that domain.
    pub fn matches(&self, domain: &Domain) -> bool {
        let domain = domain.to_ascii().as_str().to_ascii_lowercase();
        if self.is_beneath {
            domain.strip_suffix(&self.domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            domain == self.domain
        }
    }
}

impl FromStr for DomainPattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let name = text.strip_prefix('.');
        let domain = Domain::parse(name.unwrap_or(text)).map_err(|_| NotAPattern(SafeText::new(text.to_owned())))?;
        Ok(Self { domain: domain.to_ascii().as_str().to_ascii_lowercase(), is_beneath: name.is_some() })
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_beneath { "." } else { "" }, self.domain)
    }
}

/// A mailbox, or all of some domains: `user@example.com`, `example.com`, `.example.com`. Local-parts are the same in any case of
/// letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailboxPattern {
    /// In lower case; `None`: any.
    local_part: Option<String>,
    domain: DomainPattern,
}

impl MailboxPattern {
    /// Whether it means that mailbox. Mailboxes at address literals are met by no pattern.
    pub fn matches(&self, mailbox: &Mailbox) -> bool {
        let local_part = || mailbox.local_part().to_nfc().to_lowercase();
        mailbox.domain().is_some_and(|domain| self.domain.matches(domain))
            && self.local_part.as_ref().is_none_or(|wanted| *wanted == local_part())
    }

    /// Whether it means every mailbox of that domain.
    pub fn matches_all_of(&self, domain: &Domain) -> bool {
        self.local_part.is_none() && self.domain.matches(domain)
    }
}

impl FromStr for MailboxPattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        if !text.contains('@') {
            return Ok(Self { local_part: None, domain: text.parse()? });
        }
        let nothing = || NotAPattern(SafeText::new(text.to_owned()));
        let mailbox = Mailbox::parse(text).map_err(|_| nothing())?;
        let domain = mailbox.domain().ok_or_else(nothing)?.as_str().parse()?;
        Ok(Self { local_part: Some(mailbox.local_part().to_nfc().to_lowercase()), domain })
    }
}

impl fmt::Display for MailboxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.local_part {
            Some(local_part) => write!(f, "{local_part}@{}", self.domain),
            None => self.domain.fmt(f),
        }
    }
}

/// The text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is neither a domain nor, where that is asked for, a mailbox")]
pub struct NotAPattern(SafeText);

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccessSubject {
    /// A client in that network.
    Client(IpNet),
    /// A client that says such a name in `EHLO` or `HELO`.
    Greeting(DomainPattern),
    /// Such a reverse-path.
    Sender(MailboxPattern),
    /// Such a forward-path.
    Recipient(MailboxPattern),
}

/// What is done about whom a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccessAction {
    /// Policies behind the rules are not asked at `RCPT`, and a [`Chain`](crate::Chain) judges that copy as one for a role mailbox:
    /// content is marked at most, malware refused.
    Exempt,
    /// `451 4.7.1` at `RCPT`.
    Defer,
    /// `550 5.7.1` at `RCPT`.
    Refuse,
    /// `554 5.7.1` as greeting, and the session ends: for clients only. Role mailboxes cannot be reached from there, so it is
    /// for attacks (PRACTICES P3a).
    Block,
}

impl AccessAction {
    /// All.
    pub const ALL: [Self; 4] = [Self::Exempt, Self::Defer, Self::Refuse, Self::Block];

    /// The word for it in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exempt => "exempt",
            Self::Defer => "defer",
            Self::Refuse => "refuse",
            Self::Block => "block",
        }
    }

    /// The action of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }
}

/// Only clients can be blocked: of nobody else is anything known when they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("only clients can be blocked; others are refused")]
pub struct NotBlockable;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    subject: AccessSubject,
    action: AccessAction,
    text: Option<SafeText>,
}

impl AccessRule {
    /// Does that about whom.
    ///
    /// # Errors
    /// [`NotBlockable`] where others than clients are to be blocked.
    pub fn new(subject: AccessSubject, action: AccessAction) -> Result<Self, NotBlockable> {
        match (&subject, action) {
            (AccessSubject::Client(_), _) | (_, AccessAction::Exempt | AccessAction::Defer | AccessAction::Refuse) => {
                Ok(Self { subject, action, text: None })
            }
            (_, AccessAction::Block) => Err(NotBlockable),
        }
    }

    /// With what a refused client is told, in the place of our words.
    #[must_use]
    pub fn saying(self, text: impl Into<String>) -> Self {
        Self { text: Some(SafeText::new(text.into())), ..self }
    }

    /// Whom it is about.
    pub fn subject(&self) -> &AccessSubject {
        &self.subject
    }

    /// What is done.
    pub fn action(&self) -> AccessAction {
        self.action
    }

    /// What a refused client is told, where that was said.
    pub fn text(&self) -> Option<&SafeText> {
        self.text.as_ref()
    }

    fn refusal(&self) -> Refusal {
        let text = self.text.as_ref().map(|text| text.as_str().to_owned());
        let text = |ours: &str| text.unwrap_or_else(|| ours.to_owned());
        match self.action {
            AccessAction::Block => {
                Refusal::permanent(7, 1, text("No mail from your network")).with_code(554).immediately().and_close()
            }
            AccessAction::Refuse => Refusal::permanent(7, 1, text("Refused by a rule of this server")),
            AccessAction::Defer | AccessAction::Exempt => {
                Refusal::transient(7, 1, text("Not now, by a rule of this server"))
            }
        }
    }
}

/// The operator's rules, in their order: the first that fits holds. They are to be given to a server in front of other policies.
///
/// Refusals are given at `RCPT`, but to role mailboxes, and blocked clients are told at once. Clients that are authenticated or may
/// relay have no rules.
///
/// ```
/// use smtp_policy::{AccessAction, AccessRule, AccessRules, AccessSubject};
///
/// let rules = AccessRules::new()
///     .with(AccessRule::new(AccessSubject::Client("192.0.2.17/32".parse()?), AccessAction::Exempt)?)
///     .with(AccessRule::new(AccessSubject::Client("192.0.2.0/24".parse()?), AccessAction::Block)?)
///     .with(AccessRule::new(AccessSubject::Sender(".example.com".parse()?), AccessAction::Refuse)?.saying("Not you"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    rules: Vec<AccessRule>,
}

/// The recipients of a transaction whom a rule exempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exempted(Vec<ForwardPath>);

impl Exempted {
    pub(crate) fn contains(&self, path: &ForwardPath) -> bool {
        self.0.contains(path)
    }
}

impl AccessRules {
    /// Without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another rule, behind the others.
    #[must_use]
    pub fn with(mut self, rule: AccessRule) -> Self {
        self.rules.push(rule);
        self
    }

    fn blocks(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == AccessAction::Block)
    }
}

/// Whether strangers' rules hold for it (PRACTICES P6).
fn is_stranger(connection: &Connection) -> bool {
    !matches!(connection.treatment(), Treatment::Submission | Treatment::RelayClient)
}

fn is_client(rule: &AccessRule, connection: &Connection) -> bool {
    let peer = connection.peer().ip().to_canonical();
    matches!(&rule.subject, AccessSubject::Client(network) if network.contains(&peer))
}

fn fits(rule: &AccessRule, connection: &Connection, transaction: Option<&Transaction>, to: &ForwardPath) -> bool {
    match &rule.subject {
        AccessSubject::Client(_) => is_client(rule, connection),
        AccessSubject::Greeting(pattern) => {
            let name = connection.greeting().and_then(|greeting| greeting.host().domain());
            name.is_some_and(|name| pattern.matches(name))
        }
        AccessSubject::Sender(pattern) => {
            let mailbox = transaction.and_then(|transaction| transaction.reverse_path().mailbox());
            mailbox.is_some_and(|mailbox| pattern.matches(mailbox))
        }
        AccessSubject::Recipient(pattern) => to.mailbox().is_some_and(|mailbox| pattern.matches(mailbox)),
    }
}

#[async_trait]
impl Policy for AccessRules {
    fn name(&self) -> &'static str {
        "access"
    }

    fn stages(&self) -> Stages {
        let connect = if self.blocks() { Stages::CONNECT } else { Stages::NONE };
        if self.rules.is_empty() { Stages::NONE } else { connect | Stages::RECIPIENT }
    }

    async fn connect(&self, cx: &mut PolicyContext<'_>) -> Verdict {
        let connection = cx.connection();
        let rule = self.rules.iter().find(|rule| is_client(rule, connection));
        match rule.filter(|rule| rule.action == AccessAction::Block && is_stranger(connection)) {
            Some(rule) => Verdict::Refuse(rule.refusal()),
            None => Verdict::Continue,
        }
    }

    async fn recipient(&self, cx: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        let (connection, transaction, path) = (cx.connection(), cx.transaction(), recipient.path());
        if !is_stranger(connection) {
            return Verdict::Continue;
        }
        match self.rules.iter().find(|rule| fits(rule, connection, transaction, path)) {
            Some(rule) if rule.action == AccessAction::Exempt => {
                let Exempted(mut all) = cx.transaction_extensions().get().cloned().unwrap_or_default();
                all.push(path.clone());
                cx.insert_transaction(Exempted(all));
                Verdict::Exempt
            }
            Some(rule) => Verdict::Refuse(rule.refusal()),
            None => Verdict::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // PRACTICES B2505.5–7
    fn b2505_5_patterns_of_mailboxes_and_domains() {
        for (pattern, mailbox, matches) in [
            ("example.com", "a@example.com", true),
            ("Example.COM", "a@eXample.com", true),
            ("example.com", "a@sub.example.com", false),
            ("example.com", "a@badexample.com", false),
            (".example.com", "a@sub.example.com", true),
            (".example.com", "a@x.sub.example.com", true),
            (".example.com", "a@example.com", false),
            (".example.com", "a@badexample.com", false),
            ("b\u{fc}cher.example", "a@xn--bcher-kva.example", true),
            ("xn--bcher-kva.example", "a@b\u{fc}cher.example", true),
            ("user@example.com", "USER@Example.com", true),
            ("user@example.com", "other@example.com", false),
            ("user@example.com", "user@sub.example.com", false),
            ("\"user\"@example.com", "user@example.com", true),
            ("example.com", "a@[192.0.2.1]", false),
        ] {
            let pattern: MailboxPattern = pattern.parse().expect("a pattern");
            assert_eq!(pattern.matches(&mailbox.parse().expect("a mailbox")), matches, "{pattern} {mailbox}");
        }
        for text in ["", ".", "@", "a@", "@example.com", "<>", "a@.example.com", "*.example.com", "a b", "x\r\ny"] {
            assert!(text.parse::<MailboxPattern>().is_err(), "{text:?}");
        }
    }

    #[test] // PRACTICES P3a
    fn p3a_only_clients_can_be_blocked() {
        let sender = AccessSubject::Sender("example.com".parse().expect("a pattern"));
        assert_eq!(AccessRule::new(sender.clone(), AccessAction::Block), Err(NotBlockable));
        assert!(AccessRule::new(sender, AccessAction::Refuse).is_ok());
        assert!(AccessAction::ALL.iter().all(|action| AccessAction::from_word(action.as_str()) == Some(*action)));
    }
}
