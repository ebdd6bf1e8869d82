//! Every reply that the engine itself gives, in one table (STANDARDS R5321e, R5321f, LI1–LI18).

use crate::syntax::reply::{EnhancedStatusCode, Reply, ReplyCode};

/// A reply with fixed words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed {
    code: u16,
    status: Option<(u8, u16, u16)>,
    text: &'static str,
}

const fn fixed(code: u16, class: u8, subject: u16, detail: u16, text: &'static str) -> Fixed {
    Fixed { code, status: Some((class, subject, detail)), text }
}

impl Fixed {
    pub(crate) fn reply(self) -> Reply {
        let code = ReplyCode::new(self.code).expect("the table holds codes of the grammar; a test reads it whole");
        match self.status.and_then(|(class, subject, detail)| EnhancedStatusCode::new(class, subject, detail)) {
            Some(status) => Reply::new(code, status, self.text),
            None => Reply::bare(code, self.text),
        }
    }
}

macro_rules! replies {
    ($($name:ident = $value:expr;)*) => {
        $(pub(crate) const $name: Fixed = $value;)*

        #[cfg(test)]
        pub(crate) const ALL: &[Fixed] = &[$($name),*];
    };
}

replies! {
    OK = fixed(250, 2, 0, 0, "Ok");
    SENDER_OK = fixed(250, 2, 1, 0, "Sender ok");
    // RFC 6710 §4.1: the new priority comes first in the text.
    SENDER_OK_PRIORITY_LOWERED = fixed(250, 2, 3, 6, "0 is the new priority, authenticate for a higher one");
    RECIPIENT_OK = fixed(250, 2, 1, 5, "Recipient ok");
    CHUNK_OK = fixed(250, 2, 0, 0, "Chunk received");
    MESSAGE_OK = fixed(250, 2, 0, 0, "Message accepted");
    AUTHENTICATED = fixed(235, 2, 7, 0, "Authentication succeeded");
    BYE = fixed(221, 2, 0, 0, "Bye");
    HELP = fixed(214, 2, 0, 0, "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT (RFC 5321)");
    HELP_LMTP = fixed(214, 2, 0, 0, "LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT (RFC 2033)");
    CANNOT_VERIFY = fixed(252, 2, 0, 0, "Send some mail, I will try my best");
    START_TLS = fixed(220, 2, 0, 0, "Ready to start TLS");
    START_EACH = Fixed { code: 353, status: None, text: "A reply for each recipient follows" };
    START_CONTENT = Fixed { code: 354, status: None, text: "End with <CR><LF>.<CR><LF>" };

    UNKNOWN_COMMAND = fixed(500, 5, 5, 1, "Unknown command");
    LINE_TOO_LONG = fixed(500, 5, 5, 2, "Line too long");
    BAD_HOST = fixed(501, 5, 5, 2, "A domain or address literal is needed");
    BAD_ARGUMENT = fixed(501, 5, 5, 4, "Wrong argument");
    BAD_REVERSE_PATH = fixed(501, 5, 1, 7, "Invalid reverse-path");
    NOT_UTF8 = fixed(501, 5, 5, 2, "Not UTF-8");
    NEEDS_SMTPUTF8 = fixed(553, 5, 6, 7, "This mailbox needs SMTPUTF8 (RFC 6531)");
    BAD_FORWARD_PATH = fixed(501, 5, 1, 3, "Invalid forward-path");
    NOT_OFFERED = fixed(502, 5, 5, 1, "Command not offered");
    UNKNOWN_MECHANISM = fixed(504, 5, 5, 4, "Authentication mechanism not offered");
    BAD_SEQUENCE = fixed(503, 5, 5, 1, "Bad sequence of commands");
    SAY_EHLO_FIRST = fixed(503, 5, 5, 1, "Say EHLO first");
    SAY_LHLO_FIRST = fixed(503, 5, 5, 1, "Say LHLO first");
    NO_VALID_RECIPIENTS = fixed(554, 5, 5, 1, "No valid recipients");
    NO_VALID_RECIPIENTS_LMTP = fixed(503, 5, 5, 1, "No valid recipients");
    HELD_TOO_LONG = fixed(501, 5, 5, 4, "Messages are not held for so long");
    UNKNOWN_PARAMETER = fixed(555, 5, 5, 4, "Parameter not recognized");

    AUTHENTICATE_FIRST = fixed(530, 5, 7, 0, "Authentication required");
    START_TLS_FIRST = fixed(530, 5, 7, 0, "Must issue a STARTTLS command first");
    ENCRYPTION_NEEDED = fixed(538, 5, 7, 11, "Encryption required for authentication, issue STARTTLS first");
    BAD_BASE64 = fixed(501, 5, 5, 2, "Cannot decode the Base64 of the response");
    MALFORMED_RESPONSE = fixed(501, 5, 5, 2, "The response is not what the mechanism has");
    AUTHENTICATION_CANCELLED = fixed(501, 5, 7, 0, "Authentication cancelled");
    RESPONSE_TOO_LONG = fixed(500, 5, 5, 6, "Authentication exchange line is too long");
    CREDENTIAL_REJECTED = fixed(535, 5, 7, 8, "Authentication credentials invalid");
    MECHANISM_TOO_WEAK = fixed(534, 5, 7, 9, "Authentication mechanism is too weak");
    PASSWORD_CHANGE_NEEDED = fixed(432, 4, 7, 12, "A password transition is needed");
    AUTHENTICATION_UNAVAILABLE = fixed(454, 4, 7, 0, "Temporary authentication failure");
    NOT_YOUR_ADDRESS = fixed(550, 5, 7, 1, "This sender address is not yours");

    MESSAGE_TOO_LARGE = fixed(552, 5, 3, 4, "Message too large");
    NO_ROOM = fixed(452, 4, 3, 1, "Insufficient storage, try again later");
    TOO_MANY_RECIPIENTS = fixed(452, 4, 5, 3, "Too many recipients, send the rest in another transaction");
    UNKNOWN_MAILBOX = fixed(550, 5, 1, 1, "No such mailbox");
    MAILBOX_OWNER_CHANGED = fixed(550, 5, 7, 17, "The mailbox has had another owner since then");
    DOMAIN_OWNER_CHANGED = fixed(550, 5, 7, 18, "The domain has had another owner since then");
    OWNER_UNKNOWN = fixed(550, 5, 7, 19, "Since when the mailbox has its owner is not known");
    RRVS_ENDS_HERE = fixed(550, 5, 7, 19, "RRVS is not passed on from here");
    NO_MAIL = fixed(521, 5, 3, 2, "This host does not accept mail");
    NOT_LISTED = fixed(550, 5, 7, 0, "This client may not say that");
    NOT_LOCAL = fixed(550, 5, 7, 1, "Relaying denied");
    AUTHENTICATE_TO_RELAY = fixed(550, 5, 7, 1, "Relaying denied, authenticate first");
    UNQUALIFIED_SENDER = fixed(554, 5, 1, 7, "The sender address needs a domain");
    UNQUALIFIED_RECIPIENT = fixed(554, 5, 1, 3, "The recipient address needs a domain");
    TRY_LATER = fixed(451, 4, 3, 0, "Temporary failure, try again later");

    BARE_CR_LF_NUL = fixed(550, 5, 5, 2, "Bare CR, bare LF or NUL in content (RFC 5321 section 2.3.8)");
    HEADER_TOO_LARGE = fixed(554, 5, 6, 0, "Header section too large");
    CONTINUES_NOTHING = fixed(554, 5, 6, 0, "Content starts with white space, which would continue a header field");
    TOO_MANY_HOPS = fixed(554, 5, 4, 6, "Too many hops: the message loops");

    EARLY_TALKER = fixed(554, 5, 5, 0, "Wait for the reply before sending more");
    NOT_TLS = fixed(501, 5, 5, 2, "Nothing may follow STARTTLS before its reply");
    TLS_UNAVAILABLE = fixed(454, 4, 7, 0, "TLS not available now, try again later");
    NOT_SMTP = fixed(554, 5, 5, 0, "This is SMTP, not HTTP");
    TOO_MANY_ERRORS = fixed(421, 4, 7, 0, "Too many errors");
    TOO_MANY_COMMANDS = fixed(421, 4, 7, 0, "Too many commands without a message");
    TOO_MANY_CHUNKS = fixed(421, 4, 7, 0, "Too many chunks, or too small ones");
    TOO_MANY_TRANSACTIONS = fixed(421, 4, 7, 0, "Too many messages in this session, open another one");
    FAR_TOO_MANY_RECIPIENTS = fixed(421, 4, 7, 0, "Too many recipients over the limit");
    TIMEOUT_COMMAND = fixed(421, 4, 4, 2, "Timed out waiting for a command");
    TIMEOUT_CRLF = fixed(421, 4, 4, 2, "Timed out waiting for CRLF; a line must not end with LF alone");
    TIMEOUT_CONTENT = fixed(421, 4, 4, 2, "Timed out waiting for content");
    TOO_SLOW = fixed(421, 4, 4, 2, "Content comes too slowly");
    SESSION_TOO_LONG = fixed(421, 4, 4, 2, "Session too long");
    SHUTTING_DOWN = fixed(421, 4, 3, 2, "Service shutting down, try again later");
    OVERLOADED = fixed(421, 4, 3, 2, "Too busy, try again later");
    TOO_MANY_CONNECTIONS = fixed(421, 4, 7, 0, "Too many connections from your network");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test] // RFC 2034 §4, PRACTICES S47: each reply but 353 and 354 has a status of its class, and words.
    fn s47_every_reply_explains_itself() {
        for fixed in ALL {
            let reply = fixed.reply();
            let status = reply.status().map(EnhancedStatusCode::class);
            assert_eq!(status, (!matches!(fixed.code, 353 | 354)).then_some(reply.code().class()), "{reply}");
            assert_eq!(reply.text(), fixed.text, "printable ASCII");
            assert!(reply.text().len() >= 2);
        }
    }
}
