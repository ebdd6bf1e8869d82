//! How questions about who a client is are answered: by the authenticator, within a time limit.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hooks::authenticator::Authenticator;
use crate::sasl::credential::Credential;
use crate::server::hook_call::{Guarded, WhenClientLeaves, wait_for};
use crate::server::shutdown::Phase;
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity, Question};
use crate::session::event::{SessionEvent, Stage};
use crate::syntax::text::SafeText;

use super::{Driver, now};

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    /// Answers one of the questions that `AUTH` brings.
    pub(super) async fn answer_authentication(&mut self, question: Question) {
        let hook = &*Arc::clone(&self.profile.shared.hooks.authenticator);
        let connection = &Arc::clone(self.session.connection());
        match question {
            Question::Authenticate(ask) => {
                if !self.begin_login(ask.subject().user()).await {
                    return self.give(ask, Some(Err(AuthError::Unavailable)));
                }
                let answer = self.call_authenticator(check(hook, connection, ask.subject())).await;
                self.give(ask, answer);
            }
            Question::ScramKeys(ask) => {
                let wanted = ask.subject();
                if !self.begin_login(Some(&wanted.user)).await {
                    return self.give(ask, Some(Err(AuthError::Unavailable)));
                }
                let find = async { hook.scram(connection, &wanted.user, wanted.hash).await };
                let answer = self.call_authenticator(find).await;
                self.give(ask, answer);
            }
            Question::ActAs(ask) => {
                let (who, authzid) = ask.subject();
                let act = async { hook.act_as(who, authzid).await };
                let answer = self.call_authenticator(act).await;
                self.give(ask, answer);
            }
            Question::SendAs(ask) => {
                let from = ask.subject().reverse_path();
                let send = async {
                    match connection.identity() {
                        Some(who) => hook.may_send_as(connection, who, from).await,
                        None => Ok(true),
                    }
                };
                let answer = self.call_authenticator(send).await;
                self.give(ask, answer);
            }
            _ => {}
        }
    }

    /// Waits until it is the turn of this login (SECURITY D-20). `false`: too many of this client wait already, or there is no
    /// sense in waiting.
    async fn begin_login(&mut self, user: Option<&str>) -> bool {
        let shared = &self.profile.shared;
        let client = self.session.connection().peer().ip();
        let limits_client = !shared.connections.is_exempt(client);
        let Some(attempt) = shared.logins.begin(client, user, limits_client, now()) else { return false };
        let delay = attempt.delay;
        self.login = Some(attempt);
        if delay.is_zero() {
            return true;
        }
        let user = SafeText::new(user.unwrap_or_default().to_owned());
        self.observe(|| SessionEvent::LoginDelayed { user, delay });
        let mut turn = pin!(tokio::time::sleep(delay));
        poll_fn(|cx| {
            if turn.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            self.inbound.poll_read_ahead(cx);
            self.presence.wake_on_change(cx.waker());
            // A server that stops does not wait for guesses.
            let waits = !self.inbound.has_failed() && self.presence.phase() == Phase::Serve;
            if waits { Poll::Pending } else { Poll::Ready(false) }
        })
        .await
    }

    /// `None` where the client has left. A hook that fails knows nothing of the credential.
    async fn call_authenticator<T>(
        &mut self,
        hook: impl Future<Output = Result<T, AuthError>> + Send,
    ) -> Option<Result<T, AuthError>> {
        let site = self.site(Stage::Authentication);
        let answer = {
            let time = self.limits().hook_timeout;
            let hook = pin!(hook);
            wait_for(&mut self.inbound, time, WhenClientLeaves::End, Guarded::new(site.clone(), hook)).await
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(failure) => self.failed(&site, failure).then_some(Err(AuthError::Unavailable)),
        }
    }
}

async fn check(
    hook: &dyn Authenticator,
    connection: &Connection,
    credential: &Credential,
) -> Result<Identity, AuthError> {
    match credential {
        Credential::Password { user, password } => hook.password(connection, user, password).await,
        Credential::Token { user, token } => hook.token(connection, user.as_deref(), token).await,
        Credential::Certificate(certificate) => hook.certificate(connection, certificate).await,
    }
}
