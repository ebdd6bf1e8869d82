//! The law of rewritten addresses: who rewrites finds the way back, and what somebody changed leads nowhere.

use std::time::{Duration, SystemTime};

use smtp_core::Mailbox;
use smtp_policy::{Batv, BatvError, RewritingKey, Srs, SrsError, Verp};

/// The most octets of a local-part that every server takes (RFC 5321 §4.5.3.1.1).
const LOCAL_PART_OCTETS: usize = 64;

/// Rewrites the input by SRS, BATV and VERP, and back; and reads it as if it came back.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let Ok(mailbox) = Mailbox::parse(data) else { return };
    srs(&mailbox);
    batv(&mailbox);
    verp(&mailbox);
}

fn key() -> RewritingKey {
    RewritingKey::new(*b"tops3cr3tkey").expect("it is long enough")
}

/// So many days after that of the seeds.
fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_375 + days * 24 * 60 * 60)
}

fn forwarder(domain: &str) -> Srs {
    Srs::new(domain.parse().expect("a domain"), key())
}

fn srs(mailbox: &Mailbox) {
    let [first, second] = ["f.example", "s.example"].map(forwarder);
    if let Ok(original) = first.reverse(mailbox, day(0)) {
        well_formed(&original);
        assert_eq!(mailbox.domain(), Some(first.domain()));
    }
    let rewritten = match first.forward(mailbox, day(0)) {
        Ok(rewritten) => rewritten,
        Err(error) => return assert!(matches!(error, SrsError::TooLong | SrsError::Host), "{error}"),
    };
    assert_eq!(rewritten.domain(), Some(first.domain()));
    if mailbox.domain() == Some(first.domain()) {
        return assert_eq!(rewritten, *mailbox, "it is ours already");
    }
    short(&rewritten);
    let is_first = rewritten.local_part().as_str().starts_with("SRS0");
    let back = first.reverse(&rewritten, day(21)).expect("we made it");
    if is_first {
        assert_eq!(back, *mailbox);
        assert_eq!(first.reverse(&rewritten, day(22)), Err(SrsError::Expired));
    } else {
        assert!(back.local_part().as_str().starts_with("SRS0"), "{back}");
    }
    // One letter of the hash is another.
    let text = rewritten.to_string();
    let place = text.find('=').expect("it stands in front of the hash") + 1 + text.len() % 4;
    for letter in ["a", "b"] {
        let mut changed = text.clone();
        changed.replace_range(place..=place, letter);
        if !changed.eq_ignore_ascii_case(&text) {
            let changed = Mailbox::parse(&changed).expect("a letter is as good as another");
            assert_eq!(first.reverse(&changed, day(0)), Err(SrsError::BadHash), "{changed}");
        }
    }
    if let Ok(again) = second.forward(&rewritten, day(3)) {
        short(&again);
        let back = second.reverse(&again, day(9)).expect("we made it");
        let expected = if is_first { rewritten } else { back.clone() };
        assert_eq!(back, expected, "it leads to who was first");
    }
}

fn batv(mailbox: &Mailbox) {
    let batv = Batv::new(7, key());
    if let Ok(plain) = batv.verify(mailbox, day(0)) {
        well_formed(&plain);
    }
    match batv.tag(mailbox, day(0)) {
        Ok(tagged) => {
            short(&tagged);
            assert_eq!(batv.verify(&tagged, day(7)).as_ref(), Ok(mailbox));
            assert_eq!(batv.verify(&tagged, day(8)), Err(BatvError::Expired));
        }
        Err(error) => assert_eq!(error, BatvError::TooLong),
    }
}

fn verp(mailbox: &Mailbox) {
    let verp = Verp::new("News-return@example.org".parse().expect("a mailbox"));
    if let Some(recipient) = verp.decode(mailbox) {
        well_formed(&recipient);
    }
    if let Some(path) = verp.encode(mailbox) {
        short(&path);
        assert_eq!(verp.decode(&path).as_ref(), Some(mailbox));
    }
}

fn short(mailbox: &Mailbox) {
    assert!(mailbox.local_part().to_string().len() <= LOCAL_PART_OCTETS, "{mailbox}");
    well_formed(mailbox);
}

fn well_formed(mailbox: &Mailbox) {
    assert_eq!(Mailbox::parse(mailbox.to_string()).as_ref(), Ok(mailbox));
}
