//! What a configuration says, once it is read: checked, with every default
//! filled in.

use super::backend::ConnectionSettings;
use super::listen::ListenConfig;
use super::source::{Located, Place, Source};
use crate::broker::driver::Features;
use crate::broker::{
    DedupeWindow, EventFilter, Exhausted, Limits, Order, Qos, Retention, RetryPolicy, Start,
    TopicFilter,
};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// The file that it comes from.
    pub source: Arc<Source>,
    /// Whether it stands in for a file that is not there: see
    /// [`built_in`](super::built_in).
    pub is_built_in: bool,
    /// How long a stop waits for what is in flight (`drain`, 10 s).
    pub drain: Duration,
    /// The largest event, in bytes (`max_event_size`, 10 MiB).
    pub max_event_size: usize,
    /// The most bytes that all subscriptions hold together, buffered or in
    /// flight (`max_in_flight_bytes`, 256 MiB).
    pub max_in_flight_bytes: usize,
    /// The `[[capability]]` tables.
    pub capabilities: Vec<Capability>,
    /// The `[[component]]` tables, and what was added to them.
    pub components: Vec<Component>,
}

impl Config {
    /// The limits of every broker.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { event_bytes_max: self.max_event_size, ..Limits::default() }
    }
}

/// One `[[capability]]`: a use of one backend.
#[derive(Debug)]
pub struct Capability {
    /// What `ID:TOPIC` names it by (`id`, default: the backend's name).
    pub id: String,
    /// The backend's name, such as `pubsub.mqtt`.
    pub backend: &'static str,
    /// What the backend can do.
    pub features: Features,
    /// The `[[capability.config]]` tables.
    pub bindings: Vec<Binding>,
}

/// One `[[capability.config]]`: a connection, at most one subscription, and
/// what may be published there.
#[derive(Debug)]
pub struct Binding {
    /// The table.
    pub place: Place,
    /// How the broker is reached.
    pub connection: Arc<dyn ConnectionSettings>,
    /// The quality of service, of the subscription and of what is published (`qos`, 1).
    pub qos: Qos,
    /// What may be published (`publish`, anything).
    pub publish: Publish,
    /// How long a publish waits for the broker (`publish_timeout`, 5 s).
    pub publish_timeout: Duration,
    /// The components that get this binding (`components`); `None`: all.
    pub components: Option<Vec<Located<String>>>,
    /// What its topics keep of events that nobody waits for any more (`retention`);
    /// `None`: nothing.
    pub retention: Option<Retention>,
    /// Where MQTT clients reach the broker, where this binding says it (`listen`).
    pub listen: Option<Arc<ListenConfig>>,
    /// What is subscribed to (`topic` or `queue`).
    pub subscription: Option<SubscriptionConfig>,
}

/// What may be published through a binding.
#[derive(Clone, Debug)]
pub enum Publish {
    /// Every topic, where no other binding has an explicit grant.
    Anything,
    /// The topics of these grants.
    Only(Vec<Grant>),
}

/// One filter of `publish`.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The topics.
    pub filter: TopicFilter,
    /// Whether the component has to name the broker, as in `ID:TOPIC`, because
    /// the grant does.
    pub by_id_only: bool,
    /// The text.
    pub place: Place,
}

/// How events reach the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The host calls `on-message`.
    Push,
    /// The component calls `receive`, `stream` or `pull`.
    Pull,
}

/// The subscription of a binding.
#[derive(Clone, Debug)]
pub struct SubscriptionConfig {
    /// The value of `topic` or `queue`.
    pub place: Place,
    /// The topics.
    pub filter: TopicFilter,
    /// Who shares the queue (`group`, `wasi-pubsub`); `None` with `topic`.
    pub group: Option<String>,
    /// What it is called at its broker (`subscription`, default: see
    /// [`label`](crate::broker::SubscriptionSettings::label)).
    pub name: Option<Located<String>>,
    /// Push or pull (`delivery`).
    pub delivery: Delivery,
    /// Which events are handled one after the other (`order`, `order_by`; none).
    pub order: Order,
    /// The value of `order`, where it asks for one.
    pub order_place: Option<Place>,
    /// Which events are wanted (`filter`, all).
    pub event_filter: Option<EventFilter>,
    /// Which verdicts are remembered at qos 2 (`dedupe`: 100,000 for 2 minutes).
    pub dedupe: DedupeWindow,
    /// The most events in flight (`max_in_flight`, 64).
    pub max_in_flight: usize,
    /// The most bytes in flight (`max_in_flight_bytes`, 16 MiB).
    pub max_in_flight_bytes: usize,
    /// The most events in flight in the whole group (`group_max_in_flight`, no limit).
    pub group_max_in_flight: Option<usize>,
    /// Where it begins (`start`, new).
    pub start: Start,
    /// How long a puller has for its verdict (`ack_deadline`, 30 s).
    pub ack_deadline: Duration,
    /// When and how often a failed event is tried again (`retry`).
    pub retry: RetryPolicy,
    /// What becomes of what nobody will handle (`dead_letter`, `on_exhausted`).
    pub exhausted: Exhausted,
    /// Whether a network broker keeps dead letters until they are collected
    /// (`keep_dead_letters`, true).
    pub keep_dead_letters: bool,
}

impl SubscriptionConfig {
    /// What components and logs call it: its name or, without one, its topics.
    #[must_use]
    pub fn called(&self) -> &str {
        self.name.as_ref().map_or(self.filter.as_str(), |name| &name.value)
    }
}

/// One `[[component]]`, or one of the command line.
#[derive(Clone, Debug)]
pub struct Component {
    /// What it goes by (`name`, default: its file's name without the extension).
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Where the file is named; `None`: on the command line.
    pub place: Option<Place>,
    /// How it runs.
    pub settings: ComponentSettings,
}

/// How a component runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentSettings {
    /// Whether an instance handles one event or many (`instance`, many).
    pub instance: Instance,
    /// The most instances at a time (`instances`, 4).
    pub instances: usize,
    /// The most calls at a time in one asynchronous instance (`max_concurrency`, 64).
    pub max_concurrency: usize,
    /// The most bytes of events that all its instances have in hand at a time
    /// before they are pushed more (`max_in_flight_bytes`, 64 MiB).
    pub max_in_flight_bytes: usize,
    /// The most memory of one instance, in bytes (`memory_limit`, 64 MiB).
    pub memory_limit: usize,
    /// The longest that one `on-message` call may take (`timeout`, 10 s).
    pub timeout: Duration,
    /// What WASI gives it (`env`, `args`, `dirs`, `network`): by default nothing.
    pub wasi: Wasi,
}

impl Default for ComponentSettings {
    fn default() -> Self {
        Self {
            instance: Instance::Reuse,
            instances: 4,
            max_concurrency: 64,
            max_in_flight_bytes: 64 << 20,
            memory_limit: 64 << 20,
            timeout: Duration::from_secs(10),
            wasi: Wasi::default(),
        }
    }
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// It handles event after event, until it fails.
    Reuse,
    /// It handles one event.
    Fresh,
}

/// What WASI gives a component beyond standard output, clocks and randomness.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wasi {
    /// Its environment variables.
    pub env: Vec<(String, String)>,
    /// Its arguments, after its name.
    pub args: Vec<String>,
    /// The directories that it sees.
    pub dirs: Vec<Directory>,
    /// Whom it may connect to.
    pub network: Network,
}

/// The environment may hold secrets: its values are not shown.
impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Wasi")
            .field("env", &names)
            .field("args", &self.args)
            .field("dirs", &self.dirs)
            .field("network", &self.network)
            .finish()
    }
}

/// A directory that a component sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub host: PathBuf,
    /// Where the component sees it.
    pub guest: String,
    /// Whether the component may change what is in it.
    pub write: bool,
}

/// Whom a component may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nobody.
    #[default]
    None,
    /// Everybody; names are looked up for it.
    Any,
    /// These addresses; `None` for every port. Names are not looked up.
    Only(Vec<(IpAddr, Option<u16>)>),
}
