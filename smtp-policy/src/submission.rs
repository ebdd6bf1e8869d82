//! What a submission server adds to a message, and that it touches nothing else (RFC 6409 §8).

use std::io::{self, BufRead, BufReader};
use std::time::{SystemTime, UNIX_EPOCH};

use smtp_core::{Content, DateTime, Domain, Policy, PolicyContext, Refusal, Stages, Treatment, Verdict, async_trait};

/// Completes messages of authenticated clients: `Date` and `Message-ID` where there is none (RFC 6409 §8.2, §8.3).
///
/// What is there stays octet for octet, valid or not, and mail of others is not touched (STANDARDS R6409a). `Sender` is never
/// added: who may use which reverse-path is decided before.
///
/// ```
/// use smtp_core::{Accepted, Message, Server};
/// use smtp_policy::Submission;
///
/// let server = Server::builder("mx.example.org")
///     .local_domain("example.org")
///     .policy(Submission::new(&"mx.example.org".parse()?))
///     .deliver(|_: Message| async { Ok(Accepted::all()) });
/// # Ok::<(), smtp_core::SyntaxError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Submission {
    hostname: Domain,
}

impl Submission {
    /// With the name that stands in each `Message-ID` behind the `@`: that of this server.
    pub fn new(hostname: &Domain) -> Self {
        // A field that we add is no reason to need SMTPUTF8.
        Self { hostname: hostname.to_ascii() }
    }

    fn complete(&self, cx: &mut PolicyContext<'_>, present: Present) -> Result<(), smtp_core::HeaderFieldError> {
        let now = SystemTime::now();
        if !present.date {
            cx.complete_header("Date", &DateTime::new(now).to_string())?;
        }
        if let Some(transaction) = cx.transaction().filter(|_| !present.message_id) {
            // The transaction is one of its session, and sessions that share a name are not of the same second.
            let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let id = format!("<{seconds:x}.{}@{}>", transaction.id(), self.hostname);
            cx.complete_header("Message-ID", &id)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Policy for Submission {
    fn name(&self) -> &'static str {
        "submission"
    }

    fn stages(&self) -> Stages {
        Stages::MESSAGE
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        if cx.connection().treatment() != Treatment::Submission {
            return Verdict::Continue;
        }
        let present = if let Some(octets) = content.as_bytes() {
            Present::find(&octets[..])
        } else {
            let content = content.clone();
            let read = tokio::task::spawn_blocking(move || Present::find(BufReader::new(content.reader()?)));
            read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        let completed = present.map(|present| self.complete(cx, present));
        match completed {
            Ok(Ok(())) => Verdict::Continue,
            Ok(Err(_)) | Err(_) => Verdict::Refuse(Refusal::transient(3, 0, "Temporary failure, try again later")),
        }
    }
}

/// Which fields there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Present {
    date: bool,
    message_id: bool,
}

impl Present {
    /// Reads the header section, which the session has limited. A line that is no field is passed over, as by the engine.
    fn find(mut content: impl BufRead) -> io::Result<Self> {
        let (mut present, mut line) = (Self::default(), Vec::new());
        while !(present.date && present.message_id) {
            line.clear();
            content.read_until(b'\n', &mut line)?;
            if line.is_empty() || line == b"\r\n" {
                break;
            }
            let Some(colon) = line.iter().position(|&octet| octet == b':') else { continue };
            // White space before the colon is obsolete, and read (RFC 5322 §4.5); a line that starts with it continues another.
            let name = line[..colon].trim_ascii_end();
            present.date |= name.eq_ignore_ascii_case(b"Date");
            present.message_id |= name.eq_ignore_ascii_case(b"Message-ID");
        }
        Ok(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // STANDARDS R6409a
    fn r6409a_what_is_there_is_found_and_the_body_is_none_of_it() -> io::Result<()> {
        for (content, date, message_id) in [
            ("Date: x\r\nMessage-ID: <x@y>\r\n\r\n", true, true),
            ("dAtE : x\r\n\r\nMessage-Id: <x@y>\r\n", true, false),
            ("MESSAGE-ID\t:\r\n <x@y>\r\n\r\n", false, true),
            ("Subject: a\r\n Date: continued\r\n\r\n", false, false),
            ("Resent-Date: x\r\nX-Message-ID: y\r\nDates: z\r\n\r\n", false, false),
            ("no field\r\nDate: x\r\n\r\n", true, false),
            ("\r\nDate: x\r\n", false, false),
            ("Date: x", true, false),
            ("Date", false, false),
            ("", false, false),
        ] {
            assert_eq!(Present::find(content.as_bytes())?, Present { date, message_id }, "{content:?}");
        }
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            proptest::prop_assert!(Present::find(&octets[..]).is_ok());
        }
    }
}
