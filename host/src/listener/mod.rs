//! The built-in broker on the network: MQTT 3.1.1 and 5.
//!
//! A [`Listener`] serves clients of MQTT from a broker. A client's subscription is
//! a subscription of the broker, and its publishes are the broker's, so that
//! components and clients meet on the same topics and in the same groups.
//!
//! - `frames`, `read` and `encode`: the bytes of packets; `protocol`: what may come
//!   when;
//! - `wire`: reading and writing; `connect`: up to CONNACK;
//! - `connection`: the task of a client; `inbound`, `outbound` and `subscribe`: what
//!   it publishes, what it is sent, what it asks for;
//! - `session` and `registry`: what outlives a connection;
//! - `retained`, `hub`: what all clients share.

mod access;
mod connect;
mod connection;
mod encode;
mod files;
mod frames;
mod hub;
mod inbound;
mod outbound;
mod overlap;
mod packets;
mod protocol;
mod read;
mod reason;
mod registry;
mod retained;
mod session;
mod settings;
mod subscribe;
mod sys;
mod tls;
mod users;
mod websocket;
mod wire;

pub use access::{Access, Rule};
pub use retained::{RetainedMessage, RetainedStore};
pub use settings::{Clock, Limits, Settings};
pub use tls::{Pem, TlsError, server_config};
pub use users::{Users, UsersError, hash};

use crate::broker::driver::Connection;
use hub::Hub;
use protocol::Machine;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use wire::{Stream, Wire};

/// Who has come in, as far as it is known before CONNECT.
struct Visitor {
    /// Whether a user name is needed.
    anonymous: bool,
    /// The user that a certificate names.
    user: Option<String>,
}

/// How long to wait after the system has refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where clients come in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Door {
    /// Where to listen.
    pub address: SocketAddr,
    /// Whether clients without a user name are let in.
    pub anonymous: bool,
    /// TLS, where it is spoken. A client whose certificate was asked for and verified
    /// needs no user name.
    pub tls: Option<Arc<ServerConfig>>,
    /// WebSocket, where it is spoken.
    pub web: Option<Arc<Web>>,
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

impl Door {
    /// MQTT over TCP. Clients without a user name are let in from this machine alone.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self { address, anonymous: address.ip().is_loopback(), tls: None, web: None }
    }

    /// MQTT over WebSocket, likewise.
    #[must_use]
    pub fn web(address: SocketAddr, web: Web) -> Self {
        Self { web: Some(Arc::new(web)), ..Self::tcp(address) }
    }
}

/// The listeners of one broker. Dropping it closes all connections at once.
pub struct Listener {
    hub: Arc<Hub>,
    connections: TaskTracker,
    tasks: parking_lot::Mutex<tokio::task::JoinSet<()>>,
}

impl Listener {
    /// Prepares to serve a broker's clients. `unique` is to differ from that of any
    /// other process.
    #[must_use]
    pub fn new(broker: Arc<dyn Connection>, settings: Settings, unique: u64) -> Self {
        let limits = &settings.limits;
        let retained = Arc::new(RetainedStore::new(limits.retained_max, limits.retained_bytes_max));
        let hub = Hub::new(broker, settings, retained, unique);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(hub.clone().keep_time());
        if let Some(interval) = hub.settings.sys_interval {
            tasks.spawn(sys::tell(hub.clone(), interval));
        }
        Self { hub, connections: TaskTracker::new(), tasks: parking_lot::Mutex::new(tasks) }
    }

    /// Listens at a door, and returns its address: with port 0 a free one is taken.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn listen(&self, door: Door) -> io::Result<SocketAddr> {
        let socket = TcpListener::bind(door.address).await?;
        let address = socket.local_addr()?;
        let (hub, connections) = (self.hub.clone(), self.connections.clone());
        self.tasks.lock().spawn(accept(socket, Arc::new(door), hub, connections));
        Ok(address)
    }

    /// Tells all clients that the server ends, and waits until they are gone, at most
    /// for this time.
    pub async fn close(&self, grace: Duration) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.abort_all();
        self.connections.close();
        self.hub.registry.shut_down();
        // What is late is dropped.
        let _ = tokio::time::timeout(grace, self.connections.wait()).await;
    }
}

async fn accept(socket: TcpListener, door: Arc<Door>, hub: Arc<Hub>, connections: TaskTracker) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => begin(stream, &door, &hub, &connections),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn begin(stream: TcpStream, door: &Arc<Door>, hub: &Arc<Hub>, connections: &TaskTracker) {
    let counters = &hub.counters;
    if counters.connections.fetch_add(1, Relaxed) >= hub.settings.limits.connections_max {
        counters.connections.fetch_sub(1, Relaxed);
        return;
    }
    counters.connections_total.fetch_add(1, Relaxed);
    // Without it answers wait; with it nothing goes wrong.
    let _ = stream.set_nodelay(true);
    let (hub, door) = (hub.clone(), door.clone());
    connections.spawn(async move {
        welcome(stream, &door, &hub).await;
        hub.counters.connections.fetch_sub(1, Relaxed);
    });
}

/// Speaks what the door speaks.
async fn welcome(stream: TcpStream, door: &Door, hub: &Arc<Hub>) {
    let mut visitor = Visitor { anonymous: door.anonymous, user: None };
    let mut stream: Box<dyn Stream> = Box::new(stream);
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
