//! The test suite of RFC 7208, case by case.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smtp_core::{Answer, DnsName, MailExchanger, Resolver, TlsaRecord, async_trait};

use super::evaluation::{Query, check_host};

const SUITE: &str = include_str!("../../tests/data/rfc7208.txt");

/// Cases that do not pass, and why.
const WAIVED: [(&str, &str); 5] = [
    ("a-colon-domain", ODD_NAME),
    ("a-colon-domain-ip4mapped", ODD_NAME),
    ("mx-colon-domain", ODD_NAME),
    ("mx-colon-domain-ip4mapped", ODD_NAME),
    ("macro-mania-in-domain", ODD_NAME),
];
const ODD_NAME: &str = "DNS is asked only for names of letters, digits, hyphens and underscores; all others are absent";

/// The records of a scenario, in order.
#[derive(Debug, Default)]
struct Zone(Vec<(String, String, String)>);

impl Zone {
    /// What the suite means by its records: those of type `SPF` are also of type `TXT` where a name has none of these, a name
    /// may not answer for what does not stand before its `TIMEOUT`, and names below `error` never answer.
    fn answer<T>(&self, name: &DnsName, kind: &str, read: impl Fn(&str) -> Option<T>) -> Answer<Vec<T>> {
        let mut name = name.as_str().to_owned();
        for _ in 0..8 {
            let records: Vec<_> = self.0.iter().filter(|(owner, ..)| owner.eq_ignore_ascii_case(&name)).collect();
            if records.is_empty() && name.starts_with("error.") {
                return Answer::Unknown;
            }
            let has_txt = records.iter().any(|(_, kind, _)| kind == "TXT");
            let mut data = Vec::new();
            for (_, found, value) in &records {
                match (found.as_str(), value.as_str()) {
                    ("ANY", _) if data.is_empty() => return Answer::Unknown,
                    ("ANY", _) => break,
                    (_, "NONE") => {}
                    ("SPF", value) if kind == "TXT" && !has_txt => data.extend(read(value)),
                    (found, value) if found == kind => data.extend(read(value)),
                    _ => {}
                }
            }
            if !data.is_empty() {
                return Answer::Found { data, secure: false, ttl: Duration::ZERO };
            }
            match records.iter().find(|(_, kind, _)| kind == "CNAME") {
                Some((_, _, target)) => name = target.trim_end_matches('.').to_owned(),
                None => return Answer::Absent,
            }
        }
        Answer::Unknown
    }
}

#[async_trait]
impl Resolver for Zone {
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        self.answer(name, "A", |value| value.parse().ok())
    }

    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        self.answer(name, "AAAA", |value| value.parse().ok())
    }

    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>> {
        self.answer(&DnsName::reverse(address), "PTR", |value| value.parse().ok())
    }

    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>> {
        self.answer(name, "MX", |value| {
            let (preference, host) = value.split_once(' ')?;
            Some(MailExchanger { preference: preference.parse().ok()?, host: host.parse().ok() })
        })
    }

    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        self.answer(name, "TXT", |value| Some(value.as_bytes().into()))
    }

    async fn tlsa(&self, _: &DnsName) -> Answer<Vec<TlsaRecord>> {
        Answer::Absent
    }
}

/// Undoes `\u00e9`.
fn unescape(text: &str) -> String {
    let mut pieces = text.split("\\u");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = u32::from_str_radix(&piece[..4], 16).expect("four digits");
        plain.push(char::from_u32(code).expect("a character"));
        plain.push_str(&piece[4..]);
    }
    plain
}

fn query(client: &str, helo: &str, mail_from: &str) -> Query {
    let (local_part, domain) = mail_from.rsplit_once('@').unwrap_or(("", helo));
    let local_part = if local_part.is_empty() { "postmaster" } else { local_part };
    Query {
        client: client.parse::<IpAddr>().expect("an address").to_canonical(),
        local_part: local_part.to_owned(),
        domain: domain.to_owned(),
        helo: helo.to_owned(),
        receiver: "unknown".to_owned(),
    }
}

#[tokio::test] // SECURITY T18, PRACTICES S34
async fn s34_the_test_suite_of_rfc_7208() {
    let (mut zone, mut cases, mut failures, mut waived) = (Zone::default(), 0, Vec::new(), Vec::new());
    for line in SUITE.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        match &fields[..] {
            ["scenario", _] => zone = Zone::default(),
            ["record", name, kind, data] => zone.0.push(((*name).into(), (*kind).into(), (*data).into())),
            ["case", name, client, helo, mail_from, results, explanation] => {
                cases += 1;
                let seen = check_host(&zone, &query(client, helo, mail_from)).await;
                let said = seen.explanation.as_deref().unwrap_or("DEFAULT");
                let is_said = explanation.is_empty() || said.eq_ignore_ascii_case(explanation);
                if results.split('|').any(|result| result == seen.result.as_str()) && is_said {
                    continue;
                }
                match WAIVED.iter().find(|(case, _)| case == name) {
                    Some((case, _)) => waived.push(*case),
                    None => failures.push(format!("{name}: {results} {explanation:?}, but {seen:?}")),
                }
            }
            _ => panic!("not a line of the suite: {line}"),
        }
    }
    assert!(failures.is_empty(), "{} of {cases}:\n{}", failures.len(), failures.join("\n"));
    for (case, reason) in WAIVED {
        println!("waived: {case}: {reason}");
    }
    assert_eq!((cases, waived), (203, WAIVED.map(|(case, _)| case).to_vec()), "no waiver that is not needed");
}
