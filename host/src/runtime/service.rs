//! Everything that one `run` runs, from its start to its end.

use super::code::Code;
use super::command;
use super::component::{Component, ComponentSettings};
use super::engine::Host;
use super::inbox::{Ends, Inbox};
use super::output::Output;
use super::status::{Status, SubscriptionStatus};
use super::worker::Worker;
use crate::broker::{Broker, BrokerError, Qos, Subscription, SubscriptionSettings, Topic};
use crate::capability::{Links, Observer, Observers, Route};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where a component may publish.
pub trait Grants: Send + Sync + 'static {
    /// What a topic, as the component wrote it, stands for.
    ///
    /// # Errors
    /// `InvalidTopic` or `Denied`.
    fn route(&self, topic: &str) -> Result<Grant, BrokerError>;
}

/// One grant, found for one topic.
pub struct Grant {
    /// Which of [`Setup::brokers`].
    pub broker: usize,
    /// The topic there.
    pub topic: Topic,
    /// The quality of service.
    pub qos: Qos,
    /// How long to wait for the broker.
    pub timeout: Duration,
}

/// A component to run.
pub struct ComponentSetup {
    /// Its name, unique.
    pub name: String,
    /// Its code.
    pub code: Code,
    /// Its limits and what of WASI it may use.
    pub settings: ComponentSettings,
    /// Where it may publish.
    pub grants: Arc<dyn Grants>,
    /// What it may pull from: names, and which of [`Setup::subscriptions`] each means.
    pub pulls: HashMap<String, usize>,
}

/// A subscription to open.
pub struct SubscriptionSetup {
    /// Which of [`Setup::brokers`].
    pub broker: usize,
    /// What to subscribe to, and how.
    pub settings: SubscriptionSettings,
    /// Whether the host pushes its events to the members' handlers.
    pub push: bool,
    /// Which of [`Setup::components`] share it.
    pub members: Vec<usize>,
}

/// Everything to run.
pub struct Setup {
    /// The brokers.
    pub brokers: Vec<Arc<Broker>>,
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionSetup>,
    /// The components.
    pub components: Vec<ComponentSetup>,
    /// How long what is in flight may take when the service stops.
    pub drain: Duration,
    /// Where guests' output goes.
    pub output: Output,
    /// Who is told what the components do.
    pub observers: Vec<Arc<dyn Observer>>,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A component cannot be linked.
    #[error("component `{component}`: {reason}")]
    Component {
        /// Its name.
        component: String,
        /// Why.
        reason: String,
    },
}

/// How a service ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The commands that failed.
    pub failed: Vec<String>,
    /// The subscriptions that a broker refused or ended, with its reason.
    pub ended: Vec<String>,
    /// Whether something was still in flight when the drain time was over.
    pub cut_short: bool,
}

impl Outcome {
    /// Whether all went well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failed.is_empty() && self.ended.is_empty() && !self.cut_short
    }
}

/// A service that is ready to run.
pub struct Service {
    brokers: Vec<Arc<Broker>>,
    subscriptions: Arc<Vec<Opening>>,
    components: Vec<Arc<Component>>,
    drain: Duration,
    status: Arc<Status>,
}

/// A subscription that is open, or will be once its broker is reached.
struct Opening {
    setup: SubscriptionSetup,
    status: Arc<SubscriptionStatus>,
}

/// The links of one component.
struct ComponentLinks {
    name: String,
    grants: Arc<dyn Grants>,
    brokers: Vec<Arc<Broker>>,
    subscriptions: Arc<Vec<Opening>>,
    pulls: HashMap<String, usize>,
}

impl Links for ComponentLinks {
    fn component(&self) -> &str {
        &self.name
    }

    fn route(&self, topic: &str) -> Result<Route, BrokerError> {
        let Grant { broker, topic, qos, timeout } = self.grants.route(topic)?;
        Ok(Route { broker: Arc::clone(&self.brokers[broker]), topic, qos, timeout })
    }

    fn subscription(&self, name: &str) -> Option<Arc<Subscription>> {
        let index = *self.pulls.get(name)?;
        self.subscriptions[index].status.subscription().cloned()
    }
}

impl Service {
    /// Links every component. Opens nothing and runs nothing yet.
    ///
    /// # Errors
    /// A component does not fit.
    pub fn new(host: &Host, setup: Setup) -> Result<Self, StartError> {
        let observers = Observers::new(setup.observers);
        let names: Vec<_> = setup.components.iter().map(|part| part.name.clone()).collect();
        let opening = |part: SubscriptionSetup| Opening {
            status: Arc::new(SubscriptionStatus {
                name: part.settings.name.clone(),
                label: part.settings.label.clone(),
                broker: setup.brokers[part.broker].name().to_owned(),
                members: part.members.iter().map(|&index| names[index].clone()).collect(),
                open: OnceLock::new(),
            }),
            setup: part,
        };
        let subscriptions: Arc<Vec<Opening>> =
            Arc::new(setup.subscriptions.into_iter().map(opening).collect());
        let link = |part: ComponentSetup| {
            let links = ComponentLinks {
                name: part.name.clone(),
                grants: part.grants,
                brokers: setup.brokers.clone(),
                subscriptions: Arc::clone(&subscriptions),
                pulls: part.pulls,
            };
            let (links, output) = (Arc::new(links), setup.output.clone());
            Component::new(host, &part.code, part.settings, links, output, observers.clone())
                .map(Arc::new)
                .map_err(|error| StartError::Component {
                    component: part.name,
                    reason: format!("{error:#}"),
                })
        };
        let components: Vec<Arc<Component>> =
            setup.components.into_iter().map(link).collect::<Result<_, _>>()?;
        let status = Arc::<Status>::default();
        status.set_components(components.iter().map(|c| Arc::clone(&c.status)).collect());
        status.set_subscriptions(subscriptions.iter().map(|s| Arc::clone(&s.status)).collect());
        Ok(Self { brokers: setup.brokers, subscriptions, components, drain: setup.drain, status })
    }

    /// What is known of it while it runs.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Runs until `stop` resolves, or until nothing is left to run; then drains.
    /// Calls `ready` once every subscription is confirmed by its broker.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce() + Send + 'static,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut tasks = Tasks::start(&self, ready);
        tokio::select! {
            () = stop => {}
            () = tasks.ended(&mut outcome) => {}
        }
        self.drain(tasks, &mut outcome).await;
        outcome
    }

    /// Takes nothing more, lets what is in flight finish within the drain time,
    /// and closes the connections after the last acknowledgement.
    async fn drain(&self, mut tasks: Tasks, outcome: &mut Outcome) {
        let deadline = Instant::now() + self.drain;
        self.status.stopping();
        tasks.opening.abort_all();
        tasks.opened.close();
        tasks.ends.stopping();
        let open: Vec<_> =
            self.subscriptions.iter().filter_map(|s| s.status.subscription()).collect();
        for subscription in &open {
            subscription.stop();
        }
        let finish = async {
            tasks.ended(outcome).await;
            join_all(open.iter().map(|subscription| subscription.drained())).await;
        };
        if tokio::time::timeout_at(deadline, finish).await.is_err() {
            outcome.cut_short = true;
            tracing::warn!(
                "the drain time of {:?} is over; what is in flight goes back",
                self.drain
            );
        }
        outcome.ended.extend(tasks.ends.found());
        tasks.abort().await;
        let grace = deadline.saturating_duration_since(Instant::now()).max(CLOSE_GRACE_MIN);
        join_all(self.brokers.iter().map(|broker| broker.close(grace))).await;
    }
}

/// The least time that a connection gets for its last acknowledgements.
const CLOSE_GRACE_MIN: Duration = Duration::from_millis(500);

/// What runs: the tasks that open subscriptions, and those of the components.
struct Tasks {
    opening: JoinSet<Result<(), String>>,
    running: JoinSet<Result<(), String>>,
    /// One permit for each open subscription; closed when the service stops.
    opened: Arc<Semaphore>,
    ends: Arc<Ends>,
}

impl Tasks {
    fn start(service: &Service, ready: impl FnOnce() + Send + 'static) -> Self {
        let opened = Arc::new(Semaphore::new(0));
        let mut tasks = Self {
            opening: JoinSet::new(),
            running: JoinSet::new(),
            opened: Arc::clone(&opened),
            ends: Arc::default(),
        };
        for index in 0..service.subscriptions.len() {
            let subscriptions = Arc::clone(&service.subscriptions);
            let broker = Arc::clone(&service.brokers[subscriptions[index].setup.broker]);
            let opened = Arc::clone(&opened);
            tasks.opening.spawn(async move { open(&subscriptions[index], &broker, &opened).await });
        }
        let gate = Gate::new(service, &opened);
        let status = Arc::clone(&service.status);
        tasks.announce(gate.clone(), move || {
            status.ready();
            ready();
        });
        for (index, component) in service.components.iter().enumerate() {
            if let Some(export) = component.command {
                let (component, gate) = (Arc::clone(component), gate.clone());
                tasks.running.spawn(async move {
                    // A command may publish at once: who listens must be there.
                    if !gate.all_open().await {
                        return Ok(());
                    }
                    command::run(&component, export).await.map_err(|reason| {
                        tracing::error!(component = %component.name, "command failed: {reason}");
                        component.name.clone()
                    })
                });
            }
            if component.handler.is_some() {
                let (component, gate) = (Arc::clone(component), gate.clone());
                let ends = Arc::clone(&tasks.ends);
                tasks.running.spawn(async move {
                    serve(component, index, gate, ends).await;
                    Ok(())
                });
            }
        }
        tasks
    }

    fn announce(&mut self, gate: Gate, ready: impl FnOnce() + Send + 'static) {
        self.opening.spawn(async move {
            if gate.all_open().await {
                ready();
            }
            Ok(())
        });
    }

    /// Waits until nothing runs any more: all commands have ended, and all
    /// subscriptions of handlers. Without either there is nothing to wait for.
    async fn ended(&mut self, outcome: &mut Outcome) {
        loop {
            tokio::select! {
                Some(ended) = self.opening.join_next() => {
                    if let Ok(Err(reason)) = ended {
                        outcome.ended.push(reason);
                        return;
                    }
                }
                ended = self.running.join_next() => match ended {
                    Some(Ok(Err(name))) => outcome.failed.push(name),
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    async fn abort(&mut self) {
        self.opening.shutdown().await;
        self.running.shutdown().await;
    }
}

async fn open(opening: &Opening, broker: &Arc<Broker>, opened: &Semaphore) -> Result<(), String> {
    let settings = &opening.setup.settings;
    match broker.subscribe(settings.clone()).await {
        Ok(subscription) => {
            let _ = opening.status.open.set(subscription);
            opened.add_permits(1);
            Ok(())
        }
        Err(error) => {
            tracing::error!(
                broker = broker.name(),
                "cannot subscribe to `{}`: {error}",
                settings.name
            );
            Err(format!("{}: {error}", settings.name))
        }
    }
}

/// Lets components wait for the subscriptions.
#[derive(Clone)]
struct Gate {
    subscriptions: Arc<Vec<Opening>>,
    opened: Arc<Semaphore>,
}

impl Gate {
    fn new(service: &Service, opened: &Arc<Semaphore>) -> Self {
        Self { subscriptions: Arc::clone(&service.subscriptions), opened: Arc::clone(opened) }
    }

    /// Waits until all are open; `false` where the service stops before.
    async fn all_open(&self) -> bool {
        let all = u32::try_from(self.subscriptions.len()).unwrap_or(u32::MAX);
        self.opened.acquire_many(all).await.is_ok()
    }
}

/// The workers of a component's handler, from the moment that its subscriptions
/// are open until they end.
async fn serve(component: Arc<Component>, index: usize, gate: Gate, ends: Arc<Ends>) {
    if !gate.all_open().await {
        return;
    }
    let pushed: Vec<_> = gate
        .subscriptions
        .iter()
        .filter(|opening| opening.setup.push && opening.setup.members.contains(&index))
        .filter_map(|opening| opening.status.subscription().cloned())
        .collect();
    let Some(export) = component.handler.filter(|_| !pushed.is_empty()) else { return };
    let mut workers = JoinSet::new();
    for _ in 0..component.settings.instances {
        let worker = Worker {
            component: Arc::clone(&component),
            export,
            inbox: Inbox::new(pushed.clone(), Arc::clone(&ends)),
        };
        workers.spawn(worker.serve());
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(component = %component.name, "a worker panicked: {error}");
        }
    }
}
