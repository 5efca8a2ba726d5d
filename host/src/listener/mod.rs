//! The built-in broker on the network: MQTT 3.1.1 and 5.
//!
//! A [`Listener`] serves clients of MQTT from a broker, at each [`Entrance`]. A client's subscription is
//! a subscription of the broker, and its publishes are the broker's, so that
//! components and clients meet on the same topics and in the same groups.
//!
//! - `frames`, `read` and `encode`: the bytes of packets; `protocol`: what may come
//!   when;
//! - `wire`: reading and writing; `connect`: up to CONNACK;
//! - `connection`: the task of a client; `inbound`, `outbound` and `subscribe`: what
//!   it publishes, what it is sent, what it asks for; `promised`: what waits until
//!   something is kept;
//! - `session` and `registry`: what outlives a connection;
//! - `retained`, `hub`: what all clients share;
//! - `archive`, `kept`, `codec` and `restore`: what outlives the process, where the
//!   broker does.

mod access;
mod archive;
mod codec;
mod connect;
mod connection;
mod encode;
mod files;
mod frames;
mod hub;
mod inbound;
mod kept;
mod outbound;
mod overlap;
mod packets;
mod promised;
mod protocol;
mod read;
mod reason;
mod registry;
mod restore;
mod retained;
mod session;
mod settings;
mod subscribe;
mod sys;
#[cfg(test)]
mod tests;
mod tls;
mod users;
mod websocket;
mod wire;

pub use access::{Access, Rule};
pub use settings::{Clock, Limits, Settings};
pub use tls::{Pem, TlsError, server_config};
pub use users::{Users, UsersError, hash};

use crate::broker::driver::Connection;
use crate::broker::{BrokerError, Event, Qos, Topic};
use hub::{Counters, Hub};
use parking_lot::{Mutex, RwLock};
use protocol::Machine;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use wire::{Stream, Wire};

/// Who has come in, as far as it is known before CONNECT.
struct Visitor {
    /// Whether a user name is needed.
    anonymous: bool,
    /// The user that a certificate names.
    user: Option<String>,
    /// It may do everything.
    is_operator: bool,
}

/// How long to wait after the system has refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the end waits until sessions and retained messages are kept.
const KEEPING_TIME_MAX: Duration = Duration::from_secs(5);
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

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match &self.0 {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                // Without it answers wait; with it nothing goes wrong.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            #[cfg(unix)]
            Socket::Unix(socket) => Ok(Box::new(socket.accept().await?.0)),
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

/// The listener of one broker. Dropping it ends what it does by itself; who is in
/// stays.
pub struct Listener {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    /// Goes on until everything is kept.
    _keeping: Option<AbortOnDrop>,
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Stands for a retained message, to wait until it is kept.
pub type Retaining = Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send>>;

struct Shared {
    hub: RwLock<Arc<Hub>>,
    connections: TaskTracker,
    /// Whether what was kept before is there: nobody is let in earlier.
    restored: watch::Receiver<bool>,
}

impl Listener {
    /// Prepares to serve a broker's clients. `unique` is to differ from that of any
    /// other process.
    #[must_use]
    pub fn new(broker: Arc<dyn Connection>, settings: Settings, unique: u64) -> Self {
        let hub = Hub::new(broker, settings, unique);
        let mut tasks = JoinSet::new();
        let (is_restored, restored) = watch::channel(hub.archive.is_none());
        let mut keeping = None;
        if let Some(archive) = &hub.archive {
            let (hub, archive) = (hub.clone(), archive.clone());
            keeping = Some(AbortOnDrop(tokio::spawn(async move {
                restore::restore(&hub, &archive).await;
                is_restored.send_replace(true);
                archive.run().await;
            })));
        }
        tasks.spawn(hub.clone().keep_time());
        tasks.spawn(hub.clone().forget_expired());
        if let Some(interval) = hub.settings.sys_interval {
            tasks.spawn(sys::tell(hub.clone(), interval));
        }
        let shared = Shared { hub: RwLock::new(hub), connections: TaskTracker::new(), restored };
        Self { shared: Arc::new(shared), tasks: Mutex::new(tasks), _keeping: keeping }
    }

    /// Serves clients that come from now on with these settings. Those of retained
    /// messages and of `$SYS` stay as they were. `unique` as for a new one, and
    /// another.
    pub fn set(&self, settings: Settings, unique: u64) {
        let mut hub = self.shared.hub.write();
        *hub = hub.with(settings, unique);
    }

    /// Lets clients in.
    #[must_use]
    pub fn open(&self, bound: Bound, door: Door) -> Entrance {
        let door = Arc::new(RwLock::new(Arc::new(door)));
        let accepting = tokio::spawn(accept(bound, door.clone(), self.shared.clone()));
        Entrance { door, accepting }
    }

    /// Keeps an event for later subscribers, in place of the one before of its topic.
    /// `None` where there is no room. At qos 1 and 2 what is returned is to be waited
    /// for: then it is where the broker's events are.
    pub fn retain(&self, topic: &Topic, event: &Arc<Event>, qos: Qos) -> Option<Retaining> {
        let promise = self.shared.hub.read().retain(topic, event, qos, None)?;
        match qos {
            Qos::AtMostOnce => Some(Box::pin(async { Ok(()) })),
            _ => Some(Box::pin(promise.kept())),
        }
    }

    /// Tells all clients that the server ends, and waits until they are gone, at most
    /// for this time.
    pub async fn close(&self, grace: Duration) {
        self.tasks.lock().abort_all();
        self.shared.connections.close();
        let hub = self.shared.hub.read().clone();
        hub.registry.shut_down();
        // What is late is dropped.
        let _ = tokio::time::timeout(grace, self.shared.connections.wait()).await;
        if let Some(archive) = &hub.archive {
            archive.close(KEEPING_TIME_MAX).await;
        }
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
            Ok(stream) => {
                is_failing = false;
                begin(stream, door.read().clone(), &shared);
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

fn begin(stream: Box<dyn Stream>, door: Arc<Door>, shared: &Shared) {
    let hub = shared.hub.read().clone();
    let counters = &hub.counters;
    if counters.connections.fetch_add(1, Relaxed) >= hub.settings.limits.connections_max {
        counters.connections.fetch_sub(1, Relaxed);
        Counters::add(&counters.connections_refused, 1);
        return;
    }
    counters.connections_total.fetch_add(1, Relaxed);
    shared.connections.spawn(async move {
        welcome(stream, &door, &hub).await;
        hub.counters.connections.fetch_sub(1, Relaxed);
    });
}

/// Speaks what the door speaks.
async fn welcome(mut stream: Box<dyn Stream>, door: &Door, hub: &Arc<Hub>) {
    let is_operator = door.is_private;
    let mut visitor = Visitor { anonymous: door.anonymous, user: None, is_operator };
    if let Some(tls) = &door.tls {
        let accepted = TlsAcceptor::from(tls.clone()).accept(stream);
        let time_max = hub.settings.limits.connect_time_max;
        let Ok(Ok(accepted)) = tokio::time::timeout(time_max, accepted).await else { return };
        visitor.anonymous |= accepted.get_ref().1.peer_certificates().is_some();
        stream = Box::new(accepted);
    }
    match &door.web {
        Some(web) => websocket::serve(hub.clone(), stream, web.clone(), visitor).await,
        None => {
            let machine = Machine::new(hub.settings.limits.connect_bytes_max);
            connection::serve(hub.clone(), Wire::new(stream, machine), visitor).await;
        }
    }
}
