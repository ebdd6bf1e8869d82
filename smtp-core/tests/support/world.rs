//! The users, the mailbox and the log of a server under test.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smtp_core::{
    Accepted, AuthError, Authenticator, Connection, Decided, Delivery, Error, ForwardPath, Identity, Lookup,
    LookupError, Mailbox, Mechanisms, Message, Observer, RecipientLookup, Refusal, ReversePath, Secret, Server,
    ServerBuilder, ServerHandle, SessionEvent, Transaction, async_trait,
};
use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, LocalSet};

use super::client::Client;

/// Who is there at `example.org`, in any case of letters: `alice`, `bob`, `user…`, `abuse`, `security`, `postmaster`,
/// and `list` which is the first two; the lookup of `error` fails. Nothing else is local. `<postmaster>` is said to be
/// unknown, because the engine must not believe that.
pub(crate) fn find(to: &ForwardPath) -> Result<Lookup, LookupError> {
    let mailbox = |text: &str| Mailbox::parse(text).expect("a mailbox");
    if to.domain().is_none_or(|domain| !domain.as_str().eq_ignore_ascii_case("example.org")) {
        return Ok(if *to == ForwardPath::Postmaster { Lookup::Unknown } else { Lookup::NotLocal });
    }
    match &*to.local_part().to_ascii_lowercase() {
        "alice" | "bob" | "postmaster" | "abuse" | "security" => Ok(Lookup::Mailbox),
        "list" => Ok(Lookup::Alias(vec![mailbox("alice@example.org"), mailbox("bob@example.org")])),
        "changed" => Ok(Lookup::Refused(Refusal::permanent(7, 1, "Somebody changed it"))),
        "moving" => Ok(Lookup::Refused(Refusal::transient(2, 1, "It is being moved"))),
        "error" => Err(LookupError::new("the directory is away")),
        user if user.starts_with("user") => Ok(Lookup::Mailbox),
        _ => Ok(Lookup::Unknown),
    }
}

/// The rule of [`RecipientLookup::is_role`].
pub(crate) fn is_role(to: &ForwardPath) -> bool {
    Users.is_role(to)
}

/// [`find`] as a hook.
pub(crate) struct Users;

#[async_trait]
impl RecipientLookup for Users {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        find(to)
    }
}

/// `PLAIN` for `alice` with her password.
pub(crate) const AUTH_ALICE: &str = "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=";

/// Whoever names a user is that user, and may send as anybody.
pub(crate) struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    fn mechanisms(&self) -> Mechanisms {
        Mechanisms::PASSWORD
    }

    async fn password(&self, _: &Connection, user: &str, _: &Secret) -> Result<Identity, AuthError> {
        Ok(Identity::new(user))
    }

    async fn may_send_as(&self, _: &Connection, _: &Identity, _: &ReversePath) -> Result<bool, AuthError> {
        Ok(true)
    }
}

/// Keeps what was delivered. Copies share one mailbox.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<Vec<Message>>>);

impl Inbox {
    pub(crate) fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages().len()
    }
}

#[async_trait]
impl Delivery for Inbox {
    async fn deliver(&self, message: Message) -> Result<Accepted, Refusal> {
        self.messages().push(message);
        Ok(Accepted::all())
    }
}

/// Keeps all events. Copies share one log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<SessionEvent>>>);

impl Log {
    pub(crate) fn events(&self) -> Vec<SessionEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many events are such.
    pub(crate) fn count(&self, is_such: impl Fn(&SessionEvent) -> bool) -> usize {
        self.events().iter().filter(|event| is_such(event)).count()
    }

    /// Waits, within reason, until there is such an event.
    pub(crate) async fn wait_for(&self, is_such: impl Fn(&SessionEvent) -> bool) {
        for _ in 0..3000 {
            if self.count(&is_such) > 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no such event among {:?}", self.events());
    }
}

impl Observer for Log {
    fn session(&self, _: &Connection, event: &SessionEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

/// A server of `mx.example.org` with [`Users`], which still needs a delivery or a policy.
pub(crate) fn builder(inbox: &Inbox, log: &Log) -> ServerBuilder<Decided, Decided> {
    Server::builder("mx.example.org").recipients(Users).deliver(inbox.clone()).observer(log.clone())
}

/// A server that runs and listens on loopback.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    pub(crate) run: JoinHandle<Result<(), Error>>,
}

pub(crate) async fn start(builder: ServerBuilder<Decided, Decided>) -> Running {
    let server = builder.listen("127.0.0.1:0").await.expect("loopback has free ports");
    let (address, handle) = (server.local_addresses()[0], server.handle());
    Running { address, handle, run: tokio::spawn(server.run()) }
}

/// Runs a test whose sessions are served without sockets, on a clock that the test can stop.
pub(crate) async fn in_process<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

/// A server that listens nowhere.
pub(crate) async fn unbound(builder: ServerBuilder<Decided, Decided>) -> Rc<Server> {
    Rc::new(builder.bind().await.expect("a valid configuration"))
}

/// Opens a session through a pipe that holds `octets` each way.
pub(crate) fn open_with(server: &Rc<Server>, octets: usize) -> Client<DuplexStream> {
    let (near, far) = tokio::io::duplex(octets);
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let server = server.clone();
    tokio::task::spawn_local(async move {
        server.serve_connection(far, address("192.0.2.1:40000"), address("192.0.2.25:25")).await;
    });
    Client::new(near)
}

/// Opens a session.
pub(crate) fn open(server: &Rc<Server>) -> Client<DuplexStream> {
    open_with(server, 1 << 20)
}
