//! rspamd over HTTP: what would it do? (`/checkv2`; PRACTICES S33)

use std::io;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value};
use smtp_core::{Content, ContentSource, SafeText, Secret, StoredContent, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::{ForRoleMailboxes, Practice};
use crate::reverse_dns::ConfirmedName;

use super::{ANSWER_LIMIT_OCTETS, FilterAddress, FilterLimits};

/// Where it says `reject`.
const REJECTED: Practice = of_rspamd("rspamd-reject", "rspamd would not reject it")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0; 3])
    .unknown([Action::Observe, Action::Defer, Action::Defer])
    .refuses(7, 1, "The content looks like spam")
    .when_unknown("The content filter cannot be asked now, try again later");
/// Where it says `greylist` or `soft reject`.
const DEFERRED: Practice = of_rspamd("rspamd-defer", "rspamd would not have it come again")
    .fails([Action::Observe, Action::Defer, Action::Defer], [0; 3])
    .refuses(7, 1, "Please come again in a few minutes");
/// Where it says `add header` or `rewrite subject`.
const TAGGED: Practice =
    of_rspamd("rspamd-tag", "rspamd would not mark it").fails([Action::Observe, Action::Tag, Action::Tag], [0; 3]);

const fn of_rspamd(name: &'static str, about: &'static str) -> Practice {
    Practice::new(name, "S33", about).for_role_mailboxes(ForRoleMailboxes::Tagged)
}

/// Shows the content and the envelope to a worker of rspamd, and does what it would do: reject, come again, mark.
///
/// It keeps score of its own, which is not added to ours.
#[derive(Debug, Clone)]
pub struct Rspamd {
    address: FilterAddress,
    limits: FilterLimits,
    password: Option<Secret>,
}

impl Rspamd {
    /// The normal worker that listens there: port 11333 unless told otherwise.
    pub fn new(address: FilterAddress) -> Self {
        Self { address, limits: FilterLimits::default(), password: None }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: FilterLimits) -> Self {
        Self { limits, ..self }
    }

    /// With the password of a controller.
    #[must_use]
    pub fn with_password(self, password: Secret) -> Self {
        Self { password: Some(password), ..self }
    }

    /// What it says of this content, with what is known of where it comes from: names of its HTTP fields and their values.
    pub async fn examine_content(&self, content: &Content, known: &[(&'static str, String)]) -> Observation {
        if content.len() > self.limits.octets {
            return Finding::pass(REJECTED.name(), "larger than what is looked at").into();
        }
        let unknown = |why: String| Observation::from(Finding::unknown(REJECTED.name(), format!("rspamd: {why}")));
        match tokio::time::timeout(self.limits.time, self.ask(content, known)).await {
            Ok(Ok(answer)) => answer.into_observation(),
            Ok(Err(error)) => unknown(error.to_string()),
            Err(_elapsed) => unknown("took too long".to_owned()),
        }
    }

    async fn ask(&self, content: &Content, known: &[(&'static str, String)]) -> io::Result<Answer> {
        let body = stream::unfold(StoredContent::from(content), |mut source| async {
            let chunk = source.next_chunk().await.transpose()?;
            Some((chunk.map(Frame::<Bytes>::data), source))
        });
        let request = Request::post("/checkv2").header(HOST, "rspamd").header(CONTENT_LENGTH, content.len());
        let request = known.iter().fold(request, |request, (name, value)| {
            // What could not stand in a field is left out: a hint is lost, and nothing is forged.
            match HeaderValue::from_str(value) {
                Ok(value) => request.header(HeaderName::from_static(name), value),
                Err(_) => request,
            }
        });
        let password = self.password.as_ref().and_then(|password| HeaderValue::from_str(password.expose()).ok());
        let request = match password {
            Some(mut password) => {
                password.set_sensitive(true);
                request.header("password", password)
            }
            None => request,
        };
        let request = request.body(StreamBody::new(Box::pin(body))).map_err(io::Error::other)?;
        let stream = TokioIo::new(self.address.connect().await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            if response.status() != StatusCode::OK {
                return Err(io::Error::other(format!("status {}", response.status())));
            }
            let limit = usize::try_from(ANSWER_LIMIT_OCTETS).unwrap_or(usize::MAX);
            let body = Limited::new(response.into_body(), limit).collect().await.map_err(io::Error::other)?;
            serde_json::from_slice(&body.to_bytes()).map_err(io::Error::other)
        };
        // The connection ends with the exchange: what follows the answer is of no interest.
        let connection = std::pin::pin!(connection);
        let exchange = std::pin::pin!(exchange);
        match futures_util::future::select(exchange, connection).await {
            futures_util::future::Either::Left((answer, _)) => answer,
            futures_util::future::Either::Right((_, exchange)) => exchange.await,
        }
    }
}

/// What of its answer is used.
#[derive(Debug, Deserialize)]
struct Answer {
    action: String,
    #[serde(default)]
    score: f64,
    #[serde(default)]
    symbols: Map<String, Value>,
    #[serde(default)]
    messages: Map<String, Value>,
}

impl Answer {
    fn into_observation(self) -> Observation {
        let symbols = self.symbols.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let evidence = format!("rspamd: {}, {:.1} points: {symbols}", self.action, self.score);
        let practice = match self.action.as_str() {
            "reject" => REJECTED,
            "soft reject" | "greylist" => DEFERRED,
            "add header" | "rewrite subject" => TAGGED,
            "no action" | "accept" => return Finding::pass(REJECTED.name(), evidence).into(),
            // It must not be guessed what a word means that it did not have before.
            _ => return Finding::unknown(REJECTED.name(), evidence).into(),
        };
        let finding = Finding::fail(practice.name(), evidence);
        match self.messages.get("smtp_message").and_then(Value::as_str) {
            Some(text) => finding.with_explanation(SafeText::new(text.to_owned()).as_str()).into(),
            None => finding.into(),
        }
    }
}

/// What rspamd wants to know besides the content, by the names of its HTTP fields.
fn known(subject: &Subject<'_>) -> Vec<(&'static str, String)> {
    let connection = subject.connection();
    let mut known = vec![("ip", connection.peer().ip().to_canonical().to_string())];
    if let Some(greeting) = connection.greeting() {
        known.push(("helo", greeting.host().to_string()));
    }
    if let Some(ConfirmedName(name)) = subject.fact() {
        known.push(("hostname", name.to_string()));
    }
    if let Some(identity) = connection.identity() {
        known.push(("user", identity.as_str().to_owned()));
    }
    if let Some(transaction) = subject.transaction() {
        known.push(("from", transaction.reverse_path().to_string()));
        known.push(("queue-id", transaction.id().to_string()));
        known.extend(transaction.recipients().iter().map(|recipient| ("rcpt", recipient.path().to_string())));
    }
    known
}

#[async_trait]
impl Check for Rspamd {
    fn practices(&self) -> &[Practice] {
        &[REJECTED, DEFERRED, TAGGED]
    }

    fn scope(&self) -> Scope {
        Scope::Content
    }

    fn time_limit(&self) -> Duration {
        self.limits.time
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        match subject.content() {
            Some(content) => self.examine_content(content, &known(subject)).await,
            None => Observation::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Outcome;

    #[test] // SECURITY D-50
    fn d50_answers_of_rspamd() {
        for (answer, practice, outcome) in [
            (r#"{"action":"no action","score":-1.5,"symbols":{"A":{"score":1}}}"#, REJECTED, Outcome::Pass),
            (r#"{"action":"reject","score":18}"#, REJECTED, Outcome::Fail),
            (r#"{"action":"add header"}"#, TAGGED, Outcome::Fail),
            (r#"{"action":"greylist"}"#, DEFERRED, Outcome::Fail),
            (r#"{"action":"soft reject"}"#, DEFERRED, Outcome::Fail),
            (r#"{"action":"something new"}"#, REJECTED, Outcome::Unknown),
        ] {
            let parsed: Answer = serde_json::from_str(answer).expect("well formed");
            let [finding] = parsed.into_observation().findings().to_vec().try_into().expect("one finding");
            assert_eq!((finding.practice(), finding.outcome()), (practice.name(), outcome), "{answer}");
        }
        let said = r#"{"action":"reject","messages":{"smtp_message":"a\r\n250 b"}}"#;
        let parsed: Answer = serde_json::from_str(said).expect("well formed");
        let finding = parsed.into_observation().findings()[0].clone();
        assert_eq!(finding.explanation().map(SafeText::as_str), Some("a??250 b"));
        for answer in ["", "[]", "{}", r#"{"action":7}"#, "no JSON", r#"{"action":"reject""#] {
            assert!(serde_json::from_str::<Answer>(answer).is_err(), "{answer}");
        }
    }
}
