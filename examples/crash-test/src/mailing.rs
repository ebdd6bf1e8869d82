//! The messages of a run: each is made from its number alone, so whatever arrives can be compared octet for octet with
//! what was sent, and nothing has to be remembered.

use bytes::Bytes;
use smtp_core::Envelope;

/// The most recipients that a message has.
pub(crate) const MOST_RECIPIENTS: usize = 3;
/// The octets of a line of text, its end included.
const LINE_OCTETS: usize = 80;
/// Lines of text, of which each message has some in a row.
const LINES: usize = 16_384;
/// What is behind `@` in the addresses of recipients.
const SINK_DOMAIN: &str = "sink.example";

/// How messages are made.
#[derive(Debug)]
pub(crate) struct Mailing {
    seed: u64,
    /// Messages with a lower number are small and have one recipient.
    preload: u64,
    /// How many of a hundred recipients are refused for good by the sink.
    refused_percent: f64,
    text: Bytes,
}

/// What arrived is not what was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage(pub(crate) String);

impl Mailing {
    /// The messages that belong to that seed.
    pub(crate) fn new(seed: u64, preload: u64, refused_percent: f64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut text = Vec::with_capacity(LINES * LINE_OCTETS);
        for _ in 0..LINES {
            // Dots at the start of lines try out transparency.
            text.push(if rng.u8(..) < 16 { b'.' } else { b'x' });
            text.extend(std::iter::repeat_with(|| rng.u8(b' '..=b'~')).take(LINE_OCTETS - 3));
            text.extend_from_slice(b"\r\n");
        }
        Self { seed, preload, refused_percent, text: text.into() }
    }

    fn rng(&self, number: u64, salt: u64) -> fastrand::Rng {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ number.rotate_left(32) ^ salt);
        // The first numbers of neighbouring seeds are alike.
        rng = fastrand::Rng::with_seed(rng.u64(..));
        rng
    }

    /// Whether it was sent before the first kill, to wait in the queue until the last one.
    pub(crate) fn is_preloaded(&self, number: u64) -> bool {
        number < self.preload
    }

    /// How many recipients the message has.
    pub(crate) fn recipients(&self, number: u64) -> usize {
        if self.is_preloaded(number) { 1 } else { self.rng(number, 1).usize(1..=MOST_RECIPIENTS) }
    }

    /// Whether the sink refuses that recipient for good.
    pub(crate) fn is_refused(&self, number: u64, recipient: usize) -> bool {
        let mut rng = self.rng(number, 2 + recipient as u64);
        !self.is_preloaded(number) && rng.f64() * 100.0 < self.refused_percent
    }

    /// Who it is from and for.
    pub(crate) fn envelope(&self, number: u64) -> Envelope {
        let recipients: Vec<_> =
            (0..self.recipients(number)).map(|place| format!("r{place}.{number}@{SINK_DOMAIN}")).collect();
        Envelope::parse(sender(number), recipients).expect("letters, digits and dots between")
    }

    /// The content, as parts that stand one behind the other.
    pub(crate) fn content(&self, number: u64) -> Vec<Bytes> {
        let mut rng = self.rng(number, 5);
        let lines = match rng.u8(0..100) {
            _ if self.is_preloaded(number) => 10,
            0..20 => 0,
            20..65 => rng.usize(1..=50),
            65..90 => rng.usize(50..=800),
            90..97 => rng.usize(800..=2800),
            // Above 256 KiB content has a file of its own.
            _ => rng.usize(3300..=3840),
        };
        let start = rng.usize(0..=LINES - lines);
        let head = format!("Message-ID: <{number}.{}@crash-test.example>\r\n\r\n", self.seed);
        let text = self.text.slice(start * LINE_OCTETS..(start + lines) * LINE_OCTETS);
        vec![head.into(), text, format!("end of {number}.{}\r\n", self.seed).into()]
    }

    /// Octets of the content.
    pub(crate) fn octets(&self, number: u64) -> usize {
        self.content(number).iter().map(Bytes::len).sum()
    }

    /// Which message this is.
    ///
    /// # Errors
    /// It is none of the run, or not whole.
    pub(crate) fn recognise(&self, content: &[u8]) -> Result<u64, Damage> {
        let number = self.number_of(content).ok_or_else(|| Damage("no Message-ID of this run".into()))?;
        let expected = self.content(number);
        let octets: usize = expected.iter().map(Bytes::len).sum();
        let damaged = |what: &str| Damage(format!("message {number}: {what}"));
        let Some(prefix) = content.len().checked_sub(octets) else { return Err(damaged("octets are missing")) };
        let (fields, mut rest) = content.split_at(prefix);
        for part in expected {
            let (arrived, behind) = rest.split_at(part.len());
            if arrived != part {
                return Err(damaged("the content is another one"));
            }
            rest = behind;
        }
        if is_trace(fields) { Ok(number) } else { Err(damaged("there is more in front of it than trace fields")) }
    }

    /// The number in the first `Message-ID` of this run, on whichever line it stands.
    pub(crate) fn number_of(&self, content: &[u8]) -> Option<u64> {
        let name = b"Message-ID: <";
        let start = memchr::memmem::find(content, name)? + name.len();
        let end = start + memchr::memchr(b'@', &content[start..])?;
        let (number, seed) = std::str::from_utf8(&content[start..end]).ok()?.split_once('.')?;
        (seed.parse() == Ok(self.seed)).then(|| number.parse().ok())?
    }
}

/// The reverse-path of a message.
pub(crate) fn sender(number: u64) -> String {
    format!("sender.{number}@client.example")
}

/// The number and the place of a recipient, from its local-part.
pub(crate) fn parse_recipient(local_part: &str) -> Option<(u64, usize)> {
    let (place, number) = local_part.strip_prefix('r')?.split_once('.')?;
    Some((number.parse().ok()?, place.parse().ok().filter(|place| *place < MOST_RECIPIENTS)?))
}

/// Whether there is nothing but `Received` fields, folded or not.
fn is_trace(fields: &[u8]) -> bool {
    let mut rest = fields;
    let mut is_first = true;
    while !rest.is_empty() {
        let Some(end) = memchr::memmem::find(rest, b"\r\n") else { return false };
        let is_folded = rest[0] == b' ' || rest[0] == b'\t';
        if !(rest.starts_with(b"Received:") || is_folded && !is_first) {
            return false;
        }
        is_first = false;
        rest = &rest[end + 2..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(mailing: &Mailing, number: u64) -> Vec<u8> {
        let mut octets = b"Received: from a by b\r\n\twith ESMTP id 1; now\r\n".to_vec();
        for part in mailing.content(number) {
            octets.extend_from_slice(&part);
        }
        octets
    }

    #[test]
    fn a_message_is_recognised_behind_trace_fields() {
        let mailing = Mailing::new(7, 10, 0.0);
        for number in 0..500 {
            let octets = arrived(&mailing, number);
            assert_eq!(mailing.recognise(&octets), Ok(number));
            assert_eq!(octets.len(), 46 + mailing.octets(number));
        }
    }

    #[test]
    fn sizes_reach_from_100_octets_to_300_kib() {
        let mailing = Mailing::new(7, 0, 0.0);
        let sizes: Vec<_> = (0..2000).map(|number| mailing.octets(number)).collect();
        assert!(*sizes.iter().min().expect("some") <= 100);
        assert!(sizes.iter().filter(|octets| **octets > 256 << 10).count() > 20);
        assert!(*sizes.iter().max().expect("some") <= 310 << 10);
    }

    #[test]
    fn what_is_not_whole_is_not_recognised() {
        let mailing = Mailing::new(7, 0, 0.0);
        let number = (0..1000).find(|number| mailing.octets(*number) > 5000).expect("most are larger");
        let whole = arrived(&mailing, number);
        for damaged in [
            whole[..whole.len() - 2].to_vec(),
            whole.iter().copied().chain(*b"more\r\n").collect(),
            {
                let mut octets = whole.clone();
                octets[3000] ^= 1;
                octets
            },
            {
                let mut octets = whole.clone();
                octets.drain(2000..2080);
                octets
            },
            [b"X-Other: 1\r\n", &whole[..]].concat(),
            b"Subject: another\r\n\r\n".to_vec(),
            Mailing::new(8, 0, 0.0).content(number).concat(),
        ] {
            assert!(
                mailing.recognise(&damaged).is_err(),
                "{}",
                String::from_utf8_lossy(&damaged[..100.min(damaged.len())])
            );
        }
    }

    #[test]
    fn a_recipient_names_its_message() {
        assert_eq!(parse_recipient("r2.17"), Some((17, 2)));
        for other in ["r3.17", "r2", "sender.17", "rx.17", "r2.x", ""] {
            assert_eq!(parse_recipient(other), None, "{other}");
        }
    }
}
