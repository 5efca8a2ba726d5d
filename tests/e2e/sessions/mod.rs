//! What MQTT clients have at a broker on the disk, over restarts and crashes.

mod client;
mod crashes;
mod exactly_once;
mod kills;
mod retained;

use client::{Client, Got, Hello};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use testkit::sqlite_disk::SqliteDisk;
use testkit::within;
use wasi_pubsub::backends::disk::{self, DiskStorage};
use wasi_pubsub::broker::driver::Connection;
use wasi_pubsub::builtin::{self, BuiltIn};
use wasi_pubsub::listener::{Bound, Clock, Door, Entrance, Listener, Settings};

/// A broker with a store and a listener, in this process, and a clock that the test
/// moves.
struct Server {
    folder: TempDir,
    /// Which file is the store: a crash goes on with a copy.
    life: u32,
    /// In seconds.
    clock: Arc<AtomicU64>,
    settings: Settings,
    disk: Option<&'static SqliteDisk>,
    running: Option<Running>,
}

struct Running {
    broker: Arc<BuiltIn>,
    listener: Listener,
    _entrance: Entrance,
    port: u16,
}

impl Server {
    async fn start() -> Self {
        Self::on(None)
    }

    fn on(disk: Option<&'static SqliteDisk>) -> Self {
        let mut server = Self::prepare(disk);
        server.begin();
        server
    }

    fn prepare(disk: Option<&'static SqliteDisk>) -> Self {
        let clock = Arc::new(AtomicU64::new(1_700_000_000));
        let mut settings = Settings::default();
        let told = clock.clone();
        settings.clock = Clock(Arc::new(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(told.load(Ordering::SeqCst))
        }));
        settings.sys_interval = None;
        let folder = tempfile::tempdir().unwrap();
        Self { folder, life: 0, clock, settings, disk, running: None }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join(format!("life-{}.db", self.life))
    }

    fn begin(&mut self) {
        let vfs = self.disk.map(|disk| disk.name().to_owned());
        let options = disk::Options { vfs, ..disk::Options::default() };
        let storage = DiskStorage::open(self.store(), &options).unwrap();
        let broker = BuiltIn::open(Arc::new(storage), builtin::Settings::default()).unwrap();
        let unique = fastrand::u64(..);
        let listener = Listener::new(broker.clone(), self.settings.clone(), unique);
        let bound = Bound::new(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = bound.address().unwrap().port();
        let door = Door { anonymous: true, ..Door::default() };
        let entrance = listener.open(bound, door);
        self.running = Some(Running { broker, listener, _entrance: entrance, port });
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Time goes by while nobody looks.
    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Another server, with what there is when the power fails after so many operations
    /// of this one's disk.
    fn after_power_failed(&self, operations: usize, random: &mut fastrand::Rng) -> Self {
        let mut other = Self::prepare(None);
        let share = [0, 5, 10][random.usize(..3)];
        let disk = self.disk.unwrap();
        disk.crash(operations, other.folder.path(), || random.u8(..10) < share);
        other.begin();
        other
    }

    /// What is on the disk at this moment is what the next process finds.
    fn crash(&mut self) {
        let before = self.store();
        self.life += 1;
        for end in ["", "-wal"] {
            let with_end = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
            std::fs::copy(with_end(&before), with_end(&self.store())).unwrap();
        }
        self.running = None;
        self.begin();
    }

    /// Ends it well, and starts it again.
    async fn restart(&mut self) {
        self.end().await;
        self.begin();
    }

    async fn end(&mut self) {
        let Running { broker, listener, .. } = self.running.take().unwrap();
        listener.close(Duration::from_secs(5)).await;
        broker.close(Duration::ZERO).await;
    }

    async fn connect(&self, hello: Hello<'_>) -> Client {
        Client::connect(self.running().port, hello).await
    }

    /// A client that leaves nothing.
    async fn visitor(&self) -> Client {
        let hello = Hello { clean: true, expiry: 0, ..Hello::kept("visitor", 5) };
        self.connect(hello).await
    }

    /// Publishes at qos 1.
    async fn publish(&self, topic: &str, payload: &str) {
        let mut client = self.visitor().await;
        client.publish_acked(topic, payload).await;
        client.disconnect(None).await;
    }

    /// Waits until so many sessions are kept.
    async fn has_sessions(&self, count: usize) {
        let records = self.running().broker.records().unwrap();
        within("the sessions", async {
            while records.load(2, b"").await.unwrap().len() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until nothing of a session is left: neither records nor subscriptions.
    async fn is_empty(&self) {
        let records = self.running().broker.records().unwrap();
        within("an empty store", async {
            loop {
                let looking = DiskStorage::open_read_only(self.store()).unwrap();
                let contents = builtin::storage::Storage::load(&looking).unwrap();
                let mut found = contents.subscriptions.len();
                for kind in 2..6 {
                    found += records.load(kind, b"").await.unwrap().len();
                }
                if found == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
