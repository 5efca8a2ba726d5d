//! Where clients come in, and how they are let in.

use super::Shared;
use super::connection;
use super::crowd::Refusal;
use super::figures::Why;
use super::hub::Hub;
use super::identity;
use super::protocol::Machine;
use super::reason::{Fault, Reason};
use super::websocket;
use super::wire::{Stream, Wire};
use parking_lot::RwLock;
use rustls::ServerConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Who has come in, as far as it is known before CONNECT.
pub(super) struct Visitor {
    /// Whether it may come in without a user name.
    pub(super) anonymous: bool,
    /// The user that a certificate names.
    pub(super) user: Option<String>,
    /// It may do everything.
    pub(super) is_operator: bool,
    /// Where it comes from; `None` where that is no network.
    pub(super) from: Option<IpAddr>,
    /// When its CONNECT has to be there, and accepted.
    pub(super) deadline: Instant,
    /// Why it is refused, whoever it is.
    pub(super) refused: Option<Fault>,
    /// The server ends: nobody is waited for.
    pub(super) closing: CancellationToken,
}

impl Visitor {
    /// Takes note of the certificate that it has shown, which was verified.
    fn identify(&mut self, certificate: &[u8], is_named_by_it: bool) {
        self.anonymous = true;
        if !is_named_by_it {
            return;
        }
        self.user = identity::common_name(certificate);
        if self.user.is_none() {
            let text = "the certificate has no common name";
            self.refused.get_or_insert(Fault::new(Reason::NOT_AUTHORIZED, text));
        }
    }
}

/// Who knocks.
pub(super) struct Guest {
    pub(super) stream: Box<dyn Stream>,
    pub(super) from: Option<IpAddr>,
}

/// How long to wait after the system has refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many connections may wait for being accepted.
const BACKLOG: u32 = 4096;

/// How clients are let in at an address.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Whether clients without a user name are let in.
    pub anonymous: bool,
    /// TLS, where it is spoken. A client whose certificate was asked for and verified
    /// needs no user name.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether a client is the user whom its certificate names, by its common name.
    pub user_from_certificate: bool,
    /// WebSocket, where it is spoken.
    pub web: Option<Arc<Web>>,
    /// Whoever comes in is the operator, who may do everything.
    pub is_private: bool,
}

/// MQTT over WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// The path, such as `/mqtt`.
    pub path: String,
    /// The folder whose files are served on the same port.
    pub files: Option<PathBuf>,
    /// The origins whose pages may connect, beside this server's own; `*` is any.
    pub origins: Vec<String>,
}

/// An address that is ours. Clients wait there until a [`Listener`] opens it.
#[derive(Debug)]
pub struct Bound(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Bound {
    /// Takes an address, in a runtime: with port 0 one with a port that is free.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restart finds connections of before that are not all over.
        socket.set_reuseaddr(true)?;
        // For clients without a keep-alive of MQTT: what is accepted inherits it.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        Ok(Self(Socket::Tcp(socket.listen(BACKLOG)?)))
    }

    /// Takes a path in the file system, in place of what a process that is gone has
    /// left there.
    ///
    /// # Errors
    /// Somebody listens there, or the path cannot be had.
    #[cfg(unix)]
    pub fn private(path: &Path) -> io::Result<Self> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self(Socket::Unix(UnixListener::bind(path)?)))
    }

    /// The address; `None` of a path.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            #[cfg(unix)]
            Socket::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Guest> {
        match &self.0 {
            Socket::Tcp(socket) => {
                let (stream, from) = socket.accept().await?;
                // Without it answers wait; with it nothing goes wrong.
                let _ = stream.set_nodelay(true);
                Ok(Guest { stream: Box::new(stream), from: Some(from.ip()) })
            }
            #[cfg(unix)]
            Socket::Unix(socket) => {
                Ok(Guest { stream: Box::new(socket.accept().await?.0), from: None })
            }
        }
    }
}

/// An address at which clients are let in, until it is dropped. Who is in stays.
#[derive(Debug)]
pub struct Entrance {
    door: Arc<RwLock<Arc<Door>>>,
    accepting: JoinHandle<()>,
}

impl Entrance {
    pub(super) fn open(bound: Bound, door: Door, shared: Arc<Shared>) -> Self {
        let door = Arc::new(RwLock::new(Arc::new(door)));
        let accepting = tokio::spawn(accept(bound, door.clone(), shared));
        Self { door, accepting }
    }

    /// Lets in further clients in this way.
    pub fn set(&self, door: Door) {
        *self.door.write() = Arc::new(door);
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(bound: Bound, door: Arc<RwLock<Arc<Door>>>, shared: Arc<Shared>) {
    let mut is_failing = false;
    let mut restored = shared.restored.clone();
    // Without its sender the listener is gone.
    if restored.wait_for(|restored| *restored).await.is_err() {
        return;
    }
    loop {
        match bound.accept().await {
            Ok(guest) => {
                is_failing = false;
                shared.begin(guest, door.read().clone());
            }
            Err(error) => {
                // Without file descriptors it goes on like that, many times a second.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Serves a guest, unless there are too many already.
    pub(super) fn begin(&self, guest: Guest, door: Arc<Door>) {
        let hub = self.hub.read().clone();
        let limits = &hub.settings.limits;
        let (place, refused) = match self.crowd.enter(guest.from, limits) {
            Ok(place) => (place, None),
            Err(Refusal::Told(place, fault)) => (place, Some(fault)),
            Err(Refusal::Closed) => {
                hub.counters.refused.add(Why::Closed);
                return;
            }
        };
        hub.counters.connections_total.fetch_add(1, Relaxed);
        let visitor = Visitor {
            anonymous: door.anonymous,
            user: None,
            is_operator: door.is_private,
            from: guest.from,
            deadline: Instant::now() + limits.connect_time_max,
            refused,
            closing: self.closing.clone(),
        };
        self.connections.spawn(async move {
            welcome(guest.stream, &door, &hub, visitor).await;
            drop(place);
        });
    }
}

/// Speaks what the door speaks. What only some connections need, or only for a while, is
/// in boxes of its own, so that an idle one takes little.
async fn welcome(mut stream: Box<dyn Stream>, door: &Door, hub: &Arc<Hub>, mut visitor: Visitor) {
    if let Some(tls) = &door.tls {
        let accepted = Box::pin(TlsAcceptor::from(tls.clone()).accept(stream));
        let Ok(Ok(accepted)) = tokio::time::timeout_at(visitor.deadline, accepted).await else {
            hub.counters.refused.add(Why::Handshake);
            return;
        };
        if let Some([own, ..]) = accepted.get_ref().1.peer_certificates() {
            visitor.identify(own, door.user_from_certificate);
        }
        stream = Box::new(accepted);
    }
    match &door.web {
        Some(web) => {
            Box::pin(websocket::serve(hub.clone(), stream, web.clone(), visitor)).await;
        }
        None => {
            let machine = Machine::new(hub.settings.limits.connect_bytes_max);
            connection::serve(hub.clone(), Wire::new(stream, machine), visitor).await;
        }
    }
}
