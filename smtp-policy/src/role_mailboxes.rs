//! A form of the web in the place of the mailbox `abuse`, or the mailbox without exceptions (PRACTICES S46).

use std::str::FromStr;

use smtp_core::{ForwardPath, Refusal};
use thiserror::Error;

/// The mailbox that a form may stand for. `postmaster` has none (RFC 5321 §4.5.1).
const ABUSE: &str = "abuse";

/// The longest address: 200 octets, so that a refusal with it fits into one line (RFC 5321 §4.5.3.1.5).
const OCTETS_LIMIT: usize = 200;

/// Where reports can be made while mail to `abuse` is refused as mail to others is.
///
/// A [`Chain`](crate::Chain) that has it ([`Chain::with_abuse_form`](crate::Chain::with_abuse_form)) names it when it refuses
/// such mail for good: `550 5.7.1 … reports are taken at <URL>`. So that it can, mail for `abuse` must be filtered:
/// [`RoleMailboxes::filtering`](smtp_core::RoleMailboxes::filtering).
///
/// ```
/// use smtp_core::{MailboxTable, RoleMailboxes};
/// use smtp_policy::{AbuseForm, Chain, Preset};
///
/// let form: AbuseForm = "https://example.org/abuse".parse()?;
/// let chain = Chain::new("checks", Preset::Bcp).with_abuse_form(form);
/// let table = MailboxTable::parse("alice@example.org")?.with_roles(RoleMailboxes::default().filtering("abuse"));
/// # let _ = (chain, table);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbuseForm(Box<str>);

/// An address that cannot stand in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an address of the web: https:// or http://, then at most {OCTETS_LIMIT} octets of visible ASCII in all")]
pub struct NotAFormAddress;

impl FromStr for AbuseForm {
    type Err = NotAFormAddress;

    fn from_str(text: &str) -> Result<Self, NotAFormAddress> {
        let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let has_host = rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['));
        let is_visible = text.len() <= OCTETS_LIMIT && text.bytes().all(|octet| octet.is_ascii_graphic());
        if has_host && is_visible { Ok(Self(text.into())) } else { Err(NotAFormAddress) }
    }
}

impl AbuseForm {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a form may stand for that mailbox.
    pub(crate) fn may_stand_for(to: &ForwardPath) -> bool {
        to.local_part().eq_ignore_ascii_case(ABUSE)
    }

    /// A refusal for good, with the address.
    pub(crate) fn named_in(&self, refusal: Refusal) -> Refusal {
        let reply = refusal.reply();
        if !reply.code().is_permanent() {
            return refusal;
        }
        Refusal::permanent(7, 1, format!("{}; reports are taken at {}", reply.text(), self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // PRACTICES S46
    fn s46_what_cannot_stand_in_a_reply_is_no_address() {
        for good in ["https://example.org/abuse?by=mail", "http://[2001:db8::1]/", "https://a.example/%0d%0a"] {
            assert_eq!(good.parse::<AbuseForm>().map(|form| form.as_str().to_owned()).as_deref(), Ok(good));
        }
        let long = format!("https://{}", "a".repeat(OCTETS_LIMIT));
        for bad in [
            "",
            "example.org/abuse",
            "https://",
            "https:///abuse",
            "mailto:abuse@example.org",
            "https://example.org/\r\n250 Ok",
            "https://example.org/\n",
            "https://example.org/\r",
            "https://example.org/a b",
            "https://example.org/J\u{fc}rgen",
            &long,
        ] {
            assert_eq!(bad.parse::<AbuseForm>(), Err(NotAFormAddress), "{bad:?}");
        }
    }
}
