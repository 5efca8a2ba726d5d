//! What outlives the process: records of sessions and retained messages, written
//! with the broker's events.
//!
//! What is to be kept is noted, and one task writes what is noted, all of it at
//! once. Of each record only the newest state is noted, so that there is never more
//! of it than there is of sessions and retained messages, however often they change.

use super::retained::RetainedMessage;
use crate::broker::driver::{RecordChange, Records};
use crate::broker::{BrokerError, Topic};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

/// Retained messages, by topic.
pub(super) const RETAINED: u8 = 1;
/// Sessions, by their number.
pub(super) const SESSION: u8 = 2;
/// Their subscriptions, by the number of the session and the filter.
pub(super) const SUBSCRIPTION: u8 = 3;
/// What was received at qos 2 and not released, by number and packet identifier.
pub(super) const RECEIVED: u8 = 4;
/// What was sent at qos 2 and is not over, likewise.
pub(super) const SENT: u8 = 5;

/// How long after a failure it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How much of retained messages is written in one step, in bytes. One message may be
/// above it.
const STEP_BYTES: usize = 4 << 20;

/// Notes what is to be kept, and has it written.
pub(super) struct Archive {
    pub(super) records: Arc<dyn Records>,
    state: Mutex<State>,
    /// Something is noted.
    noted: Notify,
    progress: watch::Sender<Progress>,
    last_session: AtomicU64,
    /// What goes on beside, and has something to note at its end.
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// The newest state of each record that is not written.
    records: HashMap<(u8, Vec<u8>), Option<Vec<u8>>>,
    retained: HashMap<Topic, Option<Arc<RetainedMessage>>>,
    /// Retained messages that are removed, and whose removal is not written.
    removals: usize,
    /// How often something was noted.
    count: u64,
    is_closing: bool,
}

/// How far the writing is, in what [`State::count`] counts.
#[derive(Default)]
struct Progress {
    written: u64,
    failed: u64,
    error: Option<BrokerError>,
    is_over: bool,
}

/// Stands for something that was noted, to wait until it is written. The default is
/// nothing to wait for.
#[derive(Clone, Default)]
pub(super) struct Promise(Option<(Arc<Archive>, u64)>);

impl Archive {
    pub(super) fn new(records: Arc<dyn Records>) -> Arc<Self> {
        Arc::new(Self {
            records,
            state: Mutex::default(),
            noted: Notify::new(),
            progress: watch::Sender::default(),
            last_session: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// A number for a session, which no other one has or had.
    pub(super) fn next_session(&self) -> u64 {
        self.last_session.fetch_add(1, Relaxed) + 1
    }

    /// This number is taken.
    pub(super) fn know_session(&self, number: u64) {
        self.last_session.fetch_max(number, Relaxed);
    }

    /// Notes changes that belong together.
    pub(super) fn note(
        self: &Arc<Self>,
        changes: impl IntoIterator<Item = RecordChange>,
    ) -> Promise {
        let mut state = self.state.lock();
        for RecordChange { kind, key, value } in changes {
            state.records.insert((kind, key), value);
        }
        self.promise(&mut state)
    }

    /// Notes the retained message of a topic; `None`: it is removed.
    pub(super) fn note_retained(
        self: &Arc<Self>,
        topic: &Topic,
        message: Option<Arc<RetainedMessage>>,
    ) -> Promise {
        let mut state = self.state.lock();
        let is_removed = message.is_none();
        let before = state.retained.insert(topic.clone(), message);
        state.removals += usize::from(is_removed);
        state.removals -= usize::from(matches!(before, Some(None)));
        self.promise(&mut state)
    }

    fn promise(self: &Arc<Self>, state: &mut State) -> Promise {
        state.count += 1;
        self.noted.notify_one();
        Promise(Some((self.clone(), state.count)))
    }

    /// Everything that was noted so far.
    pub(super) fn all(self: &Arc<Self>) -> Promise {
        Promise(Some((self.clone(), self.state.lock().count)))
    }

    /// Whether something is noted of a topic's retained message.
    pub(super) fn has_retained(&self, topic: &Topic) -> bool {
        self.state.lock().retained.contains_key(topic)
    }

    /// How many retained messages take room because their removal is not written.
    pub(super) fn removals(&self) -> usize {
        self.state.lock().removals
    }

    /// Does something beside, before [`close`](Self::close) is over.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Writes what is noted, until the end.
    pub(super) async fn run(self: Arc<Self>) {
        let mut is_failing = false;
        loop {
            let is_closing = self.state.lock().is_closing;
            match self.write().await {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("sessions and retained messages of MQTT are kept again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "sessions and retained messages of MQTT cannot be kept");
                    }
                }
            }
            if is_closing {
                self.progress.send_modify(|progress| progress.is_over = true);
                return;
            }
            if is_failing {
                // Who closes does not wait for that.
                let _either = tokio::time::timeout(RETRY_AFTER, self.closing()).await;
            } else {
                self.noted.notified().await;
            }
        }
    }

    async fn closing(&self) {
        while !self.state.lock().is_closing {
            self.noted.notified().await;
        }
    }

    /// Has everything written that was noted, and ends; at most for this time.
    pub(super) async fn close(&self, grace: Duration) {
        let closed = async {
            self.tasks.close();
            self.tasks.wait().await;
            self.state.lock().is_closing = true;
            self.noted.notify_one();
            // The sender is here.
            let _ = self.progress.subscribe().wait_for(|progress| progress.is_over).await;
        };
        if tokio::time::timeout(grace, closed).await.is_err() {
            tracing::warn!("not all of the sessions and retained messages of MQTT were kept");
        }
    }

    /// Writes everything that is noted. What fails is noted again.
    async fn write(&self) -> Result<(), BrokerError> {
        let (records, retained, count) = {
            let mut state = self.state.lock();
            let records = std::mem::take(&mut state.records);
            (records, std::mem::take(&mut state.retained), state.count)
        };
        if self.progress.borrow().written == count {
            return Ok(());
        }
        let mut written = self.write_records(records).await;
        let mut retained: Vec<_> = retained.into_iter().collect();
        while written.is_ok() && !retained.is_empty() {
            written = self.write_retained(&mut retained).await;
        }
        self.put_back(retained);
        self.progress.send_modify(|progress| match &written {
            Ok(()) => progress.written = count,
            Err(error) => {
                progress.failed = count;
                progress.error = Some(error.clone());
            }
        });
        written
    }

    async fn write_records(
        &self,
        records: HashMap<(u8, Vec<u8>), Option<Vec<u8>>>,
    ) -> Result<(), BrokerError> {
        if records.is_empty() {
            return Ok(());
        }
        let changes = records.iter().map(|((kind, key), value)| RecordChange {
            kind: *kind,
            key: key.clone(),
            value: value.clone(),
        });
        let put = self.records.put(changes.collect()).await;
        if put.is_err() {
            let mut state = self.state.lock();
            for (key, value) in records {
                // What was noted meanwhile is newer.
                state.records.entry(key).or_insert(value);
            }
        }
        put
    }

    /// Writes some of these, and takes them out.
    async fn write_retained(&self, retained: &mut Vec<Retained>) -> Result<(), BrokerError> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for (topic, message) in retained.iter().rev() {
            let value = message.as_ref().map(|message| message.to_bytes());
            bytes += topic.as_str().len() + value.as_ref().map_or(0, Vec::len);
            let key = topic.as_str().as_bytes().to_vec();
            changes.push(RecordChange { kind: RETAINED, key, value });
            if bytes >= STEP_BYTES {
                break;
            }
        }
        let rest = retained.len() - changes.len();
        self.records.put(changes).await?;
        let written = retained.split_off(rest);
        let removals = written.iter().filter(|(_, message)| message.is_none()).count();
        self.state.lock().removals -= removals;
        Ok(())
    }

    /// Notes again what could not be written.
    fn put_back(&self, retained: Vec<Retained>) {
        let mut state = self.state.lock();
        for (topic, message) in retained {
            let is_removal = message.is_none();
            match state.retained.entry(topic) {
                Entry::Vacant(entry) => {
                    entry.insert(message);
                }
                Entry::Occupied(_) => state.removals -= usize::from(is_removal),
            }
        }
    }
}

/// What is noted of the retained message of a topic.
type Retained = (Topic, Option<Arc<RetainedMessage>>);

impl Promise {
    /// Whether it is written, or there is nothing to wait for.
    pub(super) fn is_kept(&self) -> bool {
        let Some((archive, count)) = &self.0 else { return true };
        archive.progress.borrow().written >= *count
    }

    /// Waits until it is written.
    ///
    /// # Errors
    /// It could not be written this time. It is tried again.
    pub(super) async fn kept(self) -> Result<(), BrokerError> {
        self.wait(|progress, count| progress.failed >= count).await
    }

    /// Waits until it is written, however often that fails.
    ///
    /// # Errors
    /// The end came first.
    pub(super) async fn kept_at_last(self) -> Result<(), BrokerError> {
        self.wait(|_, _| false).await
    }

    async fn wait(
        self,
        has_failed: impl Fn(&Progress, u64) -> bool + Send,
    ) -> Result<(), BrokerError> {
        let Some((archive, count)) = self.0 else { return Ok(()) };
        let mut progress = archive.progress.subscribe();
        let closed = || BrokerError::Closed("the listener was closed".to_owned());
        let found = progress.wait_for(|progress| {
            progress.written >= count || progress.is_over || has_failed(progress, count)
        });
        match &*found.await.map_err(|_| closed())? {
            progress if progress.written >= count => Ok(()),
            progress if progress.is_over => Err(closed()),
            progress => Err(progress.error.clone().unwrap_or(BrokerError::Timeout)),
        }
    }
}
