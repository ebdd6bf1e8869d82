//! Which characters a notification may have: those of ASCII, or, where its reader needs `SMTPUTF8` anyway, all of Unicode
//! (RFC 6533).

use smtp_core::{Mailbox, OriginalRecipient};

/// The characters of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// Printable ASCII: such a notification goes by every host.
    Ascii,
    /// All that is printable: such a notification needs `SMTPUTF8`, as the mailbox does that it goes to.
    Utf8,
}

impl Charset {
    /// For a notification to that mailbox.
    pub(super) fn of(to: &Mailbox) -> Self {
        if to.is_ascii() { Self::Ascii } else { Self::Utf8 }
    }

    /// Text with `?` for what cannot stand there.
    pub(super) fn clean(self, text: &str) -> String {
        let is_allowed = |c: char| matches!(c, ' '..='~') || (self == Self::Utf8 && !c.is_ascii() && !c.is_control());
        text.chars().map(|c| if is_allowed(c) { c } else { '?' }).collect()
    }

    /// An address with its type (RFC 3464 §2.3.1, RFC 6533 §3); `None` where it is too long.
    pub(super) fn address(self, mailbox: &Mailbox) -> Option<String> {
        if mailbox.is_ascii() {
            return Some(format!("rfc822; {mailbox}"));
        }
        match self {
            Self::Ascii => {
                let escaped = OriginalRecipient::of(mailbox).ok()?;
                Some(format!("{}; {}", escaped.address_type(), escaped.address()))
            }
            Self::Utf8 => Some(format!("utf-8; {mailbox}")),
        }
    }

    /// The type of the part for people.
    pub(super) fn text_type(self) -> &'static str {
        match self {
            Self::Ascii => "text/plain; charset=us-ascii",
            Self::Utf8 => "text/plain; charset=utf-8",
        }
    }

    /// The type of the part for programs (RFC 3464 §2, RFC 6533 §4).
    pub(super) fn status_type(self) -> &'static str {
        match self {
            Self::Ascii => "message/delivery-status",
            Self::Utf8 => "message/global-delivery-status",
        }
    }

    /// The type of what is returned (RFC 6533 §5).
    pub(super) fn returned_type(self, media_type: &'static str) -> &'static str {
        match (self, media_type) {
            (Self::Utf8, "message/rfc822") => "message/global",
            (Self::Utf8, "text/rfc822-headers") => "message/global-headers",
            _ => media_type,
        }
    }
}
