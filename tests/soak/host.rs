//! The program, as a process whose output is counted as it comes.

use crate::tally::{HANDLERS, Tally};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use testkit::{DEADLINE, Mosquitto, eventually, host_binary};

/// The topic of all events.
pub(crate) const TOPIC: &str = "soak/events";
/// How long the host may take to start: the first time it compiles components.
const START_MAX: Duration = Duration::from_secs(120);

/// The folder with the configuration and all that the host keeps.
pub(crate) struct Scene {
    folder: TempDir,
}

impl Scene {
    pub(crate) fn new(broker: &Mosquitto) -> Self {
        let folder = tempfile::Builder::new().prefix("soak-").tempdir().expect("a folder");
        let config = configuration(&broker.url());
        std::fs::write(folder.path().join("capabilities.toml"), config).expect("a configuration");
        Self { folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

fn configuration(url: &str) -> String {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../guest-examples/target/wasm32-wasip2/release/faulty.wasm");
    assert!(guest.is_file(), "{} is not built: `cargo xtask test` does that", guest.display());
    let mut text = "specversion = \"0.2\"\n\n[[capability]]\nname = \"pubsub.mqtt\"\n".to_owned();
    for (name, qos) in HANDLERS {
        let guest = guest.display();
        write!(
            text,
            "\n[[capability.config]]\nurl = \"{url}\"\ntopic = \"{TOPIC}\"\nqos = {qos}\n\
             components = [\"{name}\"]\ndelivery = \"push\"\n\
             \n[[component]]\nname = \"{name}\"\npath = \"{guest}\"\n"
        )
        .expect("a string takes all");
    }
    // A binding after a component would belong to no capability.
    let (bindings, components): (Vec<_>, Vec<_>) =
        text.split("\n\n").partition(|part| !part.starts_with("[[component]]"));
    [bindings, components].concat().join("\n\n")
}

/// The running program. It is killed when dropped.
pub(crate) struct Host {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts it, and waits until every subscription is confirmed.
    pub(crate) async fn start(scene: &Scene, tally: &Arc<Tally>) -> Self {
        let folder = scene.folder.path();
        let log = OpenOptions::new().create(true).append(true).open(scene.log()).expect("a log");
        let before = readies(&scene.log());
        let mut child = Command::new(host_binary())
            .arg("run")
            .current_dir(folder)
            .env("HOME", folder)
            .env("XDG_STATE_HOME", folder.join("state"))
            .env("XDG_CACHE_HOME", folder.join("cache"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the host can be started");
        let output = child.stdout.take().expect("its output is piped");
        let reader = Some(count(output, tally.clone()));
        let mut host = Self { child, reader };
        eventually(START_MAX, "the host is ready", || {
            host.must_run(scene);
            readies(&scene.log()) > before
        })
        .await;
        host
    }

    /// A host that ends by itself has a fault.
    pub(crate) fn must_run(&mut self, scene: &Scene) {
        let ended = self.child.try_wait().expect("the state of the host");
        if let Some(status) = ended {
            panic!("the host has ended with {status}; it wrote:\n{}", last_lines(&scene.log()));
        }
    }

    /// Ends it at once. What it has written is counted.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the host can be killed");
        self.wait();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the host can be stopped");
        let has_ended = || self.child.try_wait().expect("the state of the host").is_some();
        eventually(DEADLINE, "the host has drained", has_ended).await;
        self.wait();
    }

    fn wait(&mut self) {
        self.child.wait().expect("the end of the host");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its output was read");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Counts the lines in a thread of its own, to the last.
fn count(output: ChildStdout, tally: Arc<Tally>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            tally.read(&line);
        }
    })
}

/// How often a host has said that it is ready.
fn readies(log: &Path) -> usize {
    text(log).lines().filter(|line| line.contains(" ready")).count()
}

fn last_lines(log: &Path) -> String {
    let text = text(log);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn text(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| file.read_to_end(&mut bytes));
    read.expect("the log can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
