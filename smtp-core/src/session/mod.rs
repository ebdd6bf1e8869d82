//! The protocol as a value: octets and time in, questions and octets out, no I/O.
//!
//! [`client`] is the state machine of a client, [`server`] that of a server. Of the server are also: [`transaction`],
//! what it collects; [`decision`], the words in which it asks and is answered; [`ownership`], one of these answers;
//! [`limits`], every number it obeys;
//! [`replies`], every sentence it says by itself; [`content_phase`], which counts content; [`connection`], what is known
//! of the client; [`event`], what is reported; [`extensions`], what policies remember. [`transfer_protocol`] says which
//! protocol it is.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod content_phase;
pub(crate) mod decision;
pub(crate) mod event;
pub(crate) mod extensions;
pub(crate) mod limits;
pub(crate) mod ownership;
pub(crate) mod replies;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod transaction;
pub(crate) mod transfer_protocol;
