//! What the writer has to do, and who waits for it: shared by all threads.

use super::error::closed;
use super::rows::{from_millis, millis};
use super::topics::Topics;
use super::trim::TrimJob;
use crate::broker::Qos;
use crate::builtin::storage::{Appended, Progress, StorageError, Trimmed};
use crate::builtin::{Notices, Publication};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The most bytes of events that wait for a commit or are in one.
pub(super) const PENDING_BYTES_MAX: u64 = 64 << 20;
/// The most events, likewise.
pub(super) const PENDING_EVENTS_MAX: usize = 65_536;
/// What dead letters may have beyond the bounds, in bytes.
pub(super) const DEAD_LETTER_BYTES: u64 = 64 << 20;
/// The most bytes of one commit. It has one event at least.
const COMMIT_BYTES_MAX: u64 = 16 << 20;
/// The most events of one commit.
const COMMIT_EVENTS_MAX: usize = 8192;
/// How long progress that nobody waits for waits for an event to be committed with.
const PROGRESS_DELAY: Duration = Duration::from_millis(50);
/// How long after a failure progress is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What all threads of a store share.
pub(super) struct Shared {
    /// The file.
    pub(super) path: PathBuf,
    /// The most bytes of events in it.
    max_bytes: AtomicU64,
    /// The topics that have events.
    pub(super) topics: Topics,
    state: Mutex<State>,
    /// For the writer.
    wake: Condvar,
    /// For who waits for its end.
    ended: tokio::sync::Notify,
}

struct State {
    events: VecDeque<Pending>,
    /// Of the events that wait or are in a commit.
    pending_bytes: u64,
    pending_events: usize,
    kept_bytes: u64,
    commands: VecDeque<Command>,
    progress: HashMap<u64, Arc<dyn Progress>>,
    /// When the progress that nobody waits for is due.
    progress_due: Option<Instant>,
    /// Somebody waits for progress.
    is_progress_soon: bool,
    last_number: u64,
    last_millis: i64,
    /// Everything up to here is durable or has failed.
    resolved: u64,
    /// Everything up to here is delivered too.
    delivered: u64,
    /// The writer sleeps until so many wait.
    wanted: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// What was asked for is done, and then no more.
    Closing,
    /// Nothing more is done.
    Dropped,
    Ended,
}

/// An event that waits for a commit.
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) publication: Publication,
    /// `None`: nobody waits for it.
    pub(super) reply: Option<oneshot::Sender<Result<u64, StorageError>>>,
}

/// What is asked for beside events.
pub(super) enum Command {
    /// A change of subscriptions and snapshots.
    Change(Change, Reply<()>),
    /// A trim, which may take several commits.
    Trim(TrimJob, Reply<Trimmed>),
}

/// Changes something in a transaction. What cannot be done although the file can be
/// written is the inner error, and changes nothing.
pub(super) type Change =
    Box<dyn Fn(&Connection) -> rusqlite::Result<Result<(), StorageError>> + Send>;

/// Whom to tell.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// What one commit begins with.
pub(super) struct Batch {
    pub(super) events: Vec<Pending>,
    pub(super) commands: VecDeque<Command>,
    pub(super) progress: HashMap<u64, Arc<dyn Progress>>,
    /// Nothing follows it.
    pub(super) is_last: bool,
}

impl Shared {
    pub(super) fn new(path: PathBuf, max_bytes: u64, topics: Topics, last: (u64, i64)) -> Self {
        let state = State {
            events: VecDeque::new(),
            pending_bytes: 0,
            pending_events: 0,
            kept_bytes: topics.bytes(),
            commands: VecDeque::new(),
            progress: HashMap::new(),
            progress_due: None,
            is_progress_soon: false,
            last_number: last.0,
            last_millis: last.1,
            resolved: last.0,
            delivered: last.0,
            wanted: 1,
            stage: Stage::Open,
        };
        let (state, wake, ended) = (Mutex::new(state), Condvar::new(), Default::default());
        Self { path, max_bytes: max_bytes.into(), topics, state, wake, ended }
    }

    /// Changes the most bytes of events.
    pub(super) fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Relaxed);
    }

    /// See `Storage::append`.
    pub(super) fn append(&self, mut publication: Publication) -> Appended {
        let mut state = self.state.lock();
        if state.stage != Stage::Open {
            drop(state);
            return answered(Err(closed(&self.path)));
        }
        // What may not come twice is noted even where nobody wants it.
        let is_noted = publication.once.is_some() || !publication.records.is_empty();
        if !publication.is_kept && !is_noted {
            let number = state.give_number(&mut publication);
            if state.pending_events == 0 {
                (state.resolved, state.delivered) = (number, number);
            }
            drop(state);
            let notices = publication.deliver(number);
            return Appended::Now(number, notices);
        }
        if !state.has_room(&publication, self.max_bytes.load(Relaxed)) {
            return Appended::Full(publication);
        }
        let number = state.give_number(&mut publication);
        let (reply, answer) = if publication.qos == Qos::AtMostOnce {
            (None, answered(Ok(number)))
        } else {
            let (reply, answer) = oneshot::channel();
            (Some(reply), Appended::Later(answer))
        };
        state.pending_bytes += kept_bytes(&publication);
        state.pending_events += 1;
        state.events.push_back(Pending { number, publication, reply });
        self.wake_if_enough(&state);
        answer
    }

    /// The highest number that was given.
    pub(super) fn last_number(&self) -> u64 {
        self.state.lock().last_number
    }

    /// The number and the time that were given last.
    pub(super) fn last(&self) -> (u64, i64) {
        let state = self.state.lock();
        (state.last_number, state.last_millis)
    }

    /// Everything up to this number is durable or has failed.
    pub(super) fn resolved(&self) -> u64 {
        self.state.lock().resolved
    }

    /// Another process has written so much.
    pub(super) fn look(&self, last_number: u64) {
        let mut state = self.state.lock();
        state.last_number = last_number;
        state.resolved = last_number;
        state.delivered = last_number;
    }

    /// Everything up to this number is durable and delivered, or will never be.
    pub(super) fn delivered(&self) -> u64 {
        let state = self.state.lock();
        // Numbers that were given to what is not kept are over at once.
        if state.pending_events == 0 { state.last_number } else { state.delivered }
    }

    /// A subscription has progress to keep.
    pub(super) fn progressed(&self, subscription: &Arc<dyn Progress>, is_soon: bool) {
        let mut state = self.state.lock();
        if state.stage == Stage::Ended {
            return;
        }
        state.progress.entry(subscription.id()).or_insert_with(|| subscription.clone());
        state.is_progress_soon |= is_soon;
        let is_first = state.progress_due.is_none();
        state.progress_due.get_or_insert_with(|| Instant::now() + PROGRESS_DELAY);
        if is_first && state.wanted == 1 {
            // It sleeps without an end.
            self.wake.notify_one();
        } else {
            self.wake_if_enough(&state);
        }
    }

    /// Has something changed. The order of the calls is that of the changes.
    pub(super) async fn change(&self, change: Change) -> Result<(), StorageError> {
        self.command(|reply| Command::Change(change, reply)).await
    }

    /// Has something done by the writer.
    pub(super) async fn command<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.stage != Stage::Open {
                return Err(closed(&self.path));
            }
            state.commands.push_back(command(reply));
            self.wake.notify_one();
        }
        answer.await.unwrap_or_else(|_| Err(closed(&self.path)))
    }

    /// Waits until everything is done, and for the writer's end.
    pub(super) async fn close(&self) {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if self.begin_end(Stage::Closing) {
            ended.await;
        }
    }

    /// Ends the writer at once.
    pub(super) fn abandon(&self) {
        self.begin_end(Stage::Dropped);
    }

    /// Returns whether there is something to wait for.
    fn begin_end(&self, stage: Stage) -> bool {
        let mut state = self.state.lock();
        if state.stage == Stage::Ended {
            return false;
        }
        if state.stage == Stage::Open || stage == Stage::Dropped {
            state.stage = stage;
        }
        self.wake.notify_one();
        true
    }

    /// The writer has ended: who still waits hears of it.
    pub(super) fn end(&self) {
        let left = {
            let mut state = self.state.lock();
            state.stage = Stage::Ended;
            state.pending_bytes = 0;
            state.pending_events = 0;
            let left = (std::mem::take(&mut state.events), std::mem::take(&mut state.commands));
            (left, std::mem::take(&mut state.progress))
        };
        // Without the lock: whoever is told may come back.
        drop(left);
        self.ended.notify_waiters();
    }

    /// Waits for what is to be committed next; `None`: the end.
    pub(super) fn next_batch(&self, gather: &super::gather::Gather) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut since = None;
        loop {
            let waits = state.events.len() + usize::from(state.is_progress_soon);
            let has_commands = !state.commands.is_empty();
            match state.stage {
                Stage::Dropped | Stage::Ended => return None,
                Stage::Closing => return Some(state.take_batch()),
                Stage::Open if has_commands || waits >= gather.expected() => {
                    return Some(state.take_batch());
                }
                Stage::Open => {}
            }
            let now = Instant::now();
            let due = if waits > 0 {
                state.wanted = gather.expected();
                Some(*since.get_or_insert(now) + gather.wait())
            } else {
                state.wanted = 1;
                state.progress_due
            };
            match due {
                Some(due) if due <= now => return Some(state.take_batch()),
                Some(due) => {
                    self.wake.wait_until(&mut state, due);
                }
                None => self.wake.wait(&mut state),
            }
        }
    }

    /// Events are durable, or have failed: up to `number`. Returns how many wait.
    pub(super) fn resolve(&self, events: &[Pending], kept_bytes_more: Option<i64>) -> usize {
        let mut state = self.state.lock();
        let bytes: u64 = events.iter().map(|event| kept_bytes(&event.publication)).sum();
        state.pending_bytes = state.pending_bytes.saturating_sub(bytes);
        if let Some(more) = kept_bytes_more {
            state.kept_bytes = state.kept_bytes.saturating_add_signed(more);
        }
        if let Some(last) = events.last() {
            // What has a number only is not waited for.
            let nothing_waits = state.events.is_empty();
            state.resolved = if nothing_waits { state.last_number } else { last.number };
        }
        state.events.len()
    }

    /// As many events are delivered too, or have failed: up to `number`.
    pub(super) fn settle(&self, events: usize, number: u64) {
        let mut state = self.state.lock();
        state.pending_events = state.pending_events.saturating_sub(events);
        state.delivered = if state.pending_events == 0 { state.last_number } else { number };
    }

    /// Commands that are not done yet are the next ones.
    pub(super) fn put_back(&self, commands: VecDeque<Command>) {
        let mut state = self.state.lock();
        for command in commands.into_iter().rev() {
            state.commands.push_front(command);
        }
    }

    /// Progress that could not be kept is tried again after a while.
    pub(super) fn retry_progress(&self, progress: Vec<Arc<dyn Progress>>) {
        // Dropped without the lock.
        let mut replaced = Vec::new();
        let mut state = self.state.lock();
        for subscription in progress {
            replaced.extend(state.progress.insert(subscription.id(), subscription));
            state.progress_due = Some(Instant::now() + RETRY_DELAY);
        }
        drop(state);
    }

    fn wake_if_enough(&self, state: &State) {
        let waits = state.events.len() + usize::from(state.is_progress_soon);
        // From the first on, the writer counts the time.
        if waits == 1 || waits == state.wanted {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn give_number(&mut self, publication: &mut Publication) -> u64 {
        self.last_number += 1;
        self.last_millis = self.last_millis.max(millis(publication.time));
        publication.time = from_millis(self.last_millis);
        self.last_number
    }

    fn has_room(&self, publication: &Publication, max_bytes: u64) -> bool {
        let bytes = kept_bytes(publication);
        let reserve = if publication.is_dead_letter { DEAD_LETTER_BYTES } else { 0 };
        let is_small_enough = bytes == 0
            || self.kept_bytes + self.pending_bytes + bytes <= max_bytes.saturating_add(reserve);
        let can_wait = self.pending_events == 0
            || self.pending_events < PENDING_EVENTS_MAX
                && self.pending_bytes + bytes <= PENDING_BYTES_MAX + reserve;
        is_small_enough && can_wait
    }

    fn take_batch(&mut self) -> Batch {
        let mut bytes = 0;
        let mut count = 0;
        for event in self.events.iter().take(COMMIT_EVENTS_MAX) {
            bytes += kept_bytes(&event.publication);
            if count > 0 && bytes > COMMIT_BYTES_MAX {
                break;
            }
            count += 1;
        }
        let is_last = self.stage == Stage::Closing && count == self.events.len();
        self.progress_due = None;
        self.is_progress_soon = false;
        Batch {
            events: self.events.drain(..count).collect(),
            commands: std::mem::take(&mut self.commands),
            progress: std::mem::take(&mut self.progress),
            is_last,
        }
    }
}

/// What an event takes of the store.
fn kept_bytes(publication: &Publication) -> u64 {
    if publication.is_kept { publication.size as u64 } else { 0 }
}

/// An answer that is there already.
pub(super) fn answered(answer: Result<u64, StorageError>) -> Appended {
    let (reply, receiver) = oneshot::channel();
    // The receiver is here.
    let _ = reply.send(answer);
    Appended::Later(receiver)
}

/// Tells all who are to be told. Without any lock.
pub(super) fn send_all(notices: Vec<Notices>) {
    notices.into_iter().for_each(Notices::send);
}
