//! One component behind one subscription, as `run` sets it up.

use crate::counting::{Count, Counting};
use anyhow::Result;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasi_pubsub::broker::driver::{Connection, Ready, SubscribeRequest};
use wasi_pubsub::broker::{
    Broker, BrokerError, Budget, Event, Limits, Qos, Share, SubscriptionSettings, Topic,
    TopicFilter,
};
use wasi_pubsub::runtime::{
    Code, ComponentSettings, ComponentSetup, Grant, Grants, Host, InstanceMode, Outcome, Output,
    Service, Setup, SubscriptionSetup, WasiGrants,
};

/// A running service, and what it has acknowledged.
pub struct Running {
    pub broker: Arc<Broker>,
    pub count: Arc<Count>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Outcome>,
}

struct Nothing;

impl Grants for Nothing {
    fn route(&self, topic: &str) -> Result<Grant, BrokerError> {
        Err(BrokerError::Denied(topic.into()))
    }
}

/// How a component is run.
pub struct Start {
    pub path: PathBuf,
    pub qos: Qos,
    pub in_flight: usize,
    pub group: Option<String>,
    pub mode: InstanceMode,
    pub instances: usize,
    /// How many acknowledgements are waited for.
    pub expected: u64,
}

impl Start {
    /// One instance, 64 events in flight.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            qos: Qos::AtLeastOnce,
            in_flight: 64,
            group: None,
            mode: InstanceMode::Reuse,
            instances: 1,
            expected: 0,
        }
    }
}

/// Starts one component on the topic `bench`.
pub async fn start(start: Start, connection: Arc<dyn Connection>) -> Result<Running> {
    let host = Host::new()?;
    let code = Code::load(&host, None, &start.path, start.mode)?;
    let count = Arc::new(Count::of(start.expected));
    let counting = Arc::new(Counting { inner: connection, count: Arc::clone(&count) });
    let broker = Broker::new("bench", counting, Limits::default());
    let mut settings = SubscriptionSettings::new(TopicFilter::new("bench")?);
    settings.qos = start.qos;
    settings.max_in_flight = start.in_flight;
    settings.group = start.group;
    let component = ComponentSetup {
        name: "guest".into(),
        code,
        settings: ComponentSettings {
            instance: start.mode,
            instances: start.instances,
            max_concurrency: 64,
            max_in_flight_bytes: 64 << 20,
            memory_limit: 64 << 20,
            timeout: Duration::from_secs(10),
            wasi: WasiGrants::default(),
        },
        grants: Arc::new(Nothing),
        pulls: HashMap::new(),
    };
    let subscription = SubscriptionSetup { broker: 0, settings, push: true, members: vec![0] };
    let setup = Setup {
        brokers: vec![Arc::clone(&broker)],
        subscriptions: vec![subscription],
        components: vec![component],
        drain: Duration::from_secs(5),
        output: Output::new(|_, _, _| {}),
        observers: Vec::new(),
        is_server: false,
    };
    let service = Service::new(&host, setup)?;
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        service
            .run(stop, move || {
                let _ = ready.send(());
            })
            .await
    });
    is_ready.await?;
    Ok(Running { broker, count, stop, ended })
}

impl Running {
    pub async fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        self.ended.await?;
        Ok(())
    }
}

/// An event that the test guests acknowledge at once.
pub fn event(id: u64, data: &bytes::Bytes) -> Event {
    Event {
        id: id.to_string(),
        source: "/bench".into(),
        kind: "bench".into(),
        data: data.clone(),
        content_type: None,
        attributes: vec![("do".into(), "ok".into())],
        ordering_key: None,
    }
}

/// A subscription to the topic `bench`.
pub fn request() -> Result<SubscribeRequest> {
    let settings = SubscriptionSettings::new(TopicFilter::new("bench")?);
    Ok(SubscribeRequest {
        label: "bench".into(),
        filter: settings.filter,
        group: None,
        qos: Qos::AtLeastOnce,
        max_in_flight: settings.max_in_flight,
        max_in_flight_bytes: settings.max_in_flight_bytes,
        group_max_in_flight: None,
        backlog_bound: None,
        not_from: None,
        order: wasi_pubsub::broker::Order::None,
        event_filter: None,
        start: wasi_pubsub::broker::Start::New,
        is_temporary: false,
        share: Share::new(&Budget::unbounded()),
        ready: Ready(Arc::new(|| {})),
    })
}

pub fn topic() -> Result<Topic> {
    Ok(Topic::new("bench")?)
}
