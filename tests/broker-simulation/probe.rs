//! Between the broker and its storage: tells the model what passes, counts what is
//! under way, and is where a process ends: nothing passes any more.

use crate::model::{Model, Publish, publish_of};
use crate::plants::Plant;
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{Notify, oneshot};
use wasi_pubsub::broker::TopicFilter;
use wasi_pubsub::builtin::storage::{
    Appended, Contents, Fetch, FetchReply, Position, Progress, SnapshotRecord, Storage,
    StorageError, SubscriptionRecord, TopicStats, Trim, Trimmed,
};
use wasi_pubsub::builtin::{Notices, Publication};

/// The model, shared with all that tell it something.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<Model>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is under way between the broker and its storage.
#[derive(Default)]
pub(crate) struct Traffic {
    under_way: AtomicUsize,
    changed: Notify,
    is_cut: AtomicBool,
}

impl Traffic {
    /// From now on nothing passes any more: the process has ended.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Waits until nothing is under way and nobody has anything to do.
    pub(crate) async fn rest(&self) {
        const TURNS: usize = 24;
        loop {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.under_way.load(Ordering::SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// Something is under way as long as this is there.
struct UnderWay(Arc<Traffic>);

impl UnderWay {
    fn new(traffic: &Arc<Traffic>) -> Self {
        traffic.under_way.fetch_add(1, Ordering::SeqCst);
        Self(traffic.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
        self.0.changed.notify_one();
    }
}

/// See the head of this file.
pub(crate) struct Probe {
    pub(crate) inner: Arc<dyn Storage>,
    pub(crate) model: Shared,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) plant: Option<Plant>,
    pub(crate) count: AtomicU64,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Probe {
    /// Whether a planted fault shows this time: every so many times.
    fn shows(&self, plant: Plant, each: u64) -> bool {
        self.plant == Some(plant) && self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(each)
    }

    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        if self.traffic.is_cut() {
            std::future::pending::<()>().await;
        }
        let _under_way = UnderWay::new(&self.traffic);
        asked.await
    }

    fn append_with(&self, publish: Option<Publish>, mut publication: Publication) -> Appended {
        let (is_kept, time) = (publication.is_kept, (self.clock)());
        if self.shows(Plant::KeepsTooLittle, 5) {
            publication.is_kept = false;
        }
        if self.plant == Some(Plant::ForgetsWhatWasPublished) {
            publication.once = None;
        }
        let appended = match self.shows(Plant::LosesEvents, 9) {
            false => self.inner.append(publication),
            true => {
                drop(publication);
                Appended::Now(self.inner.last_number() + 1, Notices::default())
            }
        };
        let Some(publish) = publish else { return appended };
        match &appended {
            Appended::Full(_) => {}
            Appended::Now(number, _) => {
                let mut model = self.model.lock();
                model.handed(publish, is_kept, time);
                model.stored(publish, Some(*number));
            }
            Appended::Later(_) => self.model.lock().handed(publish, is_kept, time),
        }
        appended
    }
}

#[async_trait]
impl Storage for Probe {
    fn holds_backlog(&self) -> bool {
        self.inner.holds_backlog()
    }

    fn load(&self) -> Result<Contents, StorageError> {
        let mut contents = self.inner.load()?;
        if let Some(plant) = self.plant {
            plant.load(&mut contents);
        }
        Ok(contents)
    }

    fn append(&self, publication: Publication) -> Appended {
        if self.traffic.is_cut() {
            let (forgotten, never) = oneshot::channel();
            std::mem::forget(forgotten);
            drop(publication);
            return Appended::Later(never);
        }
        let publish = publish_of(&publication.event);
        let answer = match self.append_with(publish, publication) {
            Appended::Later(answer) => answer,
            other => return other,
        };
        let (reply, passed_on) = oneshot::channel();
        let (model, traffic) = (self.model.clone(), self.traffic.clone());
        let under_way = UnderWay::new(&traffic);
        tokio::spawn(async move {
            let answer = answer.await;
            if traffic.is_cut() {
                // Whoever waits has ended too.
                return std::mem::forget(reply);
            }
            if let Some(publish) = publish {
                let number = answer.as_ref().ok().and_then(|answer| answer.as_ref().ok());
                model.lock().stored(publish, number.copied());
            }
            if let Ok(answer) = answer {
                let _gone = reply.send(answer);
            }
            drop(under_way);
        });
        Appended::Later(passed_on)
    }

    fn last_number(&self) -> u64 {
        self.inner.last_number()
    }

    fn durable_number(&self) -> u64 {
        self.inner.durable_number()
    }

    async fn count(&self, filter: &TopicFilter, from: u64) -> Result<u64, StorageError> {
        self.ask(self.inner.count(filter, from)).await
    }

    fn fetch(&self, mut fetch: Fetch, reply: FetchReply) {
        if self.traffic.is_cut() {
            return;
        }
        let under_way = UnderWay::new(&self.traffic);
        let (traffic, plant) = (self.traffic.clone(), self.plant);
        let each = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(plant) = plant {
            plant.fetch(&mut fetch);
        }
        let reply = move |mut page| {
            if let (Some(plant), Ok(page)) = (plant, &mut page) {
                plant.page(page, each);
            }
            if !traffic.is_cut() {
                reply(page);
            }
            drop(under_way);
        };
        self.inner.fetch(fetch, Box::new(reply));
    }

    async fn number_at(&self, time: SystemTime) -> Result<u64, StorageError> {
        let number = self.ask(self.inner.number_at(time)).await?;
        Ok(number + u64::from(self.plant == Some(Plant::MissesTheTime)))
    }

    fn progressed(&self, subscription: &Arc<dyn Progress>, soon: bool) {
        if self.traffic.is_cut() {
            return;
        }
        let subscription = match self.plant {
            Some(plant) => plant.progress(subscription.clone()),
            None => subscription.clone(),
        };
        self.inner.progressed(&subscription, soon);
    }

    async fn put_subscription(&self, subscription: SubscriptionRecord) -> Result<(), StorageError> {
        self.ask(self.inner.put_subscription(subscription)).await
    }

    async fn set_position(&self, id: u64, mut position: Position) -> Result<(), StorageError> {
        if self.plant == Some(Plant::SeeksWithoutKeeping) {
            return Ok(());
        }
        if self.plant == Some(Plant::SeeksWithoutTheOpen) {
            position.open.clear();
        }
        self.ask(self.inner.set_position(id, position)).await
    }

    async fn remove_subscription(&self, id: u64) -> Result<(), StorageError> {
        if self.plant == Some(Plant::KeepsWhatIsRemoved) {
            return Ok(());
        }
        self.ask(self.inner.remove_subscription(id)).await
    }

    async fn put_snapshot(&self, snapshot: SnapshotRecord) -> Result<(), StorageError> {
        self.ask(self.inner.put_snapshot(snapshot)).await
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), StorageError> {
        self.ask(self.inner.remove_snapshot(name)).await
    }

    async fn topics(&self) -> Result<Vec<TopicStats>, StorageError> {
        self.ask(self.inner.topics()).await
    }

    async fn trim(&self, mut trim: Trim) -> Result<Trimmed, StorageError> {
        if let Some(plant) = self.plant {
            plant.trim(&mut trim);
        }
        self.ask(self.inner.trim(trim)).await
    }

    async fn close(&self) {
        let _under_way = UnderWay::new(&self.traffic);
        if !self.traffic.is_cut() {
            self.inner.close().await;
        }
    }
}
