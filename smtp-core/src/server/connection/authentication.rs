//! How questions about who a client is are answered: by the authenticator, within a time limit.

use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hooks::authenticator::Authenticator;
use crate::sasl::credential::Credential;
use crate::server::hook_call::{Guarded, WhenClientLeaves, wait_for};
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity, Question};
use crate::session::event::Stage;

use super::Driver;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    /// Answers one of the questions that `AUTH` brings.
    pub(super) async fn answer_authentication(&mut self, question: Question) {
        let hook = &*Arc::clone(&self.profile.shared.hooks.authenticator);
        let connection = &Arc::clone(self.session.connection());
        match question {
            Question::Authenticate(ask) => {
                let answer = self.call_authenticator(check(hook, connection, ask.subject())).await;
                self.give(ask, answer);
            }
            Question::ScramKeys(ask) => {
                let wanted = ask.subject();
                let answer =
                    self.call_authenticator(async { hook.scram(connection, &wanted.user, wanted.hash).await }).await;
                self.give(ask, answer);
            }
            Question::ActAs(ask) => {
                let (who, authzid) = ask.subject();
                let answer = self.call_authenticator(async { hook.act_as(who, authzid).await }).await;
                self.give(ask, answer);
            }
            Question::SendAs(ask) => {
                let from = ask.subject().reverse_path();
                let answer = self
                    .call_authenticator(async {
                        match connection.identity() {
                            Some(who) => hook.may_send_as(connection, who, from).await,
                            None => Ok(true),
                        }
                    })
                    .await;
                self.give(ask, answer);
            }
            _ => {}
        }
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
