//! The built-in broker on the network: MQTT 3.1.1 and 5.
//!
//! A [`Listener`] serves clients of MQTT from a broker. A client's subscription is
//! a subscription of the broker, and its publishes are the broker's, so that
//! components and clients meet on the same topics and in the same groups.
//!
//! - `protocol`: packets and the state of a connection; the one place that names
//!   the library; `frames` and `encode`: the bytes of the wire;
//! - `wire`: reading and writing; `connect`: up to CONNACK;
//! - `connection`: the task of a client; `inbound`, `outbound` and `subscribe`: what
//!   it publishes, what it is sent, what it asks for;
//! - `session` and `registry`: what outlives a connection;
//! - `retained`, `hub`: what all clients share.

mod connect;
mod connection;
mod encode;
mod frames;
mod hub;
mod inbound;
mod outbound;
mod packets;
mod protocol;
mod reason;
mod registry;
mod retained;
mod session;
mod settings;
mod subscribe;
mod wire;

pub use retained::{RetainedMessage, RetainedStore};
pub use settings::{Clock, Limits, Settings};

use crate::broker::driver::Connection;
use hub::Hub;
use protocol::Machine;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use wire::Wire;

/// How long to wait after the system has refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        Self { hub, connections: TaskTracker::new(), tasks: parking_lot::Mutex::new(tasks) }
    }

    /// Listens for MQTT over TCP, and returns the address: with port 0 a free one is
    /// taken.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn listen_tcp(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let (hub, connections) = (self.hub.clone(), self.connections.clone());
        self.tasks.lock().spawn(accept(socket, hub, connections));
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

async fn accept(socket: TcpListener, hub: Arc<Hub>, connections: TaskTracker) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => begin(stream, &hub, &connections),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn begin(stream: TcpStream, hub: &Arc<Hub>, connections: &TaskTracker) {
    let counters = &hub.counters;
    if counters.connections.fetch_add(1, Relaxed) >= hub.settings.limits.connections_max {
        counters.connections.fetch_sub(1, Relaxed);
        return;
    }
    counters.connections_total.fetch_add(1, Relaxed);
    // Without it answers wait; with it nothing goes wrong.
    let _ = stream.set_nodelay(true);
    let hub = hub.clone();
    connections.spawn(async move {
        let machine = Machine::new(hub.settings.limits.connect_bytes_max);
        connection::serve(hub.clone(), Wire::new(Box::new(stream), machine)).await;
        hub.counters.connections.fetch_sub(1, Relaxed);
    });
}
