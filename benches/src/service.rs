//! One component behind one subscription, as `run` sets it up.

use crate::counting::{Count, Counting};
use anyhow::Result;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasi_pubsub::broker::driver::Connection;
use wasi_pubsub::broker::{
    Broker, BrokerError, Event, Limits, Qos, SubscriptionSettings, Topic, TopicFilter,
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

/// Starts one component with one instance on the topic `bench`.
pub async fn start(
    path: &Path,
    connection: Arc<dyn Connection>,
    qos: Qos,
    in_flight: usize,
) -> Result<Running> {
    let host = Host::new()?;
    let code = Code::load(&host, None, path)?;
    let count = Arc::new(Count::default());
    let counting = Arc::new(Counting { inner: connection, count: Arc::clone(&count) });
    let broker = Broker::new("bench", counting, Limits::default());
    let mut settings = SubscriptionSettings::new(TopicFilter::new("bench")?);
    settings.qos = qos;
    settings.max_in_flight = in_flight;
    let component = ComponentSetup {
        name: "guest".into(),
        code,
        settings: ComponentSettings {
            instance: InstanceMode::Reuse,
            instances: 1,
            max_concurrency: 64,
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

pub fn topic() -> Result<Topic> {
    Ok(Topic::new("bench")?)
}
