//! Makes brokers keep dead letters that nobody is there to take.
//!
//! A broker such as MQTT's stores nothing on a topic by itself. So each
//! dead-letter topic gets a session at its broker, which collects what is
//! published there while nobody is connected. It is made when the broker is
//! first reached, and no letter is published before it is there.

use super::places::client_id;
use crate::broker::driver::{Connection, Features, Ready, Source, SubscribeRequest};
use crate::broker::{BrokerError, Budget, Event, Qos, Share, Topic, TopicFilter};
use crate::config::ConnectionSettings;
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::{Mutex, RwLock};
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

/// The dead-letter topics of one broker that are kept.
#[derive(Clone)]
pub(in crate::cli) struct Keeper {
    settings: Arc<dyn ConnectionSettings>,
    kept: Arc<RwLock<Vec<Arc<Kept>>>>,
}

impl Keeper {
    /// Keeps nothing yet.
    pub(in crate::cli) fn new(settings: &Arc<dyn ConnectionSettings>) -> Self {
        Self { settings: Arc::clone(settings), kept: Arc::default() }
    }

    /// Keeps these topics as well. What was kept is kept until the process ends.
    pub(in crate::cli) fn keep(&self, topics: impl IntoIterator<Item = Topic>) {
        let mut kept = self.kept.write();
        for topic in topics {
            if kept.iter().all(|kept| kept.topic != topic) {
                let settings = Arc::clone(&self.settings);
                kept.push(Arc::new(Kept { topic, settings, made: Mutex::default() }));
            }
        }
    }

    /// The connection of the broker, with sessions that keep the dead letters. A
    /// broker inside the process has none.
    pub(in crate::cli) fn keeping(&self, inner: Arc<dyn Connection>) -> Arc<dyn Connection> {
        if !inner.features().network {
            return inner;
        }
        Arc::new(Keeping { inner, kept: Arc::clone(&self.kept) })
    }
}

struct Keeping {
    inner: Arc<dyn Connection>,
    kept: Arc<RwLock<Vec<Arc<Kept>>>>,
}

/// One topic, and its session.
struct Kept {
    topic: Topic,
    settings: Arc<dyn ConnectionSettings>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// A session was there once.
    once: bool,
    /// The latest making of one; its result is when it ended.
    latest: Option<Shared<BoxFuture<'static, Instant>>>,
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
        let result = match self.settings.open_kept(&client_id(&self.topic)) {
            None => return,
            Some(Err(error)) => Err(error),
            Some(Ok(connection)) => {
                let result = subscribe(&*connection, &self.topic).await;
                connection.close(CLOSE_GRACE).await;
                result
            }
        };
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

async fn subscribe(connection: &dyn Connection, topic: &Topic) -> Result<(), BrokerError> {
    let filter = TopicFilter::new(topic.as_str())
        .map_err(|error| BrokerError::InvalidTopic(error.to_string()))?;
    let request = SubscribeRequest {
        label: client_id(topic),
        filter,
        group: None,
        qos: Qos::AtLeastOnce,
        ordered: false,
        share: Share::new(&Budget::unbounded()),
        // What the session has collected stays in it.
        max_in_flight: 1,
        max_in_flight_bytes: 1,
        not_from: None,
        ready: Ready(Arc::new(|| {})),
    };
    connection.subscribe(request).await.map(drop)
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
        let kept = self.kept.read().iter().find(|kept| kept.topic == *topic).cloned();
        if let Some(kept) = kept {
            kept.ensure().await?;
        }
        self.inner.publish_dead_letter(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        let source = self.inner.subscribe(request).await?;
        // Not before the broker was reached: one outage is one line in the log.
        for kept in &*self.kept.read() {
            let _under_way = kept.begin();
        }
        Ok(source)
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}
