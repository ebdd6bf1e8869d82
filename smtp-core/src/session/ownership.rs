//! What a lookup says of the owner of a mailbox.

/// Whether a mailbox has had one owner since a moment (RFC 7293 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ownership {
    /// It has.
    Continuous,
    /// It had another owner then, or none: `550 5.7.17`.
    MailboxChanged,
    /// The domain had: `550 5.7.18`.
    DomainChanged,
    /// That was not recorded: `550 5.7.19`.
    Unknown,
}
