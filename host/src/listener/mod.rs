//! The built-in broker on the network: MQTT 3.1.1 and 5.
//!
//! A [`Listener`] serves clients of MQTT from a broker, at each [`Entrance`]. A client's subscription is
//! a subscription of the broker, and its publishes are the broker's, so that
//! components and clients meet on the same topics and in the same groups.
//!
//! - `entrance` and `crowd`: who comes in, and how many;
//! - `frames`, `read` and `encode`: the bytes of packets; `protocol`: what may come
//!   when;
//! - `wire`: reading and writing; `connect`: up to CONNACK;
//! - `connection`: the task of a client; `inbound`, `outbound` and `subscribe`: what
//!   it publishes, what it is sent, what it asks for; `promised`: what waits until
//!   something is kept;
//! - `session` and `registry`: what outlives a connection;
//! - `rate` and `patience`: how fast a client may send, and how long it is waited for;
//! - `retained`, `hub` and `figures`: what all clients share;
//! - `archive`, `kept`, `codec` and `restore`: what outlives the process, where the
//!   broker does.

mod access;
mod archive;
mod codec;
mod connect;
mod connection;
mod crowd;
mod encode;
mod entrance;
mod figures;
mod files;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod http;
mod hub;
mod identity;
mod inbound;
mod kept;
mod outbound;
mod overlap;
mod packets;
mod patience;
mod promised;
mod protocol;
mod rate;
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
pub use entrance::{Bound, Door, Entrance, Web};
pub use figures::Figures;
pub use settings::{Clock, Limits, Settings};
pub use tls::{Pem, TlsError, server_config};
pub use users::{Users, UsersError, hash};

use crate::broker::driver::Connection;
use crate::broker::{BrokerError, Event, Qos, Topic};
use crowd::Crowd;
use entrance::Guest;
use hub::Hub;
use parking_lot::{Mutex, RwLock};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the end waits until sessions and retained messages are kept.
const KEEPING_TIME_MAX: Duration = Duration::from_secs(5);

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
    crowd: Arc<Crowd>,
    connections: TaskTracker,
    /// Cancelled when the server ends.
    closing: CancellationToken,
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
        let shared = Shared {
            crowd: Crowd::new(hub.counters.clone()),
            hub: RwLock::new(hub),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            restored,
        };
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
        Entrance::open(bound, door, self.shared.clone())
    }

    /// Serves a client that has come in another way than by an address; `from` is
    /// whose it is.
    pub fn admit<S>(&self, stream: S, from: Option<IpAddr>, door: Arc<Door>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.shared.begin(Guest { stream: Box::new(stream), from }, door);
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.hub.read().figures()
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
        self.shared.closing.cancel();
        let hub = self.shared.hub.read().clone();
        hub.registry.shut_down();
        // What is late is dropped.
        let _ = tokio::time::timeout(grace, self.shared.connections.wait()).await;
        if let Some(archive) = &hub.archive {
            archive.close(KEEPING_TIME_MAX).await;
        }
    }
}
