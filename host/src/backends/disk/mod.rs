//! `pubsub.disk`: the built-in broker with a file, so that what it has outlives
//! the process.
//!
//! The file is a database of `SQLite`: `version_1.sql` and those after it say what
//! is in it, and people may look with their own tools. One thread writes: it commits
//! what has gathered, and tells everybody afterwards. One brings the log of that into
//! the file. Two read.

mod aside;
mod check;
mod error;
mod gather;
mod lock;
mod matcher;
mod page;
mod pending;
mod place;
mod reader;
mod records;
mod rows;
mod schema;
mod section;
#[cfg(test)]
mod tests;
mod topics;
mod trim;
mod wal;
mod writer;

pub use check::{Compacted, check, compact};
pub use section::{DiskSection, DiskSettings, MAX_BYTES, SUBSCRIPTION_EXPIRY};

use crate::broker::TopicFilter;
use crate::broker::driver::Records;
use crate::builtin::Publication;
use crate::builtin::storage::{
    Appended, Contents, Fetch, FetchReply, Position, Progress, SnapshotRecord, Storage,
    StorageError, SubscriptionRecord, TopicStats, Trim, Trimmed,
};
use aside::Aside;
use async_trait::async_trait;
use error::{failed, refused, wrong};
use lock::LockFile;
use parking_lot::Mutex;
use pending::{Command, Shared};
use reader::{Reader, Readers};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;
use topics::Topics;
use trim::TrimJob;
use writer::Writer;

/// How many threads read.
const READERS: usize = 2;

/// How a store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of events, as [`Event::size`](crate::broker::Event::size) counts
    /// them. Dead letters may have 64 MiB beyond it. The file is larger: what belongs
    /// to each event takes some tens of bytes.
    pub max_bytes: u64,
    /// The layer between `SQLite` and the system, by its name; `None`: the usual one.
    pub vfs: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: MAX_BYTES, vfs: None }
    }
}

/// Events and subscriptions in a file.
///
/// Dropping it ends it after the commit that is under way; [`Storage::close`] waits
/// for what was asked for.
pub struct DiskStorage {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    vfs: Option<String>,
    is_read_only: bool,
}

impl DiskStorage {
    /// Opens a store, which is made where there is none. Reads and writes files: not to
    /// be called where that must not block.
    ///
    /// # Errors
    /// Another process has it; it is no store, or one of a newer version; it or its
    /// folder cannot be read or written.
    pub fn open(path: impl Into<PathBuf>, options: &Options) -> Result<Self, StorageError> {
        let path = path.into();
        make_folder(&path)?;
        schema::create_file(&path)?;
        // The lock is beside the file, whatever links lead there.
        let path = place::real(&path);
        let lock = LockFile::acquire(&path)?;
        let vfs = options.vfs.as_deref();
        let connection = schema::open_writer(&path, vfs)?;
        let (topics, last) =
            begin(&connection).map_err(|error| failed(&path, "cannot read the store", &error))?;
        let shared = Arc::new(Shared::new(path.clone(), options.max_bytes, topics, last));
        let other = schema::open_beside(&path, vfs)?;
        let writer = Writer::new(shared.clone(), connection, other, lock)
            .map_err(|error| failed(&path, "cannot open the store", &error))?;
        let storage = Self {
            shared,
            readers: Arc::default(),
            threads: Mutex::default(),
            vfs: options.vfs.clone(),
            is_read_only: false,
        };
        storage.start_readers()?;
        storage.start("write", move || writer.run())?;
        Ok(storage)
    }

    /// Opens a store to look at it, beside a process that has it or without one. What
    /// would change something fails.
    ///
    /// # Errors
    /// It is not there, is no store, or one of another version; it cannot be read.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let path = path.into();
        let connection = schema::open_reader(&path, None)?;
        let (topics, last) =
            begin(&connection).map_err(|error| failed(&path, "cannot read the store", &error))?;
        let shared = Arc::new(Shared::new(path, 0, topics, last));
        shared.end();
        let storage = Self {
            shared,
            readers: Arc::default(),
            threads: Mutex::default(),
            vfs: None,
            is_read_only: true,
        };
        storage.start_readers()?;
        Ok(storage)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn start_readers(&self) -> Result<(), StorageError> {
        for _ in 0..READERS {
            let connection = schema::open_reader(self.path(), self.vfs.as_deref())?;
            let reader = Reader::new(connection, self.shared.clone(), self.is_read_only);
            let readers = self.readers.clone();
            self.start("read", move || reader.run(&readers))?;
        }
        Ok(())
    }

    fn start(&self, what: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
        let thread = thread::Builder::new()
            .name(format!("store-{what}"))
            .spawn(run)
            .map_err(|error| refused(&self.shared.path, "cannot start a thread for", &error))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Waits for the threads, unless one of them calls.
    fn join(&self) {
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != thread::current().id() {
                // A panic was told where it happened.
                let _ = thread.join();
            }
        }
    }

    fn writable(&self) -> Result<(), StorageError> {
        if self.is_read_only {
            return Err(wrong(self.path(), "was opened to look at it only"));
        }
        Ok(())
    }
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        self.shared.abandon();
        self.readers.close();
        self.join();
    }
}

#[async_trait]
impl Storage for DiskStorage {
    fn holds_backlog(&self) -> bool {
        true
    }

    fn load(&self) -> Result<Contents, StorageError> {
        let connection = schema::open_reader(self.path(), self.vfs.as_deref())?;
        records::load(&connection)
            .map_err(|error| failed(self.path(), "cannot read the store", &error))
    }

    fn set_bytes_max(&self, bytes: u64) {
        self.shared.set_max_bytes(bytes);
    }

    fn records(&self) -> Option<Arc<dyn Records>> {
        Some(Arc::new(Aside::new(self.shared.clone(), self.readers.clone())))
    }

    fn append(&self, publication: Publication) -> Appended {
        match self.writable() {
            Ok(()) => self.shared.append(publication),
            Err(error) => pending::answered(Err(error)),
        }
    }

    fn last_number(&self) -> u64 {
        self.shared.last_number()
    }

    fn durable_number(&self) -> u64 {
        self.shared.delivered()
    }

    async fn count(&self, filter: &TopicFilter, from: u64) -> Result<u64, StorageError> {
        let filter = filter.clone();
        self.readers.ask(&self.shared, move |reader| reader.count(&filter, from)).await
    }

    fn fetch(&self, fetch: Fetch, reply: FetchReply) {
        self.readers.fetch(&self.shared, fetch, reply);
    }

    async fn number_at(&self, time: SystemTime) -> Result<u64, StorageError> {
        self.readers.ask(&self.shared, move |reader| reader.number_at(time)).await
    }

    fn progressed(&self, subscription: &Arc<dyn Progress>, soon: bool) {
        self.shared.progressed(subscription, soon);
    }

    async fn put_subscription(&self, record: SubscriptionRecord) -> Result<(), StorageError> {
        self.writable()?;
        self.shared.change(Box::new(move |file| records::put_subscription(file, &record))).await
    }

    async fn set_position(&self, id: u64, position: Position) -> Result<(), StorageError> {
        self.writable()?;
        let set = move |file: &_| records::set_position(file, id, &position).map(Ok);
        self.shared.change(Box::new(set)).await
    }

    async fn remove_subscription(&self, id: u64) -> Result<(), StorageError> {
        self.writable()?;
        self.shared
            .change(Box::new(move |file| records::remove_subscription(file, id).map(Ok)))
            .await
    }

    async fn put_snapshot(&self, record: SnapshotRecord) -> Result<(), StorageError> {
        self.writable()?;
        self.shared.change(Box::new(move |file| records::put_snapshot(file, &record).map(Ok))).await
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), StorageError> {
        self.writable()?;
        let name = name.to_owned();
        self.shared
            .change(Box::new(move |file| records::remove_snapshot(file, &name).map(Ok)))
            .await
    }

    async fn topics(&self) -> Result<Vec<TopicStats>, StorageError> {
        self.readers.ask(&self.shared, |reader| Ok(reader.shared.topics.stats())).await
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed, StorageError> {
        self.writable()?;
        self.shared.command(|reply| Command::Trim(TrimJob::new(trim), reply)).await
    }

    async fn close(&self) {
        self.shared.close().await;
        self.readers.close();
        self.join();
    }
}

/// What has to be known of a file before it is used.
fn begin(connection: &rusqlite::Connection) -> rusqlite::Result<(Topics, (u64, i64))> {
    let topics = Topics::default();
    topics.load(connection)?;
    // No number is given twice, whatever a file has that others have changed.
    let sql = "SELECT max(number, ifnull((SELECT max(number) FROM event), 0), \
               ifnull((SELECT max(number) FROM once), 0), \
               ifnull((SELECT max(next) - 1 FROM subscription), 0)), time FROM last";
    let last = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((topics, last))
}

fn make_folder(path: &Path) -> Result<(), StorageError> {
    match schema::folder_of(path) {
        Some(folder) if !folder.is_dir() => schema::create_folder(folder)
            .map_err(|error| refused(folder, "cannot make the store's folder", &error)),
        _ => Ok(()),
    }
}
