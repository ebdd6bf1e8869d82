//! Which of the two protocols is spoken.

/// SMTP, or its variant for the last step to the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransferProtocol {
    /// The Simple Mail Transfer Protocol (RFC 5321): one reply for the message.
    #[default]
    Smtp,
    /// The Local Mail Transfer Protocol (RFC 2033): `LHLO` in the place of `EHLO` and `HELO`, and behind the content a reply
    /// for each recipient.
    Lmtp,
}

impl TransferProtocol {
    /// Whether it is LMTP.
    pub fn is_lmtp(self) -> bool {
        self == Self::Lmtp
    }
}
