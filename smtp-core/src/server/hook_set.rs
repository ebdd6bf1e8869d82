//! All hooks of a server together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;

use crate::hooks::authenticator::Authenticator;
use crate::hooks::delivery::Delivery;
use crate::hooks::observer::Observer;
use crate::hooks::policy::Policy;
use crate::hooks::recipient_lookup::RecipientLookup;
use crate::session::connection::Connection;
use crate::session::decision::{AuthError, Identity};
use crate::session::event::{SessionEvent, Stage};
use crate::session::server::Stages;
use crate::syntax::mechanism::Mechanisms;
use crate::syntax::path::ReversePath;
use crate::syntax::text::SafeText;

/// What a server was built with.
pub(crate) struct HookSet {
    pub(crate) lookup: Arc<dyn RecipientLookup>,
    pub(crate) policies: Vec<NamedPolicy>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) delivery: Arc<dyn Delivery>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// Where nobody can authenticate.
pub(crate) struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::NONE
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(false)
    }
}

/// A policy, asked once for its name and its stages.
pub(crate) struct NamedPolicy {
    pub(crate) name: SafeText,
    pub(crate) stages: Stages,
    pub(crate) policy: Arc<dyn Policy>,
}

impl NamedPolicy {
    pub(crate) fn new(policy: Arc<dyn Policy>) -> Self {
        Self { name: SafeText::new(policy.name().to_owned()), stages: policy.stages(), policy }
    }
}

impl HookSet {
    /// All stages that some policy wants.
    pub(crate) fn stages(&self) -> Stages {
        self.policies.iter().fold(Stages::NONE, |stages, policy| stages | policy.stages)
    }

    /// What the log calls a hook: the name of the policy at that place, or its kind.
    pub(crate) fn name(&self, stage: Stage, policy: usize) -> SafeText {
        match stage {
            Stage::Authentication | Stage::Lookup | Stage::Deliver => SafeText::new(stage.as_str()),
            _ => self.policies.get(policy).map(|policy| policy.name.clone()).unwrap_or_default(),
        }
    }

    /// A panic of the observer ends here: mail is not lost because it could not be logged.
    pub(crate) fn observe(&self, connection: &Connection, event: impl FnOnce() -> SessionEvent) {
        if let Some(observer) = &self.observer {
            let event = event();
            let _ = catch_unwind(AssertUnwindSafe(|| observer.session(connection, &event)));
        }
    }
}
