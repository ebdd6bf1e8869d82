//! Variable envelope return paths: each recipient of a list has a reverse-path of its own, so that a notification names whom it is
//! about.

use smtp_core::{Mailbox, Outbound, OutboundPolicy, OutboundRecipient, ReversePath, Transient, async_trait};

use crate::srs::{LOCAL_PART_OCTETS, mailbox};

/// Writes a recipient into a reverse-path, and reads it there: `news-return+bob=third.example@example.org`.
///
/// As an [`OutboundPolicy`] it does so for messages whose reverse-path is that of the list. A recipient that would make the
/// local-part longer than 64 octets gets the reverse-path of the list.
///
/// ```
/// use smtp_policy::Verp;
///
/// let verp = Verp::new("news-return@example.org".parse()?);
/// let path = verp.encode(&"bob@third.example".parse()?).ok_or("too long")?;
/// assert_eq!(path.to_string(), "news-return+bob=third.example@example.org");
/// assert_eq!(verp.decode(&path), Some("bob@third.example".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Verp {
    list: Mailbox,
}

impl Verp {
    /// For messages with that reverse-path.
    pub fn new(list: Mailbox) -> Self {
        Self { list }
    }

    /// The reverse-path for that recipient; `None` where the local-part would have more than 64 octets, or its host is an address
    /// literal with an `=`.
    pub fn encode(&self, recipient: &Mailbox) -> Option<Mailbox> {
        let host = recipient.host().clone().into_ascii().to_string();
        if host.contains('=') {
            return None;
        }
        let local_part = format!("{}+{}={host}", self.list.local_part().as_str(), recipient.local_part().as_str());
        let encoded = mailbox(&local_part, &self.list.host().to_string())?;
        (encoded.local_part().to_string().len() <= LOCAL_PART_OCTETS).then_some(encoded)
    }

    /// The recipient for whom that reverse-path was made; `None` where it is none of this list. Letters may have lost their case
    /// on the way.
    pub fn decode(&self, path: &Mailbox) -> Option<Mailbox> {
        if path.host() != self.list.host() {
            return None;
        }
        let list = self.list.local_part().as_str();
        let (before, rest) = path.local_part().as_str().split_at_checked(list.len())?;
        let (local_part, host) = rest.strip_prefix('+')?.rsplit_once('=')?;
        if before.eq_ignore_ascii_case(list) { mailbox(local_part, host) } else { None }
    }
}

#[async_trait]
impl OutboundPolicy for Verp {
    async fn enqueue(&self, message: &Outbound<'_>, recipients: &mut [OutboundRecipient]) -> Result<(), Transient> {
        if message.reverse_path().mailbox() == Some(&self.list) {
            for recipient in recipients {
                if let Some(path) = self.encode(recipient.mailbox()) {
                    recipient.set_reverse_path(ReversePath::Mailbox(path));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verp() -> Verp {
        Verp::new("News-return@example.org".parse().expect("a mailbox"))
    }

    #[test]
    fn paths_of_other_lists_and_without_a_recipient_name_nobody() {
        for (path, recipient) in [
            ("news-return+bob=third.example@EXAMPLE.org", Some("bob@third.example")),
            ("NEWS-RETURN+a=b+c=third.example@example.org", Some("a=b+c@third.example")),
            ("news-return@example.org", None),
            ("news-return+bob@example.org", None),
            ("news-return+=third.example@example.org", Some("\"\"@third.example")),
            ("news-return+bob=@example.org", None),
            ("news-return-bob=third.example@example.org", None),
            ("other-return+bob=third.example@example.org", None),
            ("news-return+bob=third.example@example.net", None),
            ("\u{fc}+bob=third.example@example.org", None),
        ] {
            let found = verp().decode(&path.parse().expect("a mailbox"));
            assert_eq!(found.map(|found| found.to_string()).as_deref(), recipient, "{path}");
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(local in "[a-zA-Z0-9=+_-]{1,50}|\"[ -!#-\\[\\]-~]{1,20}\"", host in "[a-z]{1,9}\\.example|\\[192\\.0\\.2\\.1\\]") {
            let recipient: Mailbox = format!("{local}@{host}").parse().expect("a mailbox");
            match verp().encode(&recipient) {
                Some(path) => {
                    prop_assert!(path.local_part().to_string().len() <= 64);
                    prop_assert_eq!(verp().decode(&path.to_string().parse().expect("a mailbox")), Some(recipient));
                }
                None => prop_assert!(local.len() + host.len() > 45 || local.starts_with('"') || host.starts_with('[')),
            }
        }
    }
}
