//! What happened in a time, in numbers (PRACTICES S41).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use smtp_core::{DateTime, SafeText};

use super::entry::TraceEntry;
use super::event::{Judged, Traced};
use crate::finding::Action;

/// The most names of a kind that are counted: 10,000. Those beyond are counted together.
const NAMES: usize = 10_000;
/// Those of each kind that are shown.
const SHOWN: usize = 10;
/// The name of all that have no place of their own.
const OTHERS: &str = "others";

/// Counts the entries of a trace: messages in and out, what was refused by which practice, what shadow held back, and who the
/// clients and the next hops were. Shown with `{}` it is a page for people.
#[derive(Debug, Default)]
pub struct TraceSummary {
    from: Option<SystemTime>,
    to: Option<SystemTime>,
    connections: u64,
    accepted: u64,
    octets: u64,
    delivered: u64,
    failed: u64,
    notifications: u64,
    refused: BTreeMap<String, u64>,
    shadowed: BTreeMap<String, u64>,
    deferred: BTreeMap<String, u64>,
    clients: BTreeMap<String, Client>,
    /// Those that are open.
    sessions: HashMap<String, Open>,
}

/// A session.
#[derive(Debug)]
struct Open {
    peer: IpAddr,
    /// The policies whose judgements refused something: a server has a few.
    judged_by: Vec<SafeText>,
}

impl Open {
    fn has_judged(&self, policy: &SafeText) -> bool {
        self.judged_by.contains(policy)
    }
}

/// What one client did.
#[derive(Debug, Default)]
struct Client {
    connections: u64,
    accepted: u64,
    refused: u64,
}

impl TraceSummary {
    /// Of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.from.is_none()
    }

    /// With another entry.
    pub fn add(&mut self, entry: &TraceEntry) {
        if matches!(entry.traced(), Traced::Rules { .. }) {
            // It may be older than what is asked for.
            return;
        }
        self.from.get_or_insert(entry.at());
        self.to = self.to.max(Some(entry.at()));
        let session = entry.session().unwrap_or_default();
        match entry.traced() {
            Traced::Connected { peer, .. } | Traced::PassedOn { peer, .. } => {
                let peer = peer.ip().to_canonical();
                if self.sessions.len() < NAMES {
                    self.sessions.insert(session.to_owned(), Open { peer, judged_by: Vec::new() });
                }
                if matches!(entry.traced(), Traced::Connected { .. }) {
                    self.connections += 1;
                    place(&mut self.clients, &peer.to_string()).connections += 1;
                }
            }
            Traced::Closed { .. } => {
                self.sessions.remove(session);
            }
            Traced::Accepted { octets, .. } => {
                self.accepted += 1;
                self.octets = self.octets.saturating_add(*octets);
                self.client(session).accepted += 1;
            }
            // What is held is refused again where it is said.
            Traced::Refused { held: true, .. } => {}
            // What a judgement refused was counted with it.
            Traced::Refused { policy, .. } if self.sessions.get(session).is_some_and(|it| it.has_judged(policy)) => {}
            Traced::Refused { stage, reply, .. } => {
                self.client(session).refused += 1;
                *place(&mut self.refused, &format!("{stage}: {reply}")) += 1;
            }
            Traced::Judged(judged) => self.add_judged(session, judged),
            Traced::Attempted { result, site, .. } => match result.as_str() {
                "delivered" => self.delivered += 1,
                "deferred" => *place(&mut self.deferred, site.as_str()) += 1,
                "failed" | "expired" => self.failed += 1,
                _ => {}
            },
            Traced::Notified { .. } => self.notifications += 1,
            _ => {}
        }
    }

    fn add_judged(&mut self, session: &str, judged: &Judged) {
        if Action::from_word(judged.action.as_str()).is_some_and(|action| action >= Action::Greylist) {
            let word = if judged.is_by_rules() { &judged.judged } else { &judged.action };
            let decisive = judged.findings.iter().filter(|finding| finding.action == *word);
            let names: Vec<_> = decisive.map(|finding| finding.practice.as_str()).collect();
            let why = if names.is_empty() { "the score".to_owned() } else { names.join(", ") };
            *place(&mut self.refused, &format!("{}: {why}", judged.action)) += 1;
            self.client(session).refused += 1;
            if let Some(open) = self.sessions.get_mut(session).filter(|it| !it.has_judged(&judged.policy)) {
                open.judged_by.push(judged.policy.clone());
            }
        }
        if !judged.shadow.as_str().is_empty() {
            let shadowed = judged.findings.iter().filter(|finding| !finding.shadow.as_str().is_empty());
            let names: Vec<_> = shadowed.map(|finding| finding.practice.as_str()).collect();
            *place(&mut self.shadowed, &format!("{}: {}", judged.shadow, names.join(", "))) += 1;
        }
    }

    fn client(&mut self, session: &str) -> &mut Client {
        let peer = self.sessions.get(session).map_or_else(|| OTHERS.to_owned(), |open| open.peer.to_string());
        place(&mut self.clients, &peer)
    }
}

/// The place of that name, or of all that have none.
fn place<'a, T: Default>(counts: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let name = if counts.len() < NAMES || counts.contains_key(name) { name } else { OTHERS };
    counts.entry(name.to_owned()).or_default()
}

impl fmt::Display for TraceSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(from), Some(to)) = (self.from, self.to) else { return writeln!(f, "nothing happened") };
        writeln!(f, "from {}\nto   {}\n", DateTime::new(from), DateTime::new(to))?;
        writeln!(f, "connections    {:>8}", self.connections)?;
        writeln!(f, "messages in    {:>8}  with {} octets", self.accepted, self.octets)?;
        writeln!(f, "refusals       {:>8}", self.refused.values().sum::<u64>())?;
        writeln!(f, "delivered      {:>8}  recipients", self.delivered)?;
        writeln!(f, "failed         {:>8}  recipients", self.failed)?;
        writeln!(f, "notifications  {:>8}", self.notifications)?;
        list(f, "refused by", &self.refused)?;
        list(f, "would have been, but for shadow", &self.shadowed)?;
        list(f, "attempts deferred at", &self.deferred)?;
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_by_key(|(_, client)| std::cmp::Reverse((client.connections, client.refused)));
        if !clients.is_empty() {
            writeln!(f, "\nclients (connections, messages, refusals)")?;
        }
        for (peer, Client { connections, accepted, refused }) in clients.iter().take(SHOWN) {
            writeln!(f, "{connections:>8} {accepted:>8} {refused:>8}  {peer}")?;
        }
        more(f, clients.len())
    }
}

/// The most frequent ones first.
fn list(f: &mut fmt::Formatter<'_>, heading: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{heading}")?;
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in sorted.iter().take(SHOWN) {
        writeln!(f, "{count:>8}  {name}")?;
    }
    more(f, sorted.len())
}

fn more(f: &mut fmt::Formatter<'_>, all: usize) -> fmt::Result {
    match all.checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "          and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"
{"v":1,"at":1795311860000,"what":"rules","practices":["client"]}
{"v":1,"at":1795311863000,"session":"0a","what":"connected","peer":"192.0.2.1:4321","local":"192.0.2.25:25"}
{"v":1,"at":1795311863100,"session":"0a","what":"judged","policy":"policy","transaction":"0a-1","recipient":"<carol@example.org>","content_seen":false,"is_role":false,"findings":[{"practice":"client","number":"X1","outcome":"fail","action":"score","weight":3,"evidence":"no name"}],"score":3,"judged":"greylist","action":"greylist","reply":"451 4.7.1 Greylisted"}
{"v":1,"at":1795311863100,"session":"0a","what":"refused","transaction":"0a-1","stage":"recipient","subject":"<carol@example.org>","reply":"451 4.7.1 Greylisted","policy":"policy","held":false}
{"v":1,"at":1795311863200,"session":"0a","what":"refused","transaction":"0a-1","stage":"lookup","subject":"<nobody@example.org>","reply":"550 5.1.1 No such mailbox","policy":"","held":false}
{"v":1,"at":1795311863250,"session":"0a","what":"refused","transaction":"0a-1","stage":"recipient","subject":"<carol@example.org>","reply":"450 4.7.1 Too fast","policy":"rates","held":false}
{"v":1,"at":1795311863300,"session":"0a","what":"closed","reason":"quit"}
{"v":1,"at":1795311864000,"session":"0b","what":"connected","peer":"[2001:db8::1]:4321","local":"192.0.2.25:25"}
{"v":1,"at":1795311864100,"session":"0b","what":"judged","policy":"policy","transaction":"0b-1","recipient":"<carol@example.org>","content_seen":true,"is_role":false,"findings":[{"practice":"client","number":"X1","outcome":"fail","action":"observe","weight":0,"evidence":"no name","shadow":"reject"}],"score":0,"judged":"observe","action":"observe","shadow":"reject","shadow_reply":"550 5.7.25 No name"}
{"v":1,"at":1795311864200,"session":"0b","what":"accepted","transaction":"0b-1","reverse_path":"<>","recipients":1,"octets":1234,"id":"q1"}
{"v":1,"at":1795311864300,"what":"attempted","id":"q1","recipient":"carol@example.org","site":"local","number":1,"result":"delivered","reply":"250 ok","remote":""}
{"v":1,"at":1795311865300,"what":"attempted","id":"q2","recipient":"dave@example.com","site":"smtp:mx.example.com:25","number":1,"result":"deferred","reply":"451 later","remote":""}
"#;

    #[test] // PRACTICES S41
    fn s41_a_day_in_numbers_reads_like_this() {
        let mut summary = TraceSummary::new();
        assert!(summary.is_empty());
        assert_eq!(summary.to_string(), "nothing happened\n");
        for line in TRACE.trim().lines() {
            summary.add(&TraceEntry::from_line(line).expect("an entry"));
        }
        let expected = "\
from Sun, 22 Nov 2026 01:44:23 +0000
to   Sun, 22 Nov 2026 01:44:25 +0000

connections           2
messages in           1  with 1234 octets
refusals              3
delivered             1  recipients
failed                0  recipients
notifications         0

refused by
       1  greylist: the score
       1  lookup: 550 5.1.1 No such mailbox
       1  recipient: 450 4.7.1 Too fast

would have been, but for shadow
       1  reject: client

attempts deferred at
       1  smtp:mx.example.com:25

clients (connections, messages, refusals)
       1        0        3  192.0.2.1
       1        1        0  2001:db8::1
";
        assert_eq!(summary.to_string(), expected);
    }

    #[test] // SECURITY: nothing is unbounded
    fn names_beyond_ten_thousand_are_counted_together() {
        let mut summary = TraceSummary::new();
        for number in 0..NAMES + 500 {
            let line = format!(
                r#"{{"v":1,"at":1,"what":"attempted","id":"q","recipient":"a@b","site":"s{number}","number":1,"result":"deferred","reply":"451","remote":""}}"#
            );
            summary.add(&TraceEntry::from_line(&line).expect("an entry"));
        }
        assert_eq!(summary.deferred.len(), NAMES + 1);
        assert_eq!(summary.deferred.get(OTHERS), Some(&500));
    }
}
