//! Checks in, a policy out: what runs when, what is remembered, and what is done about it.

mod explained;
mod seen;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use ipnet::IpNet;
use smtp_core::{
    Connection, Content, Disposition, Domain, Observer, Policy, PolicyContext, Recipient, Refusal, Stages, Transaction,
    Treatment, Verdict, async_trait,
};

use self::explained::{mark, reason, write_results};
use self::seen::{Observations, OfRecipients};
use crate::access::Exempted;
use crate::auth_results;
use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::header::header_section;
use crate::judgement::{Circumstances, Judgement};
use crate::practice::{Practice, Preset};
use crate::role_mailboxes::AbuseForm;
use crate::rules::{Rules, Thresholds, UnknownPractice};

/// The field that marks a message whose action is [`Action::Tag`]; fields of that name that arrive are left out.
pub const MARK: &str = "X-Spam-Flag";

/// Whether a client that is asked to come again may pass: it did come again, or is known.
///
/// ```
/// use smtp_policy::{Greylisting, Subject};
/// use smtp_core::async_trait;
///
/// /// Whoever speaks TLS need not come twice.
/// struct OnlyInClear;
///
/// #[async_trait]
/// impl Greylisting for OnlyInClear {
///     async fn may_pass(&self, subject: &Subject<'_>) -> bool {
///         subject.connection().tls().is_some()
///     }
/// }
/// ```
#[async_trait]
pub trait Greylisting: Send + Sync {
    /// Asked only where the verdict is [`Action::Greylist`], with the recipient in question. Where a store fails, `true`: to
    /// let a stranger pass harms less than to ask everybody to come again.
    async fn may_pass(&self, subject: &Subject<'_>) -> bool;

    /// A message of this client was good. Default: nothing is learnt.
    async fn learn(&self, subject: &Subject<'_>) {
        let _ = subject;
    }
}

/// Who keeps a record of what was judged, as [`DmarcReports`](crate::DmarcReports) does.
///
/// ```
/// use smtp_policy::{DmarcResult, Judgement, Recorder, Subject};
/// use smtp_core::async_trait;
///
/// struct Printed;
///
/// #[async_trait]
/// impl Recorder for Printed {
///     async fn record(&self, subject: &Subject<'_>, judgements: &[Judgement]) {
///         println!("{:?}: {} recipients", subject.fact::<DmarcResult>(), judgements.len());
///     }
/// }
/// ```
#[async_trait]
pub trait Recorder: Send + Sync {
    /// A message was judged, for each of its recipients. It cannot change that any more.
    async fn record(&self, subject: &Subject<'_>, judgements: &[Judgement]);
}

/// A policy made of checks. It judges each recipient twice: at `RCPT` by client, envelope and reverse-path, and when the content
/// has come by all.
///
/// Mail of authenticated clients skips the checks of the client (PRACTICES P6), and so does that of trusted networks. Role
/// mailboxes are never refused at `RCPT`, because the engine asks no policy about them.
///
/// ```
/// use smtp_core::{Accepted, Message, ResolverTable, Server};
/// use smtp_policy::{Chain, Preset, ReverseDns};
///
/// let policy = Chain::new("names", Preset::Bcp).with(ReverseDns::new(ResolverTable::new()));
/// println!("{}", policy.explain());
/// let server = Server::builder("mx.example.org")
///     .local_domain("example.org")
///     .policy(policy)
///     .deliver(|_: Message| async { Ok(Accepted::all()) });
/// ```
pub struct Chain {
    id: u64,
    name: String,
    checks: Vec<Arc<dyn Check>>,
    rules: Rules,
    greylisting: Option<Arc<dyn Greylisting>>,
    trusted: Vec<IpNet>,
    authserv_id: Option<Domain>,
    observer: Option<Arc<dyn Observer>>,
    recorder: Option<Arc<dyn Recorder>>,
    abuse_form: Option<AbuseForm>,
}

impl Chain {
    /// A chain without checks.
    pub fn new(name: impl Into<String>, preset: Preset) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            checks: Vec::new(),
            rules: Rules::new(preset),
            greylisting: None,
            trusted: Vec::new(),
            authserv_id: None,
            observer: None,
            recorder: None,
            abuse_form: None,
        }
    }

    /// With a check, whose practices mean what the preset says.
    #[must_use]
    pub fn with(mut self, check: impl Check + 'static) -> Self {
        self.rules.add(check.practices());
        self.checks.push(Arc::new(check));
        self
    }

    /// With a check in the place of those that have the same practices: one of [`recommended`](crate::recommended) with other
    /// settings.
    #[must_use]
    pub fn with_instead(mut self, check: impl Check + 'static) -> Self {
        let names = |check: &dyn Check| check.practices().iter().map(Practice::name).collect::<Vec<_>>();
        let replaced = names(&check);
        self.checks.retain(|other| names(&**other) != replaced);
        self.with(check)
    }

    /// With another action for a practice.
    ///
    /// # Errors
    /// [`UnknownPractice`] where no check of this chain observes it.
    pub fn with_action(mut self, practice: &str, action: Action) -> Result<Self, UnknownPractice> {
        self.rules.set_action(practice, action)?;
        Ok(self)
    }

    /// With other thresholds.
    #[must_use]
    pub fn with_thresholds(mut self, thresholds: Thresholds) -> Self {
        self.rules = self.rules.with_thresholds(thresholds);
        self
    }

    /// With somebody who knows who came again. Without, nobody is greylisted.
    #[must_use]
    pub fn with_greylisting(mut self, greylisting: impl Greylisting + 'static) -> Self {
        self.greylisting = Some(Arc::new(greylisting));
        self
    }

    /// Nobody is asked to come again, whatever the verdict.
    #[must_use]
    pub fn without_greylisting(self) -> Self {
        Self { greylisting: None, ..self }
    }

    /// Refusals of mail for `abuse`, where it is filtered as other mailboxes are, name that form (PRACTICES S46).
    #[must_use]
    pub fn with_abuse_form(self, form: AbuseForm) -> Self {
        Self { abuse_form: Some(form), ..self }
    }

    /// Clients of this network are ours or work for us: they skip what authenticated clients skip.
    #[must_use]
    pub fn trusting(mut self, network: IpNet) -> Self {
        self.trusted.push(network);
        self
    }

    /// Writes what the checks found into one `Authentication-Results` field of each message, under this name, and leaves out
    /// arriving fields that have it (RFC 8601 §5). Usually it is the name of the server. Default: no field is written.
    #[must_use]
    pub fn reporting_as(self, authserv_id: &Domain) -> Self {
        Self { authserv_id: Some(authserv_id.to_ascii()), ..self }
    }

    /// Who is told of each judgement.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Who keeps a record of each message that was judged.
    #[must_use]
    pub fn recorded_by(mut self, recorder: impl Recorder + 'static) -> Self {
        self.recorder = Some(Arc::new(recorder));
        self
    }

    /// The rules, to be read.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rules, to be changed.
    pub fn rules_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// What is done about each practice, for people: [`Rules::explain`].
    pub fn explain(&self) -> String {
        self.rules.explain()
    }

    /// What runs when, what that costs, and in which mode, for people: the scopes in their order, in each its checks, and of each
    /// check its practices.
    pub fn explain_chain(&self) -> String {
        let mut lines = vec![self.rules.explain_preset()];
        for (scope, when) in SCOPES {
            let checks: Vec<_> = self.checks.iter().filter(|check| check.scope() == scope).collect();
            if checks.is_empty() {
                continue;
            }
            lines.push(format!("\n{when}"));
            for check in checks {
                lines.push(self.explain_check(&**check));
                let practices = check.practices().iter();
                let practices = practices.filter_map(|practice| self.rules.explain_practice(practice.name()));
                lines.extend(practices.map(|line| format!("    {line}")));
            }
        }
        let greylisting = if self.greylisting.is_some() { "" } else { "; nobody is asked to come again" };
        lines.push(format!("\n{}{greylisting}", self.rules.explain_thresholds()));
        lines.join("\n")
    }

    fn explain_check(&self, check: &dyn Check) -> String {
        if !self.wants(check) {
            return "  a check that does not run, since all of its practices are off".into();
        }
        let dns = if check.asks_dns() { "DNS is asked" } else { "no DNS" };
        let whom = if check.examines_submission() { "mail of everybody" } else { "mail of strangers" };
        format!("  a check of {whom}: {dns}, at most {} s", check.time_limit().as_secs())
    }

    fn wants(&self, check: &dyn Check) -> bool {
        self.rules.want_any(check.practices())
    }

    fn is_ours(&self, connection: &Connection) -> bool {
        let peer = connection.peer().ip().to_canonical();
        matches!(connection.treatment(), Treatment::Submission | Treatment::RelayClient)
            || self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// Runs the checks of these scopes at the same time, those that are wanted for this client.
    async fn run(&self, subject: Subject<'_>, scopes: &[Scope]) -> Observations {
        let is_ours = self.is_ours(subject.connection);
        let chosen = self.checks.iter().filter(|check| {
            scopes.contains(&check.scope()) && self.wants(&***check) && (!is_ours || check.examines_submission())
        });
        join_all(chosen.map(|check| async {
            let seen = tokio::time::timeout(check.time_limit(), check.examine(&subject)).await;
            Arc::new(seen.unwrap_or_else(|_elapsed| {
                let unknown = |practice: &Practice| Finding::unknown(practice.name(), "took too long");
                check.practices().iter().map(unknown).collect()
            }))
        }))
        .await
    }

    /// How a refusal reads for that recipient.
    fn refusal_for(&self, recipient: &Recipient, refusal: &Refusal) -> Refusal {
        match self.abuse_form.as_ref().filter(|_| AbuseForm::may_stand_for(recipient.path())) {
            Some(form) => form.named_in(refusal.clone()),
            None => refusal.clone(),
        }
    }

    fn judge(&self, seen: &[Arc<Observation>], circumstances: Circumstances) -> Judgement {
        self.rules.judge(seen.iter().flat_map(|observation| &observation.findings), circumstances)
    }
}

/// When the checks of each scope run.
const SCOPES: [(Scope, &str); 5] = [
    (Scope::Client, "client: at the first RCPT of a session, all at the same time, with those of the sender"),
    (Scope::Sender, "sender: at the first RCPT of a transaction, all at the same time"),
    (Scope::Recipient, "recipient: at each RCPT behind those, all at the same time"),
    (Scope::Content, "content: when it has come, all at the same time"),
    (Scope::Conclusion, "conclusion: from what the others found, all at the same time"),
];

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("name", &self.name).field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[async_trait]
impl Policy for Chain {
    fn name(&self) -> &str {
        &self.name
    }

    fn stages(&self) -> Stages {
        let wanted = self.checks.iter().filter(|check| self.wants(&***check));
        let reporting = if self.authserv_id.is_some() { Stages::MESSAGE } else { Stages::NONE };
        // What was seen of the envelope is judged again with the content, and written into its header.
        wanted.fold(reporting, |stages, check| match check.scope() {
            Scope::Client | Scope::Sender | Scope::Recipient => stages | Stages::RECIPIENT | Stages::MESSAGE,
            Scope::Content | Scope::Conclusion => stages | Stages::MESSAGE,
        })
    }

    async fn recipient(&self, cx: &mut PolicyContext<'_>, recipient: &Recipient) -> Verdict {
        let envelope = self.envelope(cx).await;
        let subject = Subject { recipient: Some(recipient), earlier: &envelope, ..subject_of(cx) };
        let own = self.run(subject, &[Scope::Recipient]).await;
        let seen = [&envelope[..], &own[..]].concat();
        if seen.is_empty() && self.is_ours(cx.connection()) {
            return Verdict::Continue;
        }
        let circumstances = Circumstances { content_seen: false, is_role: recipient.is_role() };
        let judgement = self.judge(&seen, circumstances);
        let mut action = judgement.action();
        if action == Action::Greylist {
            let subject = Subject { earlier: &seen, ..subject };
            let passes = match &self.greylisting {
                Some(greylisting) => greylisting.may_pass(&subject).await,
                None => true,
            };
            if passes {
                action = Action::Observe;
            }
        }
        self.report(cx, recipient, &seen, &judgement, (circumstances, action));
        if !own.is_empty() {
            let OfRecipients(mut all) = cx.transaction_extensions().get().cloned().unwrap_or_default();
            all.push((self.id, recipient.path().clone(), own));
            cx.insert_transaction(OfRecipients(all));
        }
        match judgement.refusal().filter(|_| action >= Action::Greylist) {
            Some(refusal) => Verdict::Refuse(self.refusal_for(recipient, refusal)),
            None => Verdict::Continue,
        }
    }

    async fn message(&self, cx: &mut PolicyContext<'_>, content: &Content) -> Verdict {
        let mut shared = self.envelope(cx).await;
        for scope in [Scope::Content, Scope::Conclusion] {
            let subject = Subject { content: Some(content), earlier: &shared, ..subject_of(cx) };
            let seen = self.run(subject, &[scope]).await;
            shared.extend(seen);
        }
        let is_silent = |seen: &Arc<Observation>| seen.findings.is_empty() && seen.results.is_empty();
        if self.is_ours(cx.connection()) && shared.iter().all(is_silent) {
            return Verdict::Continue;
        }
        // PRACTICES S21: by the letter of RFC 5321 §6.1 every sender is told; otherwise one whom SPF or DKIM confirms.
        let tells_everybody = self.rules.preset() == Preset::RfcStrict;
        if tells_everybody || shared.iter().any(|observation| observation.confirms_sender) {
            cx.confirm_sender();
        }
        if let Some(authserv_id) = &self.authserv_id {
            let Ok(section) = header_section(content).await else {
                return Verdict::Refuse(Refusal::transient(3, 0, "Temporary failure, try again later"));
            };
            write_results(cx, authserv_id, &auth_results::forged(&section, authserv_id), &shared);
        }
        let of_recipients = cx.transaction_extensions().get::<OfRecipients>().cloned().unwrap_or_default();
        let exempted = cx.transaction_extensions().get::<Exempted>().cloned().unwrap_or_default();
        let recipients = cx.transaction().map(Transaction::recipients).unwrap_or_default();
        let mut strongest = Action::Off;
        let mut judgements = Vec::with_capacity(recipients.len());
        for (place, recipient) in recipients.iter().enumerate() {
            let own = of_recipients.0.iter().find(|(chain, path, _)| *chain == self.id && path == recipient.path());
            let seen = own.map_or_else(|| shared.clone(), |(_, _, own)| [&shared[..], &own[..]].concat());
            // An operator spares a recipient as a role mailbox is spared.
            let is_role = recipient.is_role() || exempted.contains(recipient.path());
            let circumstances = Circumstances { content_seen: true, is_role };
            let judgement = self.judge(&seen, circumstances);
            self.report(cx, recipient, &seen, &judgement, (circumstances, judgement.action()));
            strongest = strongest.max(judgement.action());
            match (judgement.action(), judgement.refusal()) {
                (Action::Tag, _) => cx.dispose(place, Disposition::Junk),
                (Action::Quarantine, _) => cx.dispose(place, Disposition::Quarantine(reason(&judgement))),
                (_, Some(refusal)) => cx.refuse_recipient(place, self.refusal_for(recipient, refusal)),
                _ => {}
            }
            judgements.push(judgement);
        }
        mark(cx, strongest);
        if let Some(recorder) = &self.recorder {
            let subject = Subject { content: Some(content), earlier: &shared, ..subject_of(cx) };
            recorder.record(&subject, &judgements).await;
        }
        if strongest <= Action::Score
            && let Some(greylisting) = &self.greylisting
        {
            greylisting.learn(&Subject { content: Some(content), earlier: &shared, ..subject_of(cx) }).await;
        }
        Verdict::Continue
    }
}

fn subject_of<'a>(cx: &PolicyContext<'a>) -> Subject<'a> {
    let (connection, transaction) = (cx.connection(), cx.transaction());
    Subject { connection, transaction, recipient: None, content: None, earlier: &[] }
}
