//! The public tests of ARC, case by case (SECURITY T18).

use smtp_core::{Content, ResolverTable};
use smtp_policy::ArcChain;

const SUITE: &str = include_str!("../data/arc.txt");

/// Cases that do not come out as the suite says, and why.
const WAIVED: [(&str, &str); 2] = [
    ("ams_fields_h_empty", "RFC 6376 §3.5: `h=` names at least one field"),
    ("ams_fields_c_na", "RFC 6376 §3.5: without `c=` both forms are simple, and the suite means relaxed ones"),
];

/// What `\u` escapes mean.
fn plain(text: &str) -> String {
    let mut pieces = text.split("\\u");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |mut text, piece| {
        let (code, rest) = piece.split_at(4);
        text.extend(u32::from_str_radix(code, 16).ok().and_then(char::from_u32));
        text + rest
    })
}

#[tokio::test] // RFC 8617 §5.2
async fn t18_every_case_of_the_suite_comes_out_as_it_says() {
    let (mut dns, mut wrong, mut count) = (ResolverTable::new(), Vec::new(), 0);
    for line in SUITE.lines().filter(|line| !line.starts_with('#')) {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["scenario", _] => dns = ResolverTable::new(),
            ["txt", name, record] => dns = dns.with_txt(name, plain(record)),
            ["case", name, expected, message] => {
                let content = Content::new(plain(message).replace('\n', "\r\n"));
                let sealed = ArcChain::new(dns.clone()).verify(&content).await.expect("it is in memory");
                count += 1;
                let is_waived = WAIVED.iter().any(|(waived, _)| *waived == name);
                if (sealed.result.as_str() == expected) == is_waived {
                    wrong.push(format!("{name}: {expected} expected, {:?} ({})", sealed.result, sealed.reason));
                }
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!((count, wrong.len()), (171, 0), "{wrong:#?}");
}
