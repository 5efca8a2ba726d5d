//! Makes brokers keep dead letters that nobody is there to take.
//!
//! A broker such as MQTT's stores nothing on a topic by itself. So each
//! dead-letter topic gets a session at its broker, which collects what is
//! published there while nobody is connected. It is made when the broker is
//! first reached, and no letter is published before it is there.
//!
//! A broker inside the process that outlives it has a subscription instead, which
//! takes nothing.

use super::places::client_id;
use crate::broker::driver::{Connection, Features, Ready, Source, SubscribeRequest};
use crate::broker::{
    BrokerError, Budget, Event, Qos, RetentionRule, Share, StoreBounds, Topic, TopicFilter,
};
use crate::config::ConnectionSettings;
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a session counts as being there. A broker that keeps nothing on
/// disk forgets it when it restarts.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a letter waits for its session. Shorter than the time that the core
/// gives a letter, so that the reason is told.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the farewell of a session may take.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// The connection of a broker, with sessions that keep dead letters.
pub(in crate::cli) struct Keeping {
    inner: Arc<dyn Connection>,
    settings: Arc<dyn ConnectionSettings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Vec<Arc<Kept>>,
    /// The broker was reached.
    reached: bool,
}

impl Keeping {
    /// A connection that keeps the dead letters of these topics.
    pub(in crate::cli) fn new(
        inner: Arc<dyn Connection>,
        settings: Arc<dyn ConnectionSettings>,
        topics: Vec<Topic>,
    ) -> Arc<Self> {
        let keeping = Self { inner, settings, state: Mutex::default() };
        keeping.keep(topics);
        Arc::new(keeping)
    }

    /// Keeps the dead letters of these topics, instead of those before. What was
    /// collected stays at the broker.
    pub(in crate::cli) fn keep(&self, topics: Vec<Topic>) {
        let mut state = self.state.lock();
        let mut before = std::mem::take(&mut state.kept);
        for topic in topics {
            if state.kept.iter().any(|kept| kept.topic == topic) {
                continue;
            }
            let known = before.iter().position(|kept| kept.topic == topic);
            let kept = known.map(|index| before.swap_remove(index)).unwrap_or_else(|| {
                let settings = Arc::clone(&self.settings);
                let inner = settings.outlives_process().then(|| Arc::clone(&self.inner));
                Arc::new(Kept { topic, settings, inner, made: Mutex::default() })
            });
            if state.reached {
                let _under_way = kept.begin();
            }
            state.kept.push(kept);
        }
    }

    /// As [`keep`](Self::keep), beside those before: for a version that may be
    /// refused.
    pub(in crate::cli) fn keep_also(&self, topics: &[Topic]) {
        let before = self.state.lock().kept.iter().map(|kept| kept.topic.clone()).collect();
        self.keep([before, topics.to_vec()].concat());
    }

    fn find(&self, topic: &Topic) -> Option<Arc<Kept>> {
        self.state.lock().kept.iter().find(|kept| kept.topic == *topic).cloned()
    }
}

/// One topic, and its session.
struct Kept {
    topic: Topic,
    settings: Arc<dyn ConnectionSettings>,
    /// The connection that has the subscription, where no session is needed.
    inner: Option<Arc<dyn Connection>>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// A session was there once.
    once: bool,
    /// The latest making of one; its result is when it ended.
    latest: Option<Shared<BoxFuture<'static, Instant>>>,
    /// What has a subscriber is kept for ever.
    source: Option<Arc<dyn Source>>,
}

impl Kept {
    /// Begins to make the session, unless that is under way or was done lately.
    fn begin(self: &Arc<Self>) -> (bool, Shared<BoxFuture<'static, Instant>>) {
        let mut made = self.made.lock();
        let is_old = |latest: &Shared<BoxFuture<'static, Instant>>| {
            latest.clone().now_or_never().is_some_and(|ended| ended.elapsed() > KNOWN_FOR)
        };
        let latest = match made.latest.take().filter(|latest| !is_old(latest)) {
            Some(latest) => latest,
            None => {
                let this = Arc::clone(self);
                // A task: who waits for it gives up after some seconds.
                let task = tokio::spawn(async move {
                    this.make().await;
                    Instant::now()
                });
                async move { task.await.unwrap_or_else(|_| Instant::now()) }.boxed().shared()
            }
        };
        made.latest = Some(latest.clone());
        (made.once, latest)
    }

    /// Waits for the session. One that was there once is most likely still there,
    /// and letters do not wait for it without end.
    async fn ensure(self: &Arc<Self>) -> Result<(), BrokerError> {
        let (once, latest) = self.begin();
        match tokio::time::timeout(PATIENCE, latest).await {
            Err(_) if !once => Err(BrokerError::Unavailable(format!(
                "the session that keeps the dead letters of `{}` is not there yet",
                self.topic
            ))),
            _ => Ok(()),
        }
    }

    /// Makes the session, however long the broker is away.
    async fn make(&self) {
        if let Some(inner) = &self.inner {
            return self.subscribe_here(&**inner).await;
        }
        let result = match self.settings.open_kept(&client_id(&self.topic)) {
            None => return,
            Some(Err(error)) => Err(error),
            Some(Ok(connection)) => {
                let result = subscribe(&*connection, &self.topic).await.map(drop);
                connection.close(CLOSE_GRACE).await;
                result
            }
        };
        self.report(result);
    }

    /// Subscribes once, and stays subscribed.
    async fn subscribe_here(&self, inner: &dyn Connection) {
        if self.made.lock().source.is_some() {
            return;
        }
        let result = subscribe(inner, &self.topic).await;
        self.report(result.map(|source| self.made.lock().source = Some(source)));
    }

    fn report(&self, result: Result<(), BrokerError>) {
        match result {
            // Another program has the session right now: it is there.
            Ok(()) | Err(BrokerError::Closed(_)) => self.made.lock().once = true,
            Err(error) => tracing::warn!(
                broker = self.settings.describe(),
                topic = %self.topic,
                "dead letters are published, but not kept for `wasi-pubsub dead`: {error}"
            ),
        }
    }
}

async fn subscribe(
    connection: &dyn Connection,
    topic: &Topic,
) -> Result<Arc<dyn Source>, BrokerError> {
    let filter = TopicFilter::new(topic.as_str())
        .map_err(|error| BrokerError::InvalidTopic(error.to_string()))?;
    let request = SubscribeRequest {
        label: client_id(topic),
        filter,
        group: None,
        qos: Qos::AtLeastOnce,
        order: crate::broker::Order::None,
        event_filter: None,
        start: crate::broker::Start::New,
        is_temporary: false,
        share: Share::new(&Budget::unbounded()),
        // What the session has collected stays in it.
        max_in_flight: 1,
        max_in_flight_bytes: 1,
        group_max_in_flight: None,
        backlog_bound: None,
        not_from: None,
        ready: Ready(Arc::new(|| {})),
    };
    connection.subscribe(request).await
}

#[async_trait]
impl Connection for Keeping {
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
        self.inner.publish(topic, event, qos, from).await
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        if let Some(kept) = self.find(topic) {
            kept.ensure().await?;
        }
        self.inner.publish_dead_letter(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        let source = self.inner.subscribe(request).await?;
        // Not before the broker was reached: one outage is one line in the log.
        let mut state = self.state.lock();
        state.reached = true;
        for kept in &state.kept {
            let _under_way = kept.begin();
        }
        drop(state);
        Ok(source)
    }

    fn set_retention(&self, rules: Vec<RetentionRule>) {
        self.inner.set_retention(rules);
    }

    fn set_store_bounds(&self, bounds: StoreBounds) {
        self.inner.set_store_bounds(bounds);
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}
