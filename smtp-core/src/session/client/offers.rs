//! What a server offers in its answer to `EHLO` (RFC 5321 §4.1.1.1), as far as the client uses it.

use crate::syntax::mechanism::{Mechanism, Mechanisms};

/// The service extensions that a server offers. None of them after `HELO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an extension that is offered or not")]
pub struct Offers {
    pipelining: bool,
    size: Option<u64>,
    eight_bit_mime: bool,
    smtputf8: bool,
    chunking: bool,
    binarymime: bool,
    enhanced_status_codes: bool,
    starttls: bool,
    dsn: bool,
    prdr: bool,
    no_soliciting: bool,
    rrvs: bool,
    limits: Limits,
    requiretls: bool,
    mt_priority: bool,
    deliver_by: Option<u32>,
    mechanisms: Mechanisms,
}

/// `LIMITS` (RFC 9422): what the server takes at most; `None` where it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    /// `MAILMAX`: transactions in a session.
    pub(super) transactions: Option<u32>,
    /// `RCPTMAX`: recipients in a transaction.
    pub(super) recipients: Option<u32>,
    /// `RCPTDOMAINMAX`: domains that they are of.
    pub(super) domains: Option<u32>,
}

impl Limits {
    /// `NAME=VALUE`, where it is one that is known and makes sense.
    fn read(&mut self, word: &[u8]) {
        let Some(at) = word.iter().position(|&octet| octet == b'=') else { return };
        let (name, digits) = (&word[..at], &word[at + 1..]);
        let is_number = (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_number);
        let Some(number) = text.and_then(|digits| digits.parse().ok()).filter(|&number: &u32| number > 0) else {
            return;
        };
        for (known, limit) in [
            (&b"MAILMAX"[..], &mut self.transactions),
            (b"RCPTMAX", &mut self.recipients),
            (b"RCPTDOMAINMAX", &mut self.domains),
        ] {
            if name.eq_ignore_ascii_case(known) {
                *limit = Some(number);
            }
        }
    }
}

impl Offers {
    /// `PIPELINING` (RFC 2920).
    pub fn pipelining(&self) -> bool {
        self.pipelining
    }

    /// `SIZE` (RFC 1870): whether `SIZE=` may be said with `MAIL`.
    pub fn size(&self) -> bool {
        self.size.is_some()
    }

    /// Octets of the largest message that the server takes; `None` where it names no limit (RFC 1870 §4).
    pub fn size_limit_octets(&self) -> Option<u64> {
        self.size.filter(|&octets| octets > 0)
    }

    /// `8BITMIME` (RFC 6152).
    pub fn eight_bit_mime(&self) -> bool {
        self.eight_bit_mime
    }

    /// `SMTPUTF8` (RFC 6531): mailboxes and header fields with more than ASCII.
    pub fn smtputf8(&self) -> bool {
        self.smtputf8
    }

    /// `CHUNKING` (RFC 3030 §2).
    pub fn chunking(&self) -> bool {
        self.chunking
    }

    /// `BINARYMIME` (RFC 3030 §3). Means nothing without `CHUNKING`.
    pub fn binarymime(&self) -> bool {
        self.binarymime
    }

    /// `ENHANCEDSTATUSCODES` (RFC 2034). Status codes in replies are read whether it is offered or not.
    pub fn enhanced_status_codes(&self) -> bool {
        self.enhanced_status_codes
    }

    /// `STARTTLS` (RFC 3207).
    pub fn starttls(&self) -> bool {
        self.starttls
    }

    /// `DSN` (RFC 3461): the next hop sends the notifications that are asked for, or passes the wish on.
    pub fn dsn(&self) -> bool {
        self.dsn
    }

    /// `PRDR` (draft-hall-prdr-00): a reply for each recipient behind the content, where the client asks for it.
    pub fn prdr(&self) -> bool {
        self.prdr
    }

    /// `NO-SOLICITING` (RFC 3865): the server may be told what a message solicits.
    pub fn no_soliciting(&self) -> bool {
        self.no_soliciting
    }

    /// `RRVS` (RFC 7293): the next hop knows since when mailboxes have their owners, or passes the demand on.
    pub fn rrvs(&self) -> bool {
        self.rrvs
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// `REQUIRETLS` (RFC 8689): the next hop keeps to it. Means nothing where it was offered in clear.
    pub fn requiretls(&self) -> bool {
        self.requiretls
    }

    /// `MT-PRIORITY` (RFC 6710): the next hop takes what is more urgent first.
    pub fn mt_priority(&self) -> bool {
        self.mt_priority
    }

    /// `DELIVERBY` (RFC 2852): the next hop keeps to the time that a message may take.
    pub fn deliver_by(&self) -> bool {
        self.deliver_by.is_some()
    }

    /// The least time in seconds that the next hop takes in [`ByMode::Return`](crate::ByMode::Return) (RFC 2852 §3); `None`
    /// where it does not say.
    pub fn deliver_by_minimum_seconds(&self) -> Option<u32> {
        self.deliver_by.filter(|&seconds| seconds > 0)
    }

    /// `AUTH` (RFC 4954): with those mechanisms that are known here.
    pub fn mechanisms(&self) -> Mechanisms {
        self.mechanisms
    }

    /// Takes one line behind the first; what is not known is not offered to us.
    pub(super) fn read_line(&mut self, line: &[u8]) {
        let mut words = line.split(|&octet| octet == b' ').filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        let is = |word: &str| keyword.eq_ignore_ascii_case(word.as_bytes());
        if is("AUTH") {
            let known = words.filter_map(Mechanism::parse);
            self.mechanisms = known.chain(self.mechanisms.iter()).collect();
            return;
        }
        if is("LIMITS") {
            return words.for_each(|word| self.limits.read(word));
        }
        let parameters = (words.next(), words.next());
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("8BITMIME") {
            self.eight_bit_mime = true;
        } else if is("SMTPUTF8") {
            self.smtputf8 = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("BINARYMIME") {
            self.binarymime = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("STARTTLS") {
            self.starttls = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("PRDR") {
            self.prdr = true;
        } else if is("NO-SOLICITING") {
            self.no_soliciting = true;
        } else if is("RRVS") {
            self.rrvs = true;
        } else if is("REQUIRETLS") {
            self.requiretls = true;
        } else if is("MT-PRIORITY") {
            self.mt_priority = true;
        } else if is("DELIVERBY") {
            // A list, of which the minimum is the first (RFC 2852 §2); said twice, the longer one counts.
            let first = parameters.0.and_then(|list| list.split(|&octet| octet == b',').next());
            let digits = first.filter(|digits| digits.len() <= 9).and_then(|digits| std::str::from_utf8(digits).ok());
            let minimum = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            self.deliver_by = Some(self.deliver_by.map_or(minimum, |before| before.max(minimum)));
        } else if is("SIZE") {
            let limit = match parameters {
                (Some(digits), None) => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()),
                _ => None,
            };
            // Said twice, the larger one counts: a message is refused here only if it is too large for certain.
            let limit: u64 = limit.unwrap_or(0);
            self.size = Some(match self.size {
                Some(0) => 0,
                Some(before) if limit > 0 => before.max(limit),
                _ => limit,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_offers_or_not_at_all() {
        let offers = |lines: &[&[u8]]| {
            let mut offers = Offers::default();
            for line in lines {
                offers.read_line(line);
            }
            offers
        };
        for (rfc, lines, size, limit) in [
            ("RFC 1870 §4", &[&b"SIZE 1000"[..]][..], true, Some(1000)),
            ("RFC 1870 §4: no fixed maximum", &[b"SIZE 0"], true, None),
            ("RFC 1870 §4: no parameter", &[b"size"], true, None),
            ("D-35: no number", &[b"SIZE garbage"], true, None),
            ("D-35: no number", &[b"SIZE -1"], true, None),
            ("D-35: more than 64 bits", &[b"SIZE 99999999999999999999"], true, None),
            ("D-35: two numbers", &[b"SIZE 1 2"], true, None),
            ("RFC 5321 §4.1.1.1: no keyword", &[b"SIZE=1000"], false, None),
            ("D-35: twice", &[b"SIZE 1000", b"SIZE 10"], true, Some(1000)),
            ("D-35: twice", &[b"SIZE 1000", b"SIZE"], true, None),
            ("D-35: twice", &[b"SIZE", b"SIZE 1000"], true, None),
            ("D-35: not text", &[b"\xff\0", b"", b" ", b"SIZES 10", b"X SIZE 10"], false, None),
        ] {
            let offers = offers(lines);
            assert_eq!((offers.size(), offers.size_limit_octets()), (size, limit), "{rfc}: {lines:?}");
        }
        let auth = offers(&[b"AUTH LOGIN x plain", b"auth SCRAM-SHA-256", b"AUTH=EXTERNAL"]).mechanisms();
        assert_eq!(auth.to_string(), "SCRAM-SHA-256 PLAIN LOGIN");
        let some = offers(&[b"Pipelining", b"8bitmime ", b"ENHANCEDSTATUSCODES x"]);
        assert!(some.pipelining() && some.eight_bit_mime() && some.enhanced_status_codes());
        assert!(offers(&[b"SMTPUTF8 x"]).smtputf8(), "RFC 6531 §3.1: parameters are ignored");
        assert!(!some.size() && !some.dsn() && offers(&[b"dsn"]).dsn());
    }
}
