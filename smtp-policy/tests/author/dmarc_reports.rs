//! Aggregate reports through a server: collected, sent when their day is over, and neither lost nor doubled by a stop (RFC 9990).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_auth::report::{ActionDisposition, DkimResult, DmarcResult, Report};
use smtp_core::{Domain, Mailbox, ResolverTable, async_trait};
use smtp_policy::{
    Action, Chain, Changing, Dkim, Dmarc, DmarcReport, DmarcReportLimits, DmarcReportOutbox, DmarcReportOutcome,
    DmarcReporter, DmarcReports, MemoryStateStore, Preset, Spf, StateError, StateStore,
};

use crate::signing::{KEY, Signing};
use crate::support::{converse, message};

const DAY: u64 = 86_400;
/// The day on which mail comes.
const TODAY: u64 = 20_000 * DAY;

/// A process that stops at one of its steps, and does nothing from then on.
#[derive(Clone, Default)]
struct Process {
    steps: Arc<AtomicUsize>,
    stops_at: Option<usize>,
}

impl Process {
    fn stopping_at(step: usize) -> Self {
        Self { stops_at: Some(step), ..Self::default() }
    }

    /// Whether it is alive for another step.
    fn step(&self) -> Result<(), StateError> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if self.stops_at.is_some_and(|stop| step >= stop) {
            return Err(StateError::unavailable("stopped"));
        }
        Ok(())
    }
}

/// What outlives a process: state, mail in the queue, the time.
#[derive(Clone, Default)]
struct World {
    state: Arc<MemoryStateStore>,
    queue: Arc<Mutex<Vec<DmarcReport>>>,
    seconds: Arc<AtomicU64>,
    /// The queue takes nothing.
    is_full: Arc<AtomicUsize>,
}

struct Store(World, Process);

#[async_trait]
impl StateStore for Store {
    async fn get(&self, table: &str, key: &[u8], now: SystemTime) -> Result<Option<Vec<u8>>, StateError> {
        self.1.step()?;
        self.0.state.get(table, key, now).await
    }

    async fn update(
        &self,
        table: &str,
        key: &[u8],
        now: SystemTime,
        change: &mut Changing<'_>,
    ) -> Result<(), StateError> {
        self.1.step()?;
        self.0.state.update(table, key, now, change).await
    }
}

struct Outbox(World, Process);

#[async_trait]
impl DmarcReportOutbox for Outbox {
    async fn send(&self, report: DmarcReport) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.1.step()?;
        if self.0.is_full.load(Ordering::Relaxed) > 0 {
            return Err("no room".into());
        }
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        // A stop in between: the queue has it, and nobody was told.
        Ok(self.1.step()?)
    }
}

impl World {
    fn set_time(&self, seconds: u64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }

    fn reports(&self, process: &Process) -> DmarcReports {
        let seconds = self.seconds.clone();
        DmarcReports::new(Store(self.clone(), process.clone()), mailbox("dmarc@example.org"))
            .with_clock(move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed)))
    }

    fn reporter(&self, process: &Process, dns: &ResolverTable) -> DmarcReporter {
        let own: Domain = "mx.example.org".parse().expect("a domain");
        DmarcReporter::new(self.reports(process), &own, dns.clone(), Outbox(self.clone(), process.clone()))
            .with_organization("Example")
    }

    /// Sends what is due now, and says what became of it.
    async fn send(&self, dns: &ResolverTable) -> Vec<(Option<String>, u64, DmarcReportOutcome)> {
        let (events, ended) = self.reporter(&Process::default(), dns).send_due().await;
        ended.expect("the store works");
        events.into_iter().map(|event| (event.domain, event.messages, event.outcome)).collect()
    }

    fn queued(&self) -> Vec<DmarcReport> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was sent: by identifier, each report. Copies of one report must be the same.
    fn sent(&self) -> BTreeMap<String, Report> {
        let mut sent = BTreeMap::new();
        for message in self.queued() {
            let report = read(&message);
            let earlier = sent.insert(report.report_id().to_owned(), report.clone());
            assert!(earlier.is_none_or(|earlier| earlier == report), "two reports of one name");
        }
        sent
    }
}

fn mailbox(text: &str) -> Mailbox {
    text.parse().expect("a mailbox")
}

fn read(message: &DmarcReport) -> Report {
    Report::parse_rfc5322(&message.content, 1 << 20).expect("a report in a message")
}

fn counted(report: &Report) -> u64 {
    report.records().iter().map(|record| u64::from(record.row.count)).sum()
}

fn dns() -> ResolverTable {
    let policy = |domain: &str| format!("v=DMARC1; p=reject; rua=mailto:rua@{domain}");
    ResolverTable::new()
        .with_txt("client.example", "v=spf1 ip4:192.0.2.1 -all")
        .with_txt("_dmarc.client.example", policy("client.example"))
        .with_txt("_dmarc.bank.example", policy("bank.example"))
        .with_txt("_dmarc.silent.example", "v=DMARC1; p=reject")
        .with_txt("ed._domainkey.client.example", KEY)
}

fn chain(dns: &ResolverTable, reports: DmarcReports) -> Chain {
    let chain = Chain::new("author", Preset::Bcp).with(Spf::new(dns.clone())).with(Dkim::new(dns.clone()));
    let chain = chain.with_action("spf-fail", Action::Observe).expect("it is there");
    chain.with(Dmarc::new(dns.clone())).recorded_by(reports)
}

fn by(domain: &str) -> String {
    format!("From: Me <me@{domain}>\r\nSubject: x\r\n\r\nHello")
}

/// A message comes from there, by an author of that domain.
async fn receive(world: &World, process: &Process, dns: &ResolverTable, peer: &str, content: &str) -> bool {
    let lines = message(&["RCPT TO:<user@example.org>"], content);
    let seen = converse(vec![Arc::new(chain(dns, world.reports(process)))], peer, &lines).await;
    seen.delivered.len() == 1
}

#[tokio::test] // RFC 9990 §3.1, §3.5.2; SECURITY D-11
async fn r9990_a_day_of_mail_becomes_a_report_for_each_domain() {
    let (world, dns, process) = (World::default(), dns(), Process::default());
    world.set_time(TODAY + 100);
    let signed = Signing::default().sign(&format!("{}\r\n", by("client.example")));
    for (peer, content, is_taken) in [
        ("192.0.2.1", signed.trim_end(), true),
        ("192.0.2.1", signed.trim_end(), true),
        ("[2001:db8::1]", &by("client.example"), false),
        ("192.0.2.9", &by("bank.example"), false),
        ("192.0.2.9", &by("silent.example"), false),
        ("192.0.2.9", &by("unknown.example"), true),
    ] {
        assert_eq!(receive(&world, &process, &dns, peer, content).await, is_taken, "{peer} {content}");
    }
    assert_eq!(world.send(&dns).await, [], "the day is not over");
    world.set_time(TODAY + DAY + 5);
    assert_eq!(world.send(&dns).await, [], "nor all that came in it judged");
    world.set_time(TODAY + 2 * DAY);
    let to = |text| DmarcReportOutcome::Sent(vec![mailbox(text)]);
    let expected = [
        (Some("client.example".to_owned()), 3, to("rua@client.example")),
        (Some("bank.example".to_owned()), 1, to("rua@bank.example")),
    ];
    assert_eq!(world.send(&dns).await, expected);
    assert_eq!(world.send(&dns).await, [], "each once");

    let [first, second] = &world.queued()[..] else { panic!("two reports") };
    assert_eq!(first.from, mailbox("dmarc@example.org"));
    let report = read(first);
    assert_eq!((report.date_range_begin(), report.date_range_end()), (TODAY, TODAY + DAY - 1));
    assert_eq!(
        (report.org_name(), report.email(), report.domain()),
        ("Example", "dmarc@example.org", "client.example")
    );
    let mut rows = report.records().to_vec();
    rows.sort_by_key(|record| record.row.count);
    let [forged, genuine] = &rows[..] else { panic!("two rows: {rows:?}") };
    assert_eq!((genuine.row.count, forged.row.count), (2, 1));
    let evaluated = |record: &mail_auth::report::Record| {
        let evaluated = &record.row.policy_evaluated;
        (evaluated.disposition, evaluated.dkim, evaluated.spf)
    };
    assert_eq!(evaluated(genuine), (ActionDisposition::Pass, DmarcResult::Pass, DmarcResult::Pass));
    assert_eq!(evaluated(forged), (ActionDisposition::Reject, DmarcResult::Fail, DmarcResult::Fail));
    assert_eq!(genuine.auth_results.dkim[0].result, DkimResult::Pass);
    assert_eq!(
        (&*genuine.auth_results.dkim[0].domain, &*genuine.auth_results.dkim[0].selector),
        ("client.example", "ed")
    );
    assert_eq!(genuine.auth_results.spf[0].domain, "client.example");
    assert_eq!(
        (&*genuine.identifiers.envelope_from, &*genuine.identifiers.header_from),
        ("client.example", "client.example")
    );
    assert_eq!(forged.row.source_ip, "2001:db8::1".parse().ok());
    assert_eq!(counted(&read(second)), 1);

    let text = String::from_utf8(first.content.clone()).expect("ASCII");
    let id = report.report_id();
    let (header, body) = text.split_once("\r\n\r\n").expect("a header section");
    let names: Vec<_> =
        header.replace("\r\n ", " ").lines().map(|line| line.split(':').next().unwrap_or("").to_owned()).collect();
    assert_eq!(
        names,
        ["Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
    );
    let subject = format!("Subject: Report Domain: client.example Submitter: mx.example.org Report-ID: <{id}>\r\n");
    assert!(header.replace("\r\n ", " ").contains(&subject), "{header}");
    let name = format!("filename=\"mx.example.org!client.example!{TODAY}!{}!{id}.xml.gz\"", TODAY + DAY - 1);
    assert!(body.contains(&name), "{body}");
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 200), "{text}");
    assert!(text.split("\r\n").all(|line| !line.contains(['\r', '\n'])), "bare line breaks");
}

#[tokio::test] // RFC 9990 §3.4
async fn no_report_is_about_our_own_clients_or_about_reports() {
    let (world, dns, process) = (World::default(), dns(), Process::default());
    world.set_time(TODAY);
    let content = by("bank.example");
    let authenticated = ["EHLO client.example", "AUTH PLAIN AG1lAHNlY3JldA=="];
    let mail = |from: &str| format!("MAIL FROM:<{from}>");
    for (login, from, to) in [
        (true, "sender@client.example", "user@example.org"),
        (false, "dmarc@example.org", "user@example.org"),
        (false, "DMARC@EXAMPLE.ORG", "user@example.org"),
        (false, "sender@client.example", "dmarc@example.org"),
    ] {
        let from = mail(from);
        let to = format!("RCPT TO:<{to}>");
        let mut lines = authenticated[..if login { 2 } else { 1 }].to_vec();
        lines.extend([from.as_str(), &to, "DATA", &content, ".", "QUIT"]);
        let table = crate::support::table().with_mailbox(&mailbox("dmarc@example.org"));
        let policy = Arc::new(chain(&dns, world.reports(&process)));
        let seen = crate::support::converse_about(table, vec![policy], "192.0.2.9", &lines).await;
        assert!(!seen.replies.is_empty(), "{seen:?}");
    }
    let trusting = chain(&dns, world.reports(&process)).trusting("192.0.2.0/24".parse().expect("a network"));
    converse(vec![Arc::new(trusting)], "192.0.2.9", &message(&["RCPT TO:<user@example.org>"], &content)).await;
    world.set_time(TODAY + 2 * DAY);
    assert_eq!(world.send(&dns).await, []);
    // The same message of a stranger is told of.
    world.set_time(TODAY);
    receive(&world, &process, &dns, "192.0.2.9", &content).await;
    world.set_time(TODAY + 2 * DAY);
    assert_eq!(world.send(&dns).await.len(), 1);
}

#[tokio::test]
async fn what_is_asked_to_come_again_is_counted_when_it_does() {
    let (world, dns, process) = (World::default(), dns(), Process::default());
    world.set_time(TODAY);
    for action in [Action::Defer, Action::Reject] {
        let chain = chain(&dns, world.reports(&process)).with_action("dmarc-reject", action).expect("it is there");
        let content = by("bank.example");
        converse(vec![Arc::new(chain)], "192.0.2.9", &message(&["RCPT TO:<user@example.org>"], &content)).await;
    }
    world.set_time(TODAY + 2 * DAY);
    let [(_, 1, DmarcReportOutcome::Sent(_))] = &world.send(&dns).await[..] else { panic!("one message") };
}

#[tokio::test] // SECURITY D-40, bounded; what is over is counted and said
async fn what_is_too_much_is_counted_and_said() {
    let mut dns = dns();
    for number in 0..4 {
        dns = dns.with_txt(
            &format!("_dmarc.d{number}.example"),
            format!("v=DMARC1; p=none; rua=mailto:a@d{number}.example"),
        );
    }
    for (limit, expected) in [
        // (domain, counted, left out of its report), and messages of which no domain is told.
        ("domains", (vec![("d0", 4, 0), ("d1", 4, 0)], 8)),
        ("rows_per_domain", (vec![("d0", 2, 2), ("d1", 2, 2), ("d2", 2, 2), ("d3", 2, 2)], 0)),
        ("rows", (vec![("d0", 2, 2), ("d1", 0, 4), ("d2", 0, 4), ("d3", 0, 4)], 0)),
        // What one domain may not have is left to the others.
        ("both", (vec![("d0", 2, 2), ("d1", 2, 2), ("d2", 0, 4), ("d3", 0, 4)], 0)),
    ] {
        let (world, process) = (World::default(), Process::default());
        world.set_time(TODAY);
        let mut limits = DmarcReportLimits::default();
        match limit {
            "domains" => limits.domains = 2,
            "rows_per_domain" => limits.rows_per_domain = 2,
            "rows" => limits.rows = 2,
            _ => (limits.rows_per_domain, limits.rows) = (2, 4),
        }
        for number in 0..4 {
            for peer in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"] {
                let chain = chain(&dns, world.reports(&process).with_limits(limits));
                let content = by(&format!("d{number}.example"));
                converse(vec![Arc::new(chain)], peer, &message(&["RCPT TO:<user@example.org>"], &content)).await;
            }
        }
        world.set_time(TODAY + 2 * DAY);
        let events = world.send(&dns).await;
        let untold = events.iter().find(|(domain, ..)| domain.is_none()).map_or(0, |(_, messages, _)| *messages);
        assert_eq!(untold, expected.1, "{limit}: {events:?}");
        for (domain, messages, left_out) in expected.0 {
            let domain = format!("{domain}.example");
            let event = events.iter().find(|(of, ..)| of.as_deref() == Some(&domain));
            assert_eq!(event.map(|(_, messages, _)| *messages), Some(messages), "{limit} {domain}: {events:?}");
            let sent = world.sent();
            let report = sent.values().find(|report| report.domain() == domain);
            let said = report.map(|report| report.error().join(" "));
            let expected = if left_out > 0 { format!("{left_out} more messages") } else { String::new() };
            assert!(
                messages == 0 || said.as_ref().is_some_and(|said| said.starts_with(&expected)),
                "{limit}: {said:?}"
            );
        }
    }
}

#[tokio::test] // a report waits for DNS and the queue, for three days
async fn what_fails_is_tried_again_and_given_up_after_three_days() {
    let record = "v=DMARC1; p=reject; rua=mailto:a@elsewhere.example";
    let plain = dns().with_txt("_dmarc.outside.example", record);
    let slow = plain.clone().with_unknown("_dmarc.elsewhere.example");
    let allowing = plain.clone().with_txt("outside.example._report._dmarc.elsewhere.example", "v=DMARC1");
    let outcome = |events: Vec<(Option<String>, u64, DmarcReportOutcome)>| {
        events.into_iter().map(|event| event.2).collect::<Vec<_>>()
    };
    for (dns, is_full, days, expected) in [
        (&slow, false, 2, "Later"),
        (&plain, false, 2, "Unwanted"),
        (&allowing, false, 2, "Sent"),
        (&allowing, true, 2, "Later"),
        (&allowing, true, 4, "GivenUp"),
    ] {
        let (world, process) = (World::default(), Process::default());
        world.set_time(TODAY);
        receive(&world, &process, &plain, "192.0.2.9", &by("outside.example")).await;
        world.is_full.store(usize::from(is_full), Ordering::Relaxed);
        world.set_time(TODAY + days * DAY);
        let [first] = &outcome(world.send(dns).await)[..] else { panic!("one report") };
        assert!(format!("{first:?}").starts_with(expected), "{first:?}");
        world.is_full.store(0, Ordering::Relaxed);
        let again = outcome(world.send(&allowing).await);
        assert_eq!(again.len(), usize::from(expected == "Later"), "{expected}: {again:?}");
        assert_eq!(world.queued().len(), usize::from(matches!(expected, "Later" | "Sent")), "{expected}");
    }
}

#[tokio::test] // a clock that goes back
async fn a_day_that_was_reported_is_not_reported_again_and_does_not_change() {
    for is_full in [0, 1] {
        let (world, dns, process) = (World::default(), dns(), Process::default());
        world.set_time(TODAY);
        receive(&world, &process, &dns, "192.0.2.9", &by("bank.example")).await;
        world.set_time(TODAY + 2 * DAY);
        world.is_full.store(is_full, Ordering::Relaxed);
        assert_eq!(world.send(&dns).await.len(), 1);
        world.set_time(TODAY + 1);
        receive(&world, &process, &dns, "192.0.2.8", &by("bank.example")).await;
        world.set_time(TODAY + 2 * DAY);
        world.is_full.store(0, Ordering::Relaxed);
        assert_eq!(world.send(&dns).await.len(), is_full, "only what was not taken");
        let sent: Vec<_> = world.queued().iter().map(|report| counted(&read(report))).collect();
        assert_eq!(sent, [1], "what the first attempt told");
    }
}

/// Receives three messages of two domains; the process may stop anywhere. Gives the steps of a process that does not.
async fn collect(world: &World, dns: &ResolverTable, process: &Process) -> usize {
    world.set_time(TODAY);
    for (peer, domain) in
        [("192.0.2.9", "bank.example"), ("192.0.2.8", "bank.example"), ("192.0.2.9", "client.example")]
    {
        receive(world, process, dns, peer, &by(domain)).await;
    }
    process.steps.load(Ordering::Relaxed)
}

#[tokio::test] // a stop at each step of sending
async fn a_stop_neither_loses_nor_doubles_a_day() {
    let dns = dns();
    let whole = World::default();
    collect(&whole, &dns, &Process::default()).await;
    whole.set_time(TODAY + 2 * DAY);
    let process = Process::default();
    whole.reporter(&process, &dns).send_due().await.1.expect("nothing stops it");
    let steps = process.steps.load(Ordering::Relaxed);
    assert!(steps > 20, "{steps}");
    let expected = whole.sent();
    let mut sent_again = BTreeSet::new();
    for first in 0..steps {
        for second in [first / 2, steps] {
            let world = World::default();
            collect(&world, &dns, &Process::default()).await;
            world.set_time(TODAY + 2 * DAY);
            for stop in [first, second] {
                let queued = world.queued().len();
                // It may have stopped, or not.
                let (events, _) = world.reporter(&Process::stopping_at(stop), &dns).send_due().await;
                // The state may fail behind it: what the queue took is told all the same.
                assert!(world.queued().len() - queued <= events.len(), "stopped at {stop}: {events:?}");
            }
            world.send(&dns).await;
            assert_eq!(world.sent(), expected, "stopped at {first} and {second}");
            assert_eq!(world.send(&dns).await, [], "stopped at {first} and {second}");
            if second == steps && world.queued().len() > expected.len() {
                sent_again.insert(first);
            }
        }
    }
    // Before the queue's word reaches us, or ours the state: two steps of each report. Its copies are the same, as `sent` has seen.
    assert_eq!(sent_again.len(), 2 * expected.len(), "{sent_again:?}");
}

#[tokio::test] // a stop at each step of collecting
async fn a_stop_while_a_message_is_counted_costs_that_message_at_most() {
    let dns = dns();
    let steps = collect(&World::default(), &dns, &Process::default()).await;
    for stop in 0..steps {
        let world = World::default();
        collect(&world, &dns, &Process::stopping_at(stop)).await;
        // The same three messages once more, so that each row is there whatever the stop left behind.
        collect(&world, &dns, &Process::default()).await;
        world.set_time(TODAY + 2 * DAY);
        world.send(&dns).await;
        let messages: u64 = world.sent().values().map(counted).sum();
        let rows: usize = world.sent().values().map(|report| report.records().len()).sum();
        // How many messages the stopped process had finished: each has about as many steps.
        let finished = u64::try_from(stop * 3 / steps).expect("three at most");
        assert_eq!(rows, 3, "stopped at {stop} of {steps}");
        assert!((2 + finished.max(1)..=6).contains(&messages), "stopped at {stop} of {steps}: {messages}");
    }
}
