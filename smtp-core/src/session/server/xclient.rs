//! `XCLIENT` and `XFORWARD`: a listed peer speaks in the place of a client, or says where a message came from.
//!
//! Neither gives a client any right: who comes from an address by `XCLIENT` is treated as unknown there (SECURITY.md
//! D-22).

use std::sync::Arc;
use std::time::Instant;

use crate::session::event::{SessionEvent, Stage};
use crate::session::replies;
use crate::syntax::cursor::SyntaxError;
use crate::syntax::xclient::{Forwarded, Xclient};

use super::{ServerSession, State};

impl ServerSession {
    /// The session begins anew, with the greeting, as one of the client that is passed on.
    pub(super) fn xclient(&mut self, now: Instant, said: Result<Xclient, SyntaxError>, line: &[u8]) {
        let rights = self.connection.peer_rights();
        let refusal = match &said {
            _ if !rights.xclient => Some(replies::NOT_LISTED),
            _ if !matches!(self.state, State::Connected | State::Ready) => Some(replies::BAD_SEQUENCE),
            Err(_) => Some(replies::BAD_ARGUMENT),
            Ok(said) if said.login.is_some() && !rights.xclient_login => Some(replies::NOT_LISTED),
            Ok(_) => None,
        };
        let (Ok(said), None) = (said, refusal) else {
            return self.error(now, Stage::Command, refusal.unwrap_or(replies::BAD_ARGUMENT), line);
        };
        self.idle_command(|session| {
            let by = session.connection.peer();
            let connection = Arc::new(session.connection.passed_on(said));
            session.output = session.begin_anew(connection, now).output;
            session.event(|| SessionEvent::PassedOn { by });
        });
    }

    /// What the log says of the next transaction.
    pub(super) fn xforward(&mut self, now: Instant, said: Result<Forwarded, SyntaxError>, line: &[u8]) {
        match said {
            _ if !self.connection.peer_rights().xforward => {
                self.error(now, Stage::Command, replies::NOT_LISTED, line);
            }
            _ if self.state != State::Ready => self.error(now, Stage::Command, replies::BAD_SEQUENCE, line),
            Err(_) => self.error(now, Stage::Command, replies::BAD_ARGUMENT, line),
            Ok(said) => self.idle_command(|session| {
                let before = session.forwarded.take().unwrap_or_default();
                session.forwarded = Some(Box::new(before.and_then(said)));
                session.say_fixed(replies::OK);
            }),
        }
    }
}
