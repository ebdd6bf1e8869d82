//! What an application implements: four traits, and the observer.
//!
//! [`authenticator`]: who is it? [`recipient_lookup`]: is there such a mailbox? [`policy`]: do we want it?
//! [`delivery`]: take it. [`policy_rewriting`] is what a policy may change of a message. [`observer`] is told what happens. [`message`] is what a delivery takes; [`tables`] has
//! ready-made lookups, [`passwords`] a ready-made file of users,
//! whose lines are read in [`password_users`], and [`dovecot`] its users. [`outbound`] and [`delivery_event`] are for queues: under which
//! reverse-path does it leave us, and what became of it?

pub(crate) mod authenticator;
pub(crate) mod delivery;
pub(crate) mod delivery_event;
pub(crate) mod dovecot;
pub(crate) mod message;
pub(crate) mod observer;
pub(crate) mod outbound;
pub(crate) mod password_users;
pub(crate) mod passwords;
pub(crate) mod policy;
pub(crate) mod policy_event;
pub(crate) mod policy_rewriting;
pub(crate) mod recipient_lookup;
pub(crate) mod role_mailboxes;
pub(crate) mod tables;
