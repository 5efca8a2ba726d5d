//! A service as a library: what is known of it follows its reloads.

use crate::support::guests;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use testkit::{DEADLINE, eventually, within};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::{Connection, Features, Source, SubscribeRequest};
use wasi_pubsub::broker::{
    Broker, BrokerError, Event, Limits, Qos, SubscriptionSettings, Topic, TopicFilter,
};
use wasi_pubsub::runtime::{
    Code, ComponentSettings, ComponentSetup, Grant, Grants, Host, InstanceMode, Outcome, Output,
    Phase, Reloader, Reloads, Service, Setup, Status, SubscriptionSetup, WasiGrants,
};

struct Nothing;

impl Grants for Nothing {
    fn route(&self, topic: &str) -> Result<Grant, BrokerError> {
        Err(BrokerError::Denied(topic.into()))
    }
}

struct Scene {
    host: Host,
    broker: Arc<Broker>,
    other: Arc<Broker>,
}

impl Scene {
    fn new() -> Self {
        let open = |name| {
            let bounds = memory::Settings { queue_events_max: 2, ..memory::Settings::default() };
            Broker::new(name, memory::open_with(bounds), Limits::default())
        };
        Self { host: Host::new().unwrap(), broker: open("broker"), other: open("other") }
    }

    /// Components by name, guest and memory limit, each with a topic of its name
    /// at the first broker.
    fn setup(&self, components: &[(&str, &str, usize)]) -> Setup {
        let subscriptions = components.iter().enumerate().map(|(index, (name, ..))| {
            let settings = SubscriptionSettings::new(TopicFilter::new(name).unwrap());
            SubscriptionSetup { broker: 0, settings, push: true, members: vec![index] }
        });
        let components = components.iter().map(|&(name, guest, memory_limit)| {
            let path = guests().join(format!("{guest}.wasm"));
            ComponentSetup {
                name: name.into(),
                code: Code::load(&self.host, None, &path, InstanceMode::Reuse).unwrap(),
                settings: ComponentSettings {
                    instance: InstanceMode::Reuse,
                    instances: 1,
                    max_concurrency: 1,
                    max_in_flight_bytes: 64 << 20,
                    memory_limit,
                    timeout: DEADLINE,
                    wasi: WasiGrants::default(),
                },
                grants: Arc::new(Nothing),
                pulls: HashMap::new(),
            }
        });
        Setup {
            brokers: vec![self.broker.clone(), self.other.clone()],
            subscriptions: subscriptions.collect(),
            components: components.collect(),
            drain: Duration::from_secs(5),
            output: Output::new(|_, _, _| {}),
            observers: Vec::new(),
            is_server: false,
        }
    }

    async fn publish(&self, topic: &str) {
        self.publish_to(&self.broker, topic).await;
    }

    async fn publish_to(&self, broker: &Broker, topic: &str) {
        self.publish_step(broker, topic, "ok").await;
    }

    /// An event that says what the guest does.
    async fn publish_step(&self, broker: &Broker, topic: &str, step: &'static str) {
        let event = Event { kind: "test".into(), data: step.into(), ..Event::default() };
        let topic = Topic::new(topic).unwrap();
        broker.publish("tester", &topic, event, Qos::AtLeastOnce, DEADLINE).await.unwrap();
    }
}

const MIB: usize = 1 << 20;

/// How many instances each component has started.
fn started(status: &Status) -> Vec<(String, u64)> {
    status.components().iter().map(|c| (c.name().to_owned(), c.started())).collect()
}

fn acked(status: &Status, index: usize) -> u64 {
    status.subscriptions()[index].subscription().map_or(0, |s| s.stats().acked)
}

struct Running {
    status: Arc<Status>,
    reloader: Reloader,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Outcome>,
}

async fn start(scene: &Scene, setup: Setup) -> Running {
    let (running, is_ready) = begin(scene, setup);
    within("the service to be ready", is_ready).await.unwrap();
    running
}

/// Without waiting until it is ready.
fn begin(scene: &Scene, setup: Setup) -> (Running, oneshot::Receiver<()>) {
    let service = Service::new(&scene.host, setup).unwrap();
    let status = service.status().clone();
    let (reloader, reloads) = Reloads::channel(false);
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    assert_eq!(status.phase(), Phase::Starting);
    let running = tokio::spawn(async move {
        let stop = async { stopped.await.unwrap_or_default() };
        service.run_reloading(stop, move || ready.send(()).unwrap(), reloads).await
    });
    (Running { status, reloader, stop, running }, is_ready)
}

/// A way to reach a server, which outlives it.
struct Way {
    server: Arc<dyn Connection>,
    /// What the server refuses who comes by this way.
    refuses: Option<&'static str>,
    /// It leads nowhere.
    is_wrong: bool,
}

impl Way {
    fn to(server: &Arc<dyn Connection>) -> Self {
        Self { server: Arc::clone(server), refuses: None, is_wrong: false }
    }

    fn open(self) -> Arc<Broker> {
        Broker::new("way", Arc::new(self), Limits::default())
    }
}

#[async_trait]
impl Connection for Way {
    fn features(&self) -> Features {
        self.server.features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.server.publish(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        if self.is_wrong {
            return std::future::pending().await;
        }
        match self.refuses {
            Some(topic) if request.label == topic => Err(BrokerError::Denied(topic.into())),
            _ => self.server.subscribe(request).await,
        }
    }

    async fn close(&self, _grace: Duration) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_a_service_follows_its_reloads() {
    let scene = Scene::new();
    let (a, a2) = (("a", "faulty", 16 * MIB), ("a", "receiver", 16 * MIB));
    let Running { status, reloader, stop, running } = start(&scene, scene.setup(&[a])).await;
    assert_eq!(status.phase(), Phase::Ready);
    scene.publish("a").await;
    eventually(DEADLINE, "the first is handled", || acked(&status, 0) == 1).await;
    assert_eq!(started(&status), [("a".to_owned(), 1)]);

    let same = within("a reload", reloader.reload(scene.setup(&[a]))).await.unwrap();
    assert!(same.is_empty(), "{same}");
    assert_eq!(started(&status), [("a".to_owned(), 1)], "it goes on as it is");

    let bad = ("bad", "faulty", MIB / 16);
    let changes = within("a reload", reloader.reload(scene.setup(&[a2, bad]))).await.unwrap();
    assert_eq!(
        changes.to_string(),
        "component `a` replaced, component `bad` added, subscription `bad` added"
    );
    assert_eq!(started(&status), [("a".to_owned(), 0), ("bad".to_owned(), 0)]);
    scene.publish("a").await;
    scene.publish("bad").await;
    eventually(DEADLINE, "the next is handled", || acked(&status, 0) == 2).await;
    assert_eq!(started(&status)[0].1, 1, "in an instance of its own");
    eventually(DEADLINE, "the other fails", || status.components()[1].failing().is_some()).await;
    let failing = status.components()[1].failing().unwrap();
    assert!(failing.reason.contains("memory limit"), "{failing:?}");
    assert!(status.components()[0].failing().is_none());
    assert_eq!((acked(&status, 1), started(&status)[1].1), (0, 0));

    let good = ("bad", "faulty", 16 * MIB);
    within("a reload", reloader.reload(scene.setup(&[a2, good]))).await.unwrap();
    eventually(DEADLINE, "its event is handled after all", || acked(&status, 1) == 1).await;
    assert!(status.components()[1].failing().is_none());

    within("a reload", reloader.reload(scene.setup(&[good]))).await.unwrap();
    assert_eq!(started(&status), [("bad".to_owned(), 1)]);
    assert_eq!(status.subscriptions().len(), 1);
    stop.send(()).unwrap();
    assert!(within("the end", running).await.unwrap().is_ok());
    assert_eq!(status.phase(), Phase::Stopping);
    assert!(reloader.reload(scene.setup(&[good])).await.is_err(), "nothing runs any more");
}

/// What it leaves behind would fill up, and hold up who publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_moves_to_another_broker_leaves_nothing_behind() {
    let scene = Scene::new();
    let a = ("a", "faulty", 16 * MIB);
    let Running { status, reloader, stop, running } = start(&scene, scene.setup(&[a])).await;
    scene.publish("a").await;
    eventually(DEADLINE, "the first is handled", || acked(&status, 0) == 1).await;
    let mut moved = scene.setup(&[a]);
    moved.subscriptions[0].broker = 1;
    within("a reload", reloader.reload(moved)).await.unwrap();
    for _ in 0..10 {
        scene.publish("a").await;
    }
    assert_eq!(acked(&status, 0), 0, "nobody listens there any more");
    scene.publish_to(&scene.other, "a").await;
    eventually(DEADLINE, "the next is handled", || acked(&status, 0) == 1).await;
    stop.send(()).unwrap();
    assert!(within("the end", running).await.unwrap().is_ok());
}

/// A component that waits only because another one's broker is not reached has
/// nothing to be replaced for, and begins all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_leaves_as_it_is_begins_when_the_rest_is_mended() {
    let (a, b) = (("a", "faulty", 16 * MIB), ("b", "faulty", 16 * MIB));
    for is_removed in [false, true] {
        let scene = Scene::new();
        let mut wrong = scene.setup(&[a, b]);
        let way = Way::to(&memory::open_with(memory::Settings::default()));
        wrong.brokers[1] = Way { is_wrong: true, ..way }.open();
        wrong.subscriptions[1].broker = 1;
        let mut mended = scene.setup(&[a, b][..if is_removed { 1 } else { 2 }]);
        mended.subscriptions.iter_mut().skip(1).for_each(|s| s.broker = 1);

        let (Running { status, reloader, stop, running }, mut is_ready) = begin(&scene, wrong);
        let is_open = || status.subscriptions()[0].subscription().is_some();
        eventually(DEADLINE, "the first is open", is_open).await;
        scene.publish("a").await;
        assert!(is_ready.try_recv().is_err());
        let changes = within("a reload", reloader.reload(mended)).await.unwrap().to_string();
        assert!(!changes.contains("`a`"), "{changes}");
        within("the service to be ready", is_ready).await.unwrap();
        eventually(DEADLINE, "the first is handled", || acked(&status, 0) == 1).await;
        if !is_removed {
            scene.publish_to(&scene.other, "b").await;
            eventually(DEADLINE, "the next is handled", || acked(&status, 1) == 1).await;
        }
        stop.send(()).unwrap();
        assert!(within("the end", running).await.unwrap().is_ok());
    }
}

/// Reloads while events wait for `a`, which is refused, and expects them all.
async fn a_refused_reload_loses_nothing(scene: &Scene, first: Setup, refused: Setup) {
    const COUNT: u64 = 6;
    let broker = Arc::clone(&first.brokers[0]);
    let Running { status, reloader, stop, running } = start(scene, first).await;
    let before = status.subscriptions()[0].subscription().unwrap();
    for _ in 0..COUNT {
        scene.publish_step(&broker, "a", "sleep 100").await;
    }
    assert!(within("a reload", reloader.reload(refused)).await.is_err());
    let acked = || {
        let now = status.subscriptions()[0].subscription();
        let again = now.filter(|now| !Arc::ptr_eq(now, &before)).map_or(0, |s| s.stats().acked);
        before.stats().acked + again
    };
    assert!(acked() < COUNT, "something has waited meanwhile");
    eventually(DEADLINE, "all are handled", || acked() == COUNT).await;
    eventually(DEADLINE, "it is ready again", || status.phase() == Phase::Ready).await;
    stop.send(()).unwrap();
    assert!(within("the end", running).await.unwrap().is_ok());
}

/// The first subscription has been taken over by the time the second is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_refuses_who_comes_in_another_way_keeps_what_it_has() {
    let scene = Scene::new();
    let components = [("a", "faulty", 16 * MIB), ("b", "faulty", 16 * MIB)];
    let (mut first, mut refused) = (scene.setup(&components), scene.setup(&components));
    let server = memory::open_with(memory::Settings::default());
    first.brokers = vec![Way::to(&server).open()];
    refused.brokers = vec![Way { refuses: Some("b"), ..Way::to(&server) }.open()];
    a_refused_reload_loses_nothing(&scene, first, refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_cannot_move_to_another_broker_stays_with_what_it_has() {
    let scene = Scene::new();
    let a = [("a", "faulty", 16 * MIB)];
    let (mut first, mut refused) = (scene.setup(&a), scene.setup(&a));
    let server = memory::open_with(memory::Settings::default());
    let elsewhere = Way::to(&memory::open_with(memory::Settings::default()));
    first.brokers = vec![Way::to(&server).open()];
    let elsewhere = Way { refuses: Some("a"), ..elsewhere }.open();
    refused.brokers = vec![Arc::clone(&first.brokers[0]), elsewhere];
    refused.subscriptions[0].broker = 1;
    a_refused_reload_loses_nothing(&scene, first, refused).await;
}

#[tokio::test]
async fn a_service_that_nobody_can_reload_any_more_ends_with_its_last_task() {
    let scene = Scene::new();
    let service = Service::new(&scene.host, scene.setup(&[])).unwrap();
    let (reloader, reloads) = Reloads::channel(true);
    drop(reloader);
    let ended = service.run_reloading(std::future::pending(), || {}, reloads);
    assert!(within("the end", ended).await.is_ok());
}
