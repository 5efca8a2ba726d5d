//! The built-in broker on the network, as `listen` says.
//!
//! [`Wanted`] is what a configuration asks for, with all files read. [`Listening`] is
//! the connection of a broker with its listener: it lets clients in once the
//! components' subscriptions are open, and says goodbye to them before the broker
//! is closed.

mod figures;
#[cfg(feature = "mqtt")]
mod reach;
mod wanted;

pub(super) use figures::Shown;
#[cfg(feature = "mqtt")]
pub(super) use reach::{is_running, reach};
pub(super) use wanted::Wanted;

use super::failure::Failure;
use crate::broker::driver::{Connection, Features, Source, SubscribeRequest};
use crate::broker::{BrokerError, Event, Qos, RetentionRule, StoreBounds, Topic};
use crate::config::{BrokerPlan, Config, DoorAddress, Errors, Place, Plan, Problem};
use crate::listener::{Bound, Door, Entrance, Listener};
use crate::mqtt::RETAIN;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wanted::WantedDoor;

/// The least part of a closing time that clients have.
const GOODBYE_MIN: Duration = Duration::from_millis(200);

/// The connection of a broker of this process, with its listener.
pub(super) struct Listening {
    inner: Arc<dyn Connection>,
    /// The broker itself.
    bare: Arc<dyn Connection>,
    listener: OnceLock<Listener>,
    /// Where commands of the same user reach it, whatever else is asked for.
    private: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    own: Option<Entrance>,
    entrances: Vec<Opened>,
    /// How many subscriptions are still to be opened before clients are let in.
    awaited: usize,
    /// What is opened then.
    next: Option<Prepared>,
}

struct Opened {
    asked: DoorAddress,
    entrance: Entrance,
}

/// A change whose addresses are ours already.
pub(super) struct Prepared {
    wanted: Wanted,
    /// For each door, the address where it is new.
    bound: Vec<Option<Bound>>,
}

/// An address that cannot be had.
pub(super) struct Refused {
    pub(super) place: Place,
    pub(super) asked: DoorAddress,
    pub(super) error: io::Error,
}

impl Listening {
    /// `inner` is what components use, `bare` the broker itself, `private` a path at
    /// which commands of the same user are let in.
    pub(super) fn new(
        inner: Arc<dyn Connection>,
        bare: Arc<dyn Connection>,
        private: Option<PathBuf>,
    ) -> Arc<Self> {
        let (listener, state) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { inner, bare, listener, private, state })
    }

    /// The connection for components.
    pub(super) fn connection(self: &Arc<Self>) -> Arc<dyn Connection> {
        self.clone()
    }

    /// Takes the addresses that are not ours yet. Nobody is let in.
    pub(super) fn prepare(&self, wanted: Wanted) -> Result<Prepared, Refused> {
        let known = self.state.lock();
        let mut bound = Vec::new();
        for door in &wanted.doors {
            if known.entrances.iter().any(|opened| opened.asked == door.asked) {
                bound.push(None);
                continue;
            }
            let (socket, address) = bind(&door.asked).map_err(|error| Refused {
                place: door.place.clone(),
                asked: door.asked.clone(),
                error,
            })?;
            tracing::info!("listening at {}", door.asked.with_port(address.port()));
            bound.push(Some(socket));
        }
        Ok(Prepared { wanted, bound })
    }

    /// Opens the addresses once so many subscriptions are open. What was open before
    /// and is not wanted any more is closed.
    pub(super) fn open_after(&self, subscriptions: usize, prepared: Prepared) {
        let mut state = self.state.lock();
        if subscriptions == 0 {
            self.open(&mut state, prepared);
            return;
        }
        state.awaited = subscriptions;
        state.next = Some(prepared);
    }

    fn open(&self, state: &mut State, prepared: Prepared) {
        let Prepared { wanted, bound } = prepared;
        let mut is_new = false;
        let listener = self.listener.get_or_init(|| {
            is_new = true;
            Listener::new(self.bare.clone(), wanted.settings.clone(), fastrand::u64(..))
        });
        if !is_new {
            listener.set(wanted.settings, fastrand::u64(..));
        }
        let mut before = std::mem::take(&mut state.entrances);
        for (WantedDoor { asked, door, .. }, bound) in wanted.doors.into_iter().zip(bound) {
            let known = before.iter().position(|opened| opened.asked == asked);
            match (known, bound) {
                (Some(index), _) => {
                    let opened = before.swap_remove(index);
                    opened.entrance.set(door);
                    state.entrances.push(opened);
                }
                (None, Some(bound)) => {
                    let entrance = listener.open(bound, door);
                    state.entrances.push(Opened { asked, entrance });
                }
                (None, None) => {}
            }
        }
        if state.own.is_none() {
            state.own = self.private.as_deref().and_then(|path| open_private(listener, path));
        }
    }

    /// Lets nobody in any more.
    pub(super) fn shut(&self) {
        let mut state = self.state.lock();
        state.entrances.clear();
        if let (Some(_), Some(path)) = (state.own.take(), &self.private) {
            // Whoever finds it nevertheless finds nobody there.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Notes that a subscription is open, or will not be.
    fn opened_one(&self) {
        let mut state = self.state.lock();
        state.awaited = state.awaited.saturating_sub(1);
        if state.awaited == 0
            && let Some(prepared) = state.next.take()
        {
            self.open(&mut state, prepared);
        }
    }
}

/// What each broker of a plan wants. What is wrong with a file is added to the
/// problems.
pub(super) fn read(
    config: &Config,
    plan: &Plan,
    folder: Option<&Path>,
    problems: &mut Vec<Errors>,
) -> Result<Vec<Option<Wanted>>, Failure> {
    if let Some(folder) = folder {
        check_folder(plan, folder)?;
    }
    let read = |broker: &BrokerPlan| {
        let wanted = Wanted::read(config, broker.listen.as_ref()?, folder);
        wanted.map_err(|errors| problems.push(errors)).ok()
    };
    Ok(plan.brokers.iter().map(read).collect())
}

/// Whether there is a folder, and somewhere to serve it.
fn check_folder(plan: &Plan, folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    if !folder.is_dir() {
        return Err(Failure::input(format!("--static: {shown} is not a folder")));
    }
    let doors =
        |broker: &BrokerPlan| broker.listen.clone().map(|listen| listen.settings.doors.clone());
    let mut doors = plan.brokers.iter().filter_map(doors).flatten();
    match doors.any(|door| door.path.is_some()) {
        true => Ok(()),
        false => Err(Failure::input(format!(
            "--static: there is no port to serve {shown} on\n  help: files are served where WebSocket is \
             spoken: listen = [\"ws://127.0.0.1:8083/mqtt\"]"
        ))),
    }
}

/// Takes the addresses of a broker.
pub(super) fn prepare(
    config: &Config,
    listening: &Listening,
    wanted: Wanted,
) -> Result<Prepared, Failure> {
    listening.prepare(wanted).map_err(|Refused { place, asked, error }| {
        let (found, reason) = (asked.to_string(), format!("cannot listen there: {error}"));
        Failure::problems(config.error_at(&place, Problem::BadValue { found, reason }))
    })
}

/// Lets commands of the same user in.
#[cfg(unix)]
fn open_private(listener: &Listener, path: &Path) -> Option<Entrance> {
    let made = path.parent().map_or(Ok(()), make_private).and_then(|()| Bound::private(path));
    let bound = made.inspect_err(|error| {
        let path = path.display();
        tracing::debug!("commands reach the broker at its addresses alone: {path}: {error}");
    });
    let door = Door { anonymous: true, is_private: true, ..Door::default() };
    Some(listener.open(bound.ok()?, door))
}

#[cfg(not(unix))]
fn open_private(_: &Listener, _: &Path) -> Option<Entrance> {
    None
}

/// Makes a folder that nobody else may look into.
#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// Takes an address, and says which.
fn bind(asked: &DoorAddress) -> io::Result<(Bound, SocketAddr)> {
    let mut addresses: Vec<_> = (asked.host.as_str(), asked.port).to_socket_addrs()?.collect();
    // Where a name has both, most clients try this one first.
    addresses.sort_by_key(|address| !address.is_ipv4());
    let first = addresses.first().ok_or_else(|| io::Error::other("the name has no address"))?;
    let bound = Bound::new(*first)?;
    let address = bound.address().unwrap_or(*first);
    Ok((bound, address))
}

#[async_trait]
impl Connection for Listening {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        let retained = event.attribute(RETAIN) == Some("true");
        let Some(listener) = self.listener.get().filter(|_| retained) else {
            return self.inner.publish(topic, event, qos, from).await;
        };
        let Some(kept) = listener.retain(topic, &event, qos) else {
            let text = "there is no room for another retained message";
            return Err(BrokerError::Unavailable(text.to_owned()));
        };
        let (published, kept) = tokio::join!(self.inner.publish(topic, event, qos, from), kept);
        published.and(kept)
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.inner.publish_dead_letter(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        let result = self.inner.subscribe(request).await;
        self.opened_one();
        result
    }

    fn has_subscribers(&self, topic: &Topic) -> Option<bool> {
        self.inner.has_subscribers(topic)
    }

    fn set_retention(&self, rules: Vec<RetentionRule>) {
        self.inner.set_retention(rules);
    }

    fn set_store_bounds(&self, bounds: StoreBounds) {
        self.inner.set_store_bounds(bounds);
    }

    async fn close(&self, grace: Duration) {
        self.shut();
        if let Some(listener) = self.listener.get() {
            listener.close(grace.max(GOODBYE_MIN)).await;
        }
        self.inner.close(grace).await;
    }
}
