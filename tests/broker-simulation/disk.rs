//! The storage of `pubsub.disk` under the broker: a file, and threads that know
//! nothing of the simulated time. That stands still while they have something to do.

use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wasi_pubsub::backends::disk::{DiskStorage, Options};
use wasi_pubsub::builtin::storage::{Delta, Progress, Storage};

/// The longest real time until the threads of a storage have ended.
const END_MAX: Duration = Duration::from_secs(30);

/// The longest real time from an answer of a storage until subscribers are told.
pub(crate) const TELL_MAX: Duration = Duration::from_secs(5);

/// The file of one world.
pub(crate) struct Disk {
    folder: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        // In memory where there is such a folder: it is not the disk that is tried.
        let memory = PathBuf::from("/dev/shm");
        let folder = match memory.is_dir() {
            true => TempDir::new_in(memory),
            false => TempDir::new(),
        };
        Self { folder: folder.unwrap() }
    }

    pub(crate) fn open(&self) -> Arc<dyn Storage> {
        let path = self.folder.path().join("events.db");
        Arc::new(DiskStorage::open(path, &Options::default()).unwrap())
    }
}

/// Waits until nobody has a storage any more, and so its threads have ended.
pub(crate) async fn ended(storage: Arc<dyn Storage>) {
    let storage = {
        let weak = Arc::downgrade(&storage);
        drop(storage);
        weak
    };
    let deadline = Instant::now() + END_MAX;
    while storage.strong_count() > 0 {
        assert!(Instant::now() < deadline, "somebody keeps the storage");
        tokio::task::yield_now().await;
    }
}

/// Holds the simulated clock as long as it is there.
pub(crate) struct Still {
    _over: mpsc::Sender<()>,
}

impl Still {
    pub(crate) fn new() -> Self {
        let (sender, over) = mpsc::channel::<()>();
        // The clock does not go on by itself while a thread works.
        tokio::task::spawn_blocking(move || {
            let _over = over.recv();
        });
        Self { _over: sender }
    }
}

/// Progress that somebody waits for: holds something until it is kept.
pub(crate) struct Awaited<T> {
    pub(crate) inner: Arc<dyn Progress>,
    pub(crate) held: Mutex<Option<T>>,
}

impl<T: Send> Progress for Awaited<T> {
    fn id(&self) -> u64 {
        self.inner.id()
    }

    fn collect(&self) -> Option<Delta> {
        let delta = self.inner.collect();
        if delta.is_none() {
            self.let_go();
        }
        delta
    }

    fn kept(&self, delta: Delta, durable: bool) {
        self.inner.kept(delta, durable);
        self.let_go();
    }
}

impl<T> Awaited<T> {
    fn let_go(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
