//! The law of lists in DNS: an answer counts when a slow reading of RFC 5782 says so, and what a list says of somebody stays one
//! line of a reply.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smtp_core::{Answer, ResolverTable};
use smtp_policy::{Action, Circumstances, DnsList, Dnsbl, Listing, Outcome, Preset, Rules};

use crate::text::is_reply_line;

/// Checks an answer, by any codes that count, and the reply to a client that is listed with any words.
///
/// The first octet says how many ranges of codes count (its first two bits) and how many addresses the answer has (the next
/// three); then come the ranges, the addresses, and the words.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let (&first, mut rest) = data.split_first().unwrap_or((&0, &[]));
    let mut address = || {
        let octets = rest.first_chunk::<4>().copied().unwrap_or([127, 0, 0, 2]);
        rest = rest.get(4..).unwrap_or_default();
        Ipv4Addr::from(octets)
    };
    let ranges: Vec<_> = (0..first & 3).map(|_| (address(), address())).collect();
    let addresses: Vec<_> = (0..(first >> 2) & 7).map(|_| address()).collect();
    let mut list = DnsList::new("list.example".parse().expect("a name"));
    for (from, to) in &ranges {
        list = list.counting(*from..=*to);
    }
    let answer = Answer::Found { data: addresses.clone(), secure: false, ttl: Duration::ZERO };
    assert_eq!(list.read(&answer), slowly(&ranges, &addresses), "{ranges:?} {addresses:?}");
    refusal(list, &addresses, rest);
}

/// RFC 5782 §2.1, §2.3; STANDARDS.md R5782.
fn slowly(ranges: &[(Ipv4Addr, Ipv4Addr)], addresses: &[Ipv4Addr]) -> Listing {
    let mut codes = Vec::new();
    for address in addresses {
        let [a, b, c, d] = address.octets();
        let is_error = (b == 255 && c == 255) || (b, c, d) == (0, 0, 1);
        if a != 127 || is_error {
            return Listing::Unknown;
        }
        let mut counts = ranges.is_empty();
        for (from, to) in ranges {
            counts |= u32::from(*from) <= u32::from(*address) && u32::from(*address) <= u32::from(*to);
        }
        if counts && !codes.contains(address) {
            codes.push(*address);
        }
    }
    codes.sort();
    match (addresses, &codes[..]) {
        ([], _) => Listing::Unknown,
        (_, []) => Listing::NotListed,
        _ => Listing::Listed(codes),
    }
}

/// Only who is listed is refused, and in one line (SECURITY.md D-9, D-26; PRACTICES.md P5).
fn refusal(list: DnsList, addresses: &[Ipv4Addr], words: &[u8]) {
    let mut dns = ResolverTable::new()
        .with_address("2.0.0.127.list.example", "127.0.0.2")
        .with_txt("1.2.0.192.list.example", words);
    for address in addresses {
        dns = dns.with_address("1.2.0.192.list.example", &address.to_string());
    }
    let answer = Answer::Found { data: addresses.to_vec(), secure: false, ttl: Duration::ZERO };
    let is_listed = !addresses.is_empty() && matches!(list.read(&answer), Listing::Listed(_));
    let lists = Dnsbl::new(dns).with(list.refusing());
    let seen = {
        let looking = pin!(lists.examine_address([192, 0, 2, 1].into()));
        let Poll::Ready(seen) = looking.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a table answers at once")
        };
        seen
    };
    let [finding] = seen.findings() else { panic!("one list, one finding") };
    assert_eq!(finding.outcome() == Outcome::Fail, is_listed);
    let rules = Rules::new(Preset::Bcp).with_practices(smtp_policy::Check::practices(&lists));
    let judgement = rules.judge(seen.findings(), Circumstances { content_seen: false, is_role: false });
    assert_eq!(judgement.action() == Action::Reject, is_listed);
    if let Some(refusal) = judgement.refusal() {
        let mut line = Vec::new();
        refusal.reply().write_to(&mut line);
        is_reply_line(&line);
        assert!(line.starts_with(b"550 5.7.1 Blocklisted: 192.0.2.1 is on list.example: "));
    }
}
