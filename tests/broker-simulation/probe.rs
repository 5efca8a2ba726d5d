//! Between the broker and its storage: tells the model what passes, counts what is
//! under way, and is where a process ends: nothing passes any more.

use crate::disk::{Awaited, Still};
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
    /// Whether threads work for it, which the clock does not know of.
    has_threads: bool,
}

impl Traffic {
    pub(crate) fn new(has_threads: bool) -> Self {
        Self { has_threads, ..Self::default() }
    }

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
struct UnderWay {
    traffic: Arc<Traffic>,
    _still: Option<Still>,
}

impl UnderWay {
    fn new(traffic: &Arc<Traffic>) -> Self {
        traffic.under_way.fetch_add(1, Ordering::SeqCst);
        let _still = traffic.has_threads.then(Still::new);
        Self { traffic: traffic.clone(), _still }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.traffic.under_way.fetch_sub(1, Ordering::SeqCst);
        self.traffic.changed.notify_waiters();
        self.traffic.changed.notify_one();
    }
}

/// See the head of this file.
pub(crate) struct Probe {
    pub(crate) inner: Mutex<Option<Arc<dyn Storage>>>,
    pub(crate) holds_backlog: bool,
    pub(crate) model: Shared,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) plant: Option<Plant>,
    pub(crate) count: AtomicU64,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Probe {
    /// The storage, as long as the process is there.
    fn inner(&self) -> Option<Arc<dyn Storage>> {
        if self.traffic.is_cut() {
            return None;
        }
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the storage go, which nobody gets from here any more.
    pub(crate) fn end(&self) -> Option<Arc<dyn Storage>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a planted fault shows this time: every so many times.
    fn shows(&self, plant: Plant, each: u64) -> bool {
        self.plant == Some(plant) && self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(each)
    }

    /// The storage; never, where the process has ended.
    async fn living(&self) -> Arc<dyn Storage> {
        match self.inner() {
            Some(inner) => inner,
            None => std::future::pending().await,
        }
    }

    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        let _under_way = UnderWay::new(&self.traffic);
        asked.await
    }

    fn append_with(
        &self,
        inner: &dyn Storage,
        publish: Option<Publish>,
        mut publication: Publication,
    ) -> Appended {
        let (is_kept, time) = (publication.is_kept, (self.clock)());
        if self.shows(Plant::KeepsTooLittle, 5) {
            publication.is_kept = false;
        }
        if self.plant == Some(Plant::ForgetsWhatWasPublished) {
            publication.once = None;
        }
        let appended = match self.shows(Plant::LosesEvents, 9) {
            false => inner.append(publication),
            true => {
                drop(publication);
                Appended::Now(inner.last_number() + 1, Notices::default())
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
        self.holds_backlog
    }

    fn load(&self) -> Result<Contents, StorageError> {
        let Some(inner) = self.inner() else { return Ok(Contents::default()) };
        let mut contents = inner.load()?;
        if let Some(plant) = self.plant {
            plant.load(&mut contents);
        }
        Ok(contents)
    }

    fn append(&self, publication: Publication) -> Appended {
        let Some(inner) = self.inner() else {
            let (forgotten, never) = oneshot::channel();
            std::mem::forget(forgotten);
            drop(publication);
            return Appended::Later(never);
        };
        let publish = publish_of(&publication.event);
        let answer = match self.append_with(&*inner, publish, publication) {
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
        self.inner().map_or(0, |inner| inner.last_number())
    }

    fn durable_number(&self) -> u64 {
        self.inner().map_or(0, |inner| inner.durable_number())
    }

    async fn count(&self, filter: &TopicFilter, from: u64) -> Result<u64, StorageError> {
        self.ask(self.living().await.count(filter, from)).await
    }

    fn fetch(&self, fetch: Fetch, reply: FetchReply) {
        let Some(inner) = self.inner() else { return };
        let under_way = UnderWay::new(&self.traffic);
        let (traffic, plant) = (self.traffic.clone(), self.plant);
        let each = self.count.fetch_add(1, Ordering::Relaxed);
        let reply = move |mut page| {
            if let (Some(plant), Ok(page)) = (plant, &mut page) {
                plant.page(page, each);
            }
            if !traffic.is_cut() {
                reply(page);
            }
            drop(under_way);
        };
        inner.fetch(fetch, Box::new(reply));
    }

    async fn number_at(&self, time: SystemTime) -> Result<u64, StorageError> {
        let number = self.ask(self.living().await.number_at(time)).await?;
        Ok(number + u64::from(self.plant == Some(Plant::MissesTheTime)))
    }

    fn progressed(&self, subscription: &Arc<dyn Progress>, soon: bool) {
        let Some(inner) = self.inner() else { return };
        let subscription = match self.plant {
            Some(plant) => plant.progress(subscription.clone()),
            None => subscription.clone(),
        };
        if soon && self.traffic.has_threads {
            let held = Mutex::new(Some(UnderWay::new(&self.traffic)));
            let awaited: Arc<dyn Progress> = Arc::new(Awaited { inner: subscription, held });
            return inner.progressed(&awaited, soon);
        }
        inner.progressed(&subscription, soon);
    }

    async fn put_subscription(&self, subscription: SubscriptionRecord) -> Result<(), StorageError> {
        self.ask(self.living().await.put_subscription(subscription)).await
    }

    async fn set_position(&self, id: u64, mut position: Position) -> Result<(), StorageError> {
        if self.plant == Some(Plant::SeeksWithoutKeeping) {
            return Ok(());
        }
        if self.plant == Some(Plant::SeeksWithoutTheOpen) {
            position.open.clear();
        }
        self.ask(self.living().await.set_position(id, position)).await
    }

    async fn remove_subscription(&self, id: u64) -> Result<(), StorageError> {
        if self.plant == Some(Plant::KeepsWhatIsRemoved) {
            return Ok(());
        }
        self.ask(self.living().await.remove_subscription(id)).await
    }

    async fn put_snapshot(&self, snapshot: SnapshotRecord) -> Result<(), StorageError> {
        self.ask(self.living().await.put_snapshot(snapshot)).await
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), StorageError> {
        self.ask(self.living().await.remove_snapshot(name)).await
    }

    async fn topics(&self) -> Result<Vec<TopicStats>, StorageError> {
        self.ask(self.living().await.topics()).await
    }

    async fn trim(&self, mut trim: Trim) -> Result<Trimmed, StorageError> {
        if let Some(plant) = self.plant {
            plant.trim(&mut trim);
        }
        self.ask(self.living().await.trim(trim)).await
    }

    async fn close(&self) {
        let _under_way = UnderWay::new(&self.traffic);
        if let Some(inner) = self.inner() {
            inner.close().await;
        }
    }
}
