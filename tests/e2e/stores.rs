//! The host with a store on the disk: killed, reloaded, and with a disk that is full.

use crate::support::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testkit::Host;
use testkit::Stream::{Err, Out};

const KILLS: usize = 12;
/// More than come before a kill.
const EVENTS_OF_LIFE: usize = 300;

fn json(steps: &[String]) -> String {
    // A list of strings reads alike in JSON and TOML.
    serde_json::to_string(steps).unwrap()
}

/// A source that does its steps, a handler of a queue and a command that pulls.
fn write_workers(scene: &Scene, steps: &[String]) {
    let steps = json(steps);
    scene.write(&format!(
        r#"specversion = "0.2"

[[capability]]
name = "pubsub.memory"

[[capability.config]]
queue = "jobs/+"
components = ["handler"]
delivery = "push"
qos = 2

[[capability.config]]
topic = "jobs/+"
components = ["puller"]
delivery = "pull"

[[capability.config]]
components = ["source"]
publish = ["jobs/#"]

[[component]]
name = "handler"
path = "$GUESTS/faulty.wasm"
instances = 2

[[component]]
name = "puller"
path = "$GUESTS/pulling-command.wasm"
args = ["receive jobs/+ 1000000"]

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {steps}
"#
    ));
}

/// How often each event was handled, by its id, of all lines that begin so.
fn count(host: &Host, prefix: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in host.lines().of(Out) {
        if let Some(rest) = line.strip_prefix(prefix) {
            let id = rest.split(' ').next().unwrap_or_default();
            *counts.entry(id.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[derive(Default)]
struct Seen {
    sent: BTreeSet<String>,
    handled: BTreeMap<String, usize>,
    pulled: BTreeMap<String, usize>,
    hits: usize,
    again: usize,
}

impl Seen {
    /// Notes what a host has written that has ended.
    fn note(&mut self, host: &Host, words: &str) {
        let (begun, sent) = (count(host, "source | begin "), count(host, "source | sent "));
        self.hits += usize::from(begun.len() > sent.len());
        self.sent.extend(sent.into_keys());
        for (id, times) in count(host, "handler | done ") {
            assert_eq!(times, 1, "{words}: {id} twice in one life at qos 2");
            let before = self.handled.entry(id).or_insert(0);
            self.again += usize::from(*before > 0);
            *before += times;
        }
        for (id, times) in count(host, "puller | received print done ") {
            *self.pulled.entry(id).or_insert(0) += times;
        }
    }
}

#[tokio::test]
async fn a_host_that_is_killed_again_and_again_loses_nothing() {
    let scene = Scene::disk();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen = Seen::default();
    for life in 0.. {
        let words = format!("seed {seed}, life {life}");
        assert!(life < 3 * KILLS, "{words}: it is not hit while it publishes");
        let step = |n| {
            let publish = format!("publish jobs/0 1 print done {life}.{n} .");
            [format!("print begin {life}.{n}"), publish, format!("print sent {life}.{n}")]
        };
        write_workers(&scene, &(0..EVENTS_OF_LIFE).flat_map(step).collect::<Vec<_>>());
        let mut host = scene.run();
        host.wait_for_count(Out, "source | sent", random.usize(1..30)).await;
        // Some moment of what follows.
        tokio::time::sleep(Duration::from_micros(random.u64(..5000))).await;
        host.kill();
        host.exit_code().await;
        seen.note(&host, &words);
        if seen.hits == KILLS {
            break;
        }
    }
    write_workers(&scene, &[]);
    let mut host = scene.run_ready().await;
    let words = format!("seed {seed}, at the end");
    for id in &seen.sent {
        if !seen.handled.contains_key(id) {
            host.wait_for(Out, &format!("handler | done {id} ")).await;
        }
        if !seen.pulled.contains_key(id) {
            host.wait_for(Out, &format!("puller | received print done {id} ")).await;
        }
    }
    host.kill();
    host.exit_code().await;
    seen.note(&host, &words);
    // At qos 2 what a kill interrupts may be repeated, and no more than that.
    let in_hand = 2 * (KILLS * 3);
    assert!(seen.again <= in_hand, "{words}: {} of {} again", seen.again, seen.handled.len());
    let mut check = scene.command(&["broker", "check"]).start();
    check.expect_exit(0).await;
}

/// The configuration of a broker that is not emptied, and a source with steps.
fn write_full(scene: &Scene, max_bytes: &str, steps: &[String]) {
    let (store, steps) = (scene.store(), json(steps));
    scene.write(&format!(
        r#"specversion = "0.2"

[[capability]]
name = "pubsub.disk"

[[capability.config]]
path = "{store}"
max_bytes = "{max_bytes}"
topic = "jobs/+"
delivery = "pull"
components = ["holder"]

[[capability.config]]
path = "{store}"
max_bytes = "{max_bytes}"
publish = ["jobs/#"]
publish_timeout = "2m"
components = ["source"]

[[component]]
name = "holder"
path = "$GUESTS/pulling-command.wasm"
args = ["ready jobs/+", "sleep 600000"]

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {steps}
"#,
        store = store.display()
    ));
}

#[tokio::test]
async fn a_reload_changes_the_bounds_of_a_store_that_is_open() {
    // What the host says of it is told apart from the configurations of others.
    let scene = Scene::memory();
    let large = "x".repeat(100_000);
    let steps = [
        format!("publish jobs/0 5 {large}"),
        "print five are stored".to_owned(),
        format!("publish jobs/0 15 {large}"),
        "print all are stored".to_owned(),
    ];
    write_full(&scene, "1MiB", &steps);
    let mut host = scene.run_ready().await;
    host.wait_for(Out, "source | five are stored").await;
    assert!(!host.lines().contain(Out, "all are stored"), "20 events have more than 1 MiB");
    write_full(&scene, "16MiB", &steps);
    host.hang_up();
    host.wait_for(Out, "source | all are stored").await;
    host.wait_for(Err, "nothing had to be replaced").await;
    assert_eq!(host.lines().count(Err, "in use"), 0);
}

#[tokio::test]
async fn one_file_is_one_broker_however_it_is_spelled() {
    let scene = Scene::memory();
    let folder = scene.folder();
    std::fs::create_dir(folder.join("data")).unwrap();
    std::os::unix::fs::symlink("data", folder.join("link")).unwrap();
    scene.write(
        r#"specversion = "0.2"

[[capability]]
name = "pubsub.disk"

[[capability.config]]
path = "data/store.db"
topic = "jobs/+"
delivery = "push"
components = ["handler"]

[[capability.config]]
path = "link/../link/./store.db"
publish = ["jobs/#"]
components = ["source"]

[[component]]
name = "handler"
path = "$GUESTS/faulty.wasm"

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["publish jobs/0 1 print it came"]
"#,
    );
    let mut host = scene.run();
    host.wait_for(Out, "handler | it came").await;
    // Another process does not get in by the other name either.
    let other = ["publish", "jobs/0", "-m", "x"];
    let mut second = scene.command(&other).start();
    second.expect_exit(2).await;
    let by = format!("is in use by process {}", host.id());
    assert!(second.lines().contain(Err, &by), "{}", second.lines().dump());
}

/// What the host is started by so that `folder` is a file system of its own, or
/// nothing where this machine does not allow that.
fn mounted(folder: &str, options: &str, then: &str) -> Option<[String; 6]> {
    let mut tried = Command::new("unshare");
    tried.args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    if !tried.output().is_ok_and(|tried| tried.status.success()) {
        return None;
    }
    let script = format!("mount -t tmpfs -o {options} tmpfs '{folder}' && {then} && exec \"$@\"");
    let words = ["unshare", "-rm", "sh", "-c", &script, "sh"];
    Some(words.map(str::to_owned))
}

#[allow(clippy::print_stderr, reason = "a test that was not run says so")]
fn skipped() {
    eprintln!("skipped: this machine does not let tests mount file systems of their own");
}

/// The host as [`mounted`] has it started.
fn run_by(scene: &Scene, program: &[String]) -> Host {
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    scene.command(&["run"]).started_by(&program).start()
}

/// Jobs in memory; each of them publishes something large to the store.
fn write_storing(scene: &Scene, store: &str, jobs: usize) {
    let large = "x".repeat(100_000);
    let job = |n| format!("publish jobs/0 1 publish out/0 1 {large}; print stored {n}.");
    let steps = json(&(0..jobs).map(job).collect::<Vec<_>>());
    scene.write(&format!(
        r#"specversion = "0.2"

[[capability]]
name = "pubsub.memory"

[[capability.config]]
queue = "jobs/+"
components = ["handler"]
delivery = "push"
retry = {{ backoff = "50ms", backoff_max = "200ms" }}
publish = []

[[capability.config]]
components = ["source"]
publish = ["jobs/#"]

[[capability]]
name = "pubsub.disk"

[[capability.config]]
path = "{store}"
topic = "out/+"
delivery = "pull"
components = ["holder"]

[[capability.config]]
path = "{store}"
publish = ["out/#"]
components = ["handler"]

[[component]]
name = "handler"
path = "$GUESTS/faulty.wasm"

[[component]]
name = "holder"
path = "$GUESTS/pulling-command.wasm"
args = ["ready out/+", "sleep 600000"]

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {steps}
"#
    ));
}

#[tokio::test]
async fn a_disk_that_is_full_is_said_and_survived() {
    const JOBS: usize = 60;
    let scene = Scene::memory();
    let disk = scene.folder().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let fill = format!("head -c 20M /dev/zero >'{}/filler'", disk.display());
    let Some(program) = mounted(&disk.to_string_lossy(), "size=24m", &fill) else {
        return skipped();
    };
    write_storing(&scene, "disk/store.db", JOBS);
    let mut host = run_by(&scene, &program);
    host.wait_for(Err, "the disk is full: make room there").await;
    let stored = host.lines().count(Out, "handler | stored");
    assert!(stored < JOBS, "there is no room for all");
    // It runs on, and does what needs no room.
    host.hang_up();
    host.wait_for(Err, "nothing had to be replaced").await;
    // What the host sees of it.
    let disk = disk.strip_prefix("/").unwrap().to_owned();
    let seen = PathBuf::from(format!("/proc/{}/root", host.id())).join(disk);
    std::fs::remove_file(seen.join("filler")).unwrap();
    host.wait_for(Err, "can be written again").await;
    for n in 0..JOBS {
        host.wait_for(Out, &format!("handler | stored {n}.")).await;
    }
    // Where the last bytes were left, something small got in between.
    let said = host.lines().count(Err, "what is published fails until that is over");
    assert_eq!(said, host.lines().count(Err, "can be written again"), "once for each outage");
    host.kill();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_one_clear_error() {
    let scene = Scene::memory();
    write_storing(&scene, "disk/store.db", 1);
    // In the place of the folder there is a file.
    let disk = scene.folder().join("disk");
    std::fs::write(&disk, "").unwrap();
    let mut host = scene.run();
    host.expect_exit(2).await;
    let errors = host.lines().of(Err);
    let named: Vec<_> = errors.iter().filter(|line| line.contains("disk")).collect();
    assert_eq!(named.len(), 1, "{errors:#?}");
    assert!(named[0].contains("cannot make the store's folder `"), "{errors:#?}");
    std::fs::remove_file(&disk).unwrap();
    std::fs::create_dir(&disk).unwrap();
    let Some(program) = mounted(&disk.to_string_lossy(), "ro,size=1m", "true") else {
        return skipped();
    };
    let mut host = run_by(&scene, &program);
    host.expect_exit(2).await;
    let errors = host.lines().of(Err);
    let named: Vec<_> = errors.iter().filter(|line| line.contains("Read-only")).collect();
    assert_eq!(named.len(), 1, "{errors:#?}");
    assert!(named[0].contains("cannot write the store `"), "{errors:#?}");
}
