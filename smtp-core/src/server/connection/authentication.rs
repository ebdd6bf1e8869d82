//! How questions about who a client is are answered: by the authenticator, within a time limit.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hooks::authenticator::Authenticator;
use crate::sasl::credential::Credential;
use crate::server::hook_call::{Guarded, WhenClientLeaves, wait_for};
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
                let Some(delay) = self.begin_login(ask.subject().user()) else {
                    return self.give(ask, Some(Err(AuthError::Unavailable)));
                };
                let answer = self.call_authenticator(delay, check(hook, connection, ask.subject())).await;
                self.give(ask, answer);
            }
            Question::ScramKeys(ask) => {
                let wanted = ask.subject();
                let Some(delay) = self.begin_login(Some(&wanted.user)) else {
                    return self.give(ask, Some(Err(AuthError::Unavailable)));
                };
                let find = async { hook.scram(connection, &wanted.user, wanted.hash).await };
                let answer = self.call_authenticator(delay, find).await;
                self.give(ask, answer);
            }
            Question::ActAs(ask) => {
                let (who, authzid) = ask.subject();
                let act = async { hook.act_as(who, authzid).await };
                let answer = self.call_authenticator(Duration::ZERO, act).await;
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
                let answer = self.call_authenticator(Duration::ZERO, send).await;
                self.give(ask, answer);
            }
            _ => {}
        }
    }

    /// How long this login waits (SECURITY D-20); `None`: too many of this client wait already.
    fn begin_login(&mut self, user: Option<&str>) -> Option<Duration> {
        let shared = &self.profile.shared;
        let client = self.session.connection().peer().ip();
        let limits_client = !shared.connections.is_exempt(client);
        let attempt = shared.logins.begin(client, user, limits_client, now())?;
        let delay = attempt.delay;
        self.login = Some(attempt);
        if !delay.is_zero() {
            let user = SafeText::new(user.unwrap_or_default().to_owned());
            self.observe(|| SessionEvent::LoginDelayed { user, delay });
        }
        Some(delay)
    }

    /// Asks after so long. `None` where the client has left. A hook that fails knows nothing of the credential.
    async fn call_authenticator<T>(
        &mut self,
        delay: Duration,
        hook: impl Future<Output = Result<T, AuthError>> + Send,
    ) -> Option<Result<T, AuthError>> {
        let site = self.site(Stage::Authentication);
        let answer = {
            let time = self.limits().hook_timeout.saturating_add(delay);
            let hook = pin!(async {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                hook.await
            });
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
