//! A folder with a configuration, the broker that it names, and the host.

mod jobs;

pub(crate) use jobs::Jobs;

use std::path::{Path, PathBuf};
use tempfile::TempDir;
use testkit::{Host, HostCommand, Mosquitto, Stream};

/// Makes a test for each backend of functions that take a [`Scene`].
macro_rules! on_each_backend {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() {
                super::$test($crate::support::Scene::memory()).await;
            })*
        }
        mod disk {
            $(#[tokio::test] async fn $test() {
                super::$test($crate::support::Scene::disk()).await;
            })*
        }
        mod mosquitto {
            $(#[tokio::test] async fn $test() {
                super::$test($crate::support::Scene::mosquitto().await).await;
            })*
        }
    };
}
pub(crate) use on_each_backend;

/// What one test runs: all that the host keeps is in its folder, but compiled
/// components, which the tests share.
pub(crate) struct Scene {
    folder: TempDir,
    broker: Option<Mosquitto>,
    /// What stands in the place of `pubsub.memory`.
    backend: &'static str,
    /// The keys of a binding that say how the broker is reached.
    connection: Option<String>,
}

impl Scene {
    /// With the built-in broker.
    pub(crate) fn memory() -> Self {
        let folder = tempfile::Builder::new().prefix("scene-").tempdir().expect("a folder");
        Self { folder, broker: None, backend: "pubsub.memory", connection: None }
    }

    /// With the built-in broker and a store in the folder.
    pub(crate) fn disk() -> Self {
        let scene = Self::memory();
        let connection = Some(format!("path = \"{}\"", scene.store().display()));
        Self { backend: "pubsub.disk", connection, ..scene }
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder().join("store.db")
    }

    /// With a mosquitto of its own.
    pub(crate) async fn mosquitto() -> Self {
        Self::with_broker(Mosquitto::start().await)
    }

    /// With this mosquitto.
    pub(crate) fn with_broker(broker: Mosquitto) -> Self {
        let connection = Some(format!("url = \"{}\"", broker.url()));
        Self { broker: Some(broker), backend: "pubsub.mqtt", connection, ..Self::memory() }
    }

    /// Has the configurations that are written from now on reach the broker in
    /// this way: `url = …`, and what else it takes.
    pub(crate) fn set_connection(&mut self, keys: String) {
        self.connection = Some(keys);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    /// Whether configurations that are written for the built-in broker stay as they
    /// are.
    pub(crate) fn is_memory(&self) -> bool {
        self.connection.is_none()
    }

    pub(crate) fn broker(&mut self) -> &mut Mosquitto {
        self.broker.as_mut().expect("a scene with a mosquitto")
    }

    /// Writes capabilities.toml: a text for `pubsub.memory`, turned into one for what
    /// the scene has. `$GUESTS` is where the guests are.
    pub(crate) fn write(&self, text: &str) {
        let mut text = text.replace("$GUESTS", &guests().to_string_lossy());
        if let Some(keys) = &self.connection {
            let binding = format!("[[capability.config]]\n{keys}");
            text = text
                .replace("\"pubsub.memory\"", &format!("\"{}\"", self.backend))
                .replace("[[capability.config]]", &binding);
        }
        std::fs::write(self.folder().join("capabilities.toml"), text).expect("a configuration");
    }

    /// Has a guest under this name in the folder, whatever was there before.
    pub(crate) fn install(&self, guest: &str, name: &str) {
        let (from, to) = (guests().join(format!("{guest}.wasm")), self.folder().join(name));
        let new = to.with_extension("new");
        std::fs::copy(&from, &new).expect("a guest");
        std::fs::rename(&new, &to).expect("the guest in its place");
    }

    /// The host with these arguments, in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> HostCommand {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        HostCommand::new(self.folder(), arguments)
            .env("HOME", self.folder())
            .env("XDG_STATE_HOME", self.folder().join("state"))
            .env("XDG_CACHE_HOME", cache)
    }

    /// Starts `run`.
    pub(crate) fn run(&self) -> Host {
        self.command(&["run"]).start()
    }

    /// Starts `run`, and waits until every subscription is confirmed.
    pub(crate) async fn run_ready(&self) -> Host {
        let mut host = self.run();
        host.wait_for(Stream::Err, "ready").await;
        host
    }

    /// Publishes with the command line program.
    pub(crate) async fn publish(&self, arguments: &[&str], input: &str) {
        let arguments = [&["publish"], arguments].concat();
        self.command(&arguments).start_with_input(input).expect_exit(0).await;
    }
}

/// Asks the host to end, and waits until it has ended well.
pub(crate) async fn drain(host: &mut Host) {
    host.terminate();
    host.expect_exit(0).await;
}

/// Standard output, complete once the host has ended.
pub(crate) fn printed(host: &Host) -> Vec<String> {
    host.lines().of(Stream::Out)
}

/// Standard output, for what comes in no certain order.
pub(crate) fn printed_sorted(host: &Host) -> Vec<String> {
    let mut lines = printed(host);
    lines.sort();
    lines
}

/// The folder of the compiled guests.
///
/// # Panics
/// When it isn't there; the message says how to build them.
pub(crate) fn guests() -> PathBuf {
    let folder = examples().join("target/wasm32-wasip2/release");
    let any = folder.join("receiver.wasm");
    assert!(
        any.is_file(),
        "{} is missing: build the guests with `cargo build --release --target wasm32-wasip2` in {}",
        any.display(),
        examples().display()
    );
    folder
}

/// The folder `guest-examples`.
pub(crate) fn examples() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples");
    folder.canonicalize().expect("the folder guest-examples")
}
