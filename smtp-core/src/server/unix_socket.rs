//! Sockets in the file system: who may connect says the file, and the file goes with its server.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixSocket, UnixStream};
use tokio::time::timeout;

use super::listener::Listener;
use super::socket::{BACKLOG, Socket};

/// The permissions of a socket where nothing else is said: its user and its group may connect.
const MODE: u32 = 0o660;
/// How long a server that may be behind a socket has to answer; one that is too busy is there.
const ANSWER: Duration = Duration::from_secs(1);

impl Listener {
    /// Listens on a Unix socket at that path, for clients of this host: a mail server that delivers by LMTP, programs that
    /// submit.
    ///
    /// The clients are those whom the permissions of the file let in (0660, see [`Listener::socket_mode`]). They have no
    /// address: both ends are `127.0.0.1:0` to hooks, in `Received` and in [`Listener::relay_for`], and as on loopback no
    /// number of connections from one address is too many. There is neither TLS nor a proxy: to ask for them is a
    /// [`ConfigError`](crate::ConfigError), and the certificates of the server are not offered here.
    ///
    /// A socket that is there already is removed where nobody answers on it; what is no socket is an error. The file goes
    /// when the server stops.
    ///
    /// ```
    /// use smtp_core::Listener;
    ///
    /// let store = Listener::unix("/run/store/lmtp").lmtp();
    /// let submission = Listener::unix("/run/mail/submit").relay_for("127.0.0.1/32".parse()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut listener = Self::new(format!("unix:{}", path.display()));
        listener.unix = Some((path, MODE));
        listener
    }

    /// The permissions of a Unix socket: who may write may connect. Default: `0o660`, its user and group. A listener on an
    /// address has none.
    #[must_use]
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.unix = self.unix.map(|(path, _)| (path, mode));
        self
    }
}

/// The name of a socket that this process has made: it goes when the socket does, unless it is another's by then.
pub(super) struct OwnedPath {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // What cannot be removed is removed by the next start: nobody answers on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Socket {
    /// Makes the socket with these permissions. One that is there already is removed where nobody answers on it.
    pub(super) async fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let owned = OwnedPath { path: path.to_owned(), file: identity(path)? };
        // Nobody can connect before it listens, whatever the permissions were at first.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(Self::Unix(owned, socket.listen(BACKLOG)?))
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"));
    }
    match timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server answers on this socket")),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
