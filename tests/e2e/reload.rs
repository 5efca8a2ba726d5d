//! Reloading: the new version gets new events, the old one finishes what it has,
//! nothing is lost and nothing handled twice, and a mistake changes nothing.
//!
//! The old version of a handler is `faulty`, which does what its event says; the
//! new one is `receiver`, which prints it. So each event shows who handled it.

use crate::support::{Scene, drain, on_each_backend, printed};
use std::collections::BTreeMap;
use testkit::Host;
use testkit::Stream::{Err, Out};

on_each_backend!(
    a_handler_replaced_under_load_handles_each_event_once,
    what_the_old_version_has_is_finished_while_the_new_one_works,
    what_outlasts_the_drain_time_goes_to_the_new_version,
    a_subscription_is_added_and_one_is_removed,
    another_retry_policy_loses_nothing_of_a_queue,
    another_retry_policy_loses_nothing_of_a_topic,
    a_command_is_told_to_end_before_the_next_one_begins,
    what_a_component_is_granted_changes,
);

/// A handler of `jobs/+` behind the file `handler.wasm`, and a source of events.
struct Config<'a> {
    top: &'a str,
    kind: &'a str,
    binding: &'a str,
    component: &'a str,
    /// How many events there are, and what the old version does for each.
    events: (usize, &'a str),
    more: &'a str,
}

impl Default for Config<'_> {
    fn default() -> Self {
        let retry = "retry = { backoff = \"10ms\", backoff_max = \"10ms\" }";
        Self {
            top: "",
            kind: "queue",
            binding: retry,
            component: "instances = 2",
            events: (0, ""),
            more: "",
        }
    }
}

impl Config<'_> {
    fn write(&self, scene: &Scene) {
        let Self { top, kind, binding, component, events: (count, step), more } = self;
        let steps: Vec<_> =
            (0..*count).map(|n| format!("publish jobs/0 1 {step}print done {n}.")).collect();
        let steps = serde_json::to_string(&steps).unwrap();
        scene.write(&format!(
            r#"specversion = "0.2"
{top}
[[capability]]
name = "pubsub.memory"

[[capability.config]]
{kind} = "jobs/+"
components = ["handler"]
delivery = "push"
{binding}

[[capability.config]]
components = ["source"]
publish = ["jobs/#", "more/#"]

[[component]]
name = "handler"
path = "handler.wasm"
{component}

[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {steps}
{more}"#
        ));
    }
}

/// How often each event was handled, by either version.
fn handled(host: &Host) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in printed(host).iter().filter(|line| line.starts_with("handler | ")) {
        if let Some(at) = line.find("done ") {
            let number: String = line[at + 5..].chars().take_while(char::is_ascii_digit).collect();
            *counts.entry(number).or_default() += 1;
        }
    }
    counts
}

fn each_once(host: &Host, count: usize) {
    let counts = handled(host);
    let wrong: Vec<_> = counts.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "handled more than once: {wrong:?}\n{}", host.lines().dump());
    assert_eq!(counts.len(), count, "events are missing:\n{}", host.lines().dump());
}

async fn reload(host: &mut Host, times: usize) {
    host.hang_up();
    host.wait_for_count(Err, " reloaded: ", times).await;
}

const OLD: &str = "handler | done";
const NEW: &str = "handler | received";

async fn a_handler_replaced_under_load_handles_each_event_once(scene: Scene) {
    const COUNT: usize = 400;
    scene.install("faulty", "handler.wasm");
    Config { events: (COUNT, "sleep 4; "), ..Config::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, OLD, 20).await;
    scene.install("receiver", "handler.wasm");
    reload(&mut host, 1).await;
    assert!(host.lines().contain(Err, "component `handler` replaced"), "{}", host.lines().dump());
    host.wait_for_count(Out, "done ", COUNT).await;
    if scene.has_broker() {
        // After the switch was said, nothing goes to the old version any more.
        scene.publish(&["jobs/0", "-m", "print done 9999."], "").await;
        host.wait_for(Out, "done 9999.").await;
        assert!(!host.lines().contain(Out, "handler | done 9999."));
    }
    drain(&mut host).await;
    each_once(&host, COUNT + usize::from(scene.has_broker()));
    let (old, new) = (host.lines().count(Out, OLD), host.lines().count(Out, NEW));
    assert!(old >= 20 && new >= 1, "{old} by the old version, {new} by the new one");
    assert_eq!(host.lines().count(Err, " ready"), 1, "said once");
}

async fn what_the_old_version_has_is_finished_while_the_new_one_works(scene: Scene) {
    scene.install("faulty", "handler.wasm");
    let more = "[[component]]\nname = \"slow\"\npath = \"$GUESTS/faulty-command.wasm\"\n\
                  args = [\"publish jobs/0 1 print begun; sleep 2500; print done 0.\", \"sleep 1500\", \
                  \"publish jobs/0 1 done 1.\"]";
    Config { more, ..Config::default() }.write(&scene);
    let text = std::fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
    let text = text.replace("components = [\"source\"]", "components = [\"source\", \"slow\"]");
    std::fs::write(scene.folder().join("capabilities.toml"), text).unwrap();
    let mut host = scene.run();
    host.wait_for(Out, "handler | begun").await;
    scene.install("receiver", "handler.wasm");
    reload(&mut host, 1).await;
    host.wait_for(Out, "handler | received").await;
    assert!(!host.lines().contain(Out, OLD), "the new version has not waited for the old one");
    host.wait_for(Out, "handler | done 0.").await;
    drain(&mut host).await;
    each_once(&host, 2);
}

async fn what_outlasts_the_drain_time_goes_to_the_new_version(scene: Scene) {
    scene.install("faulty", "handler.wasm");
    let component = "instances = 1\ntimeout = \"1m\"";
    let top = "drain = \"300ms\"";
    let events = (1, "print begun; sleep 50000; ");
    Config { top, component, events, ..Config::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | begun").await;
    scene.install("receiver", "handler.wasm");
    reload(&mut host, 1).await;
    host.wait_for(Out, NEW).await;
    assert!(host.lines().contain(Err, "the drain time is over"), "{}", host.lines().dump());
    drain(&mut host).await;
    assert!(!host.lines().contain(Out, OLD));
}

async fn a_subscription_is_added_and_one_is_removed(scene: Scene) {
    let more = |topic: &str| {
        format!(
            "[[capability]]\nname = \"pubsub.memory\"\nid = \"more\"\n[[capability.config]]\n\
             topic = \"{topic}\"\ncomponents = [\"other\"]\ndelivery = \"push\"\npublish = []\n\
             [[component]]\nname = \"other\"\npath = \"$GUESTS/receiver.wasm\"\n"
        )
    };
    scene.install("faulty", "handler.wasm");
    scene.install("faulty-command", "late.wasm");
    // It runs again whenever its file changes, and publishes to both.
    let late = "[[component]]\nname = \"late\"\npath = \"late.wasm\"\n\
                args = [\"publish jobs/0 1 print done 0.\", \"publish more/0 1 here\"]\n";
    let write = |more: &str| {
        Config { more: &format!("{late}{more}"), ..Config::default() }.write(&scene);
        let text = std::fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
        let text = text.replace("components = [\"source\"]", "components = [\"source\", \"late\"]");
        std::fs::write(scene.folder().join("capabilities.toml"), text).unwrap();
    };
    write("");
    let mut host = scene.command(&["run", "--watch"]).start();
    host.wait_for_count(Out, OLD, 1).await;
    write(&more("more/+"));
    host.wait_for(Err, "subscription `other/more/+` added").await;
    assert_eq!(host.lines().count(Out, OLD), 1, "a command that has ended is not run again");

    std::fs::write(scene.folder().join("late.wasm"), other_bytes("faulty-command")).unwrap();
    host.wait_for(Err, "component `late` replaced").await;
    host.wait_for(Out, "other | received").await;
    host.wait_for_count(Out, OLD, 2).await;

    write("");
    host.wait_for(Err, "subscription `other/more/+` removed").await;
    assert!(host.lines().contain(Err, "component `other` removed"), "{}", host.lines().dump());
    drain(&mut host).await;
    assert_eq!(host.lines().count(Err, " reloaded: "), 3, "{}", host.lines().dump());
    assert_eq!(host.lines().count(Out, "other | received"), 1);
}

/// The same component, in other bytes: with a custom section at its end.
fn other_bytes(guest: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(crate::support::guests().join(format!("{guest}.wasm"))).unwrap();
    bytes.extend_from_slice(&[0, 2, 1, b'x']);
    bytes
}

async fn another_retry_policy_loses_nothing(scene: &Scene, kind: &str) {
    const COUNT: usize = 60;
    scene.install("faulty", "handler.wasm");
    let binding = |backoff: &str| {
        format!(
            "retry = {{ backoff = \"{backoff}\", backoff_max = \"{backoff}\" }}\nmax_in_flight = 4"
        )
    };
    let events = (COUNT, "print try; sleep 20; ");
    let first = binding("1ms");
    Config { kind, binding: &first, events, ..Config::default() }.write(scene);
    let mut host = scene.run();
    host.wait_for_count(Out, OLD, 5).await;
    let second = binding("2ms");
    Config { kind, binding: &second, events, ..Config::default() }.write(scene);
    reload(&mut host, 1).await;
    assert!(host.lines().contain(Err, "jobs/+` replaced"), "{}", host.lines().dump());
    host.wait_for_count(Out, OLD, COUNT).await;
    drain(&mut host).await;
    each_once(&host, COUNT);
    assert_eq!(host.lines().count(Out, "handler | try"), COUNT, "nothing was tried twice");
}

async fn another_retry_policy_loses_nothing_of_a_queue(scene: Scene) {
    another_retry_policy_loses_nothing(&scene, "queue").await;
}

async fn another_retry_policy_loses_nothing_of_a_topic(scene: Scene) {
    another_retry_policy_loses_nothing(&scene, "topic").await;
}

fn write_puller(scene: &Scene) {
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "user/+"
components = ["puller"]
delivery = "pull"
[[capability.config]]
components = ["source"]
[[component]]
name = "puller"
path = "puller.wasm"
args = ["user/+"]
[[component]]
name = "source"
path = "source.wasm"
args = ["publish user/1 2 ada"]
"#,
    );
}

async fn a_command_is_told_to_end_before_the_next_one_begins(scene: Scene) {
    scene.install("user-puller", "puller.wasm");
    scene.install("faulty-command", "source.wasm");
    write_puller(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, "puller | received ada from user/1", 2).await;
    scene.install("puller", "puller.wasm");
    reload(&mut host, 1).await;
    host.wait_for(Err, "the old command has ended").await;
    std::fs::write(scene.folder().join("source.wasm"), other_bytes("faulty-command")).unwrap();
    reload(&mut host, 2).await;
    host.wait_for_count(Out, "puller | received Event", 2).await;
    host.terminate();
    host.expect_exit(0).await;
    let lines = printed(&host);
    assert_eq!(lines.len(), 4, "what the old one had was acknowledged: {lines:#?}");
}

async fn what_a_component_is_granted_changes(scene: Scene) {
    let write = |grant: &str, wait: &str| {
        scene.write(&format!(
            r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
topic = "out/+"
components = ["sink"]
delivery = "push"
[[capability.config]]
components = ["source"]
publish = ["{grant}"]
[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["print begun", "sleep {wait}", "publish out/1 1 granted"]
[[component]]
name = "sink"
path = "$GUESTS/receiver.wasm"
"#
        ));
    };
    write("nothing", "2000");
    let mut host = scene.run();
    host.wait_for(Out, "source | begun").await;
    write("out/#", "2000");
    reload(&mut host, 1).await;
    assert!(host.lines().contain(Err, "nothing had to be replaced"), "{}", host.lines().dump());
    host.wait_for(Out, "sink | received").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "source | begun"), 1, "the command ran on");
}

/// Each mistake is refused with its whole error, and the old version works on;
/// when it is mended, that is a change like any other.
#[tokio::test]
async fn a_mistake_is_refused_and_the_old_version_runs_on() {
    let scene = Scene::mosquitto().await;
    scene.install("faulty", "handler.wasm");
    Config::default().write(&scene);
    let config = std::fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
    std::fs::write(scene.folder().join("right.toml"), &config).unwrap();
    let mut host = scene.command(&["run", "--watch"]).start();
    host.wait_for(Err, " ready").await;

    let module = b"\0asm\x01\0\0\0".to_vec();
    let truncated = {
        let whole = std::fs::read(crate::support::guests().join("receiver.wasm")).unwrap();
        whole[..whole.len() / 2].to_vec()
    };
    let command = std::fs::read(crate::support::guests().join("faulty-command.wasm")).unwrap();
    let mistakes: [(&str, Vec<u8>, &str); 6] = [
        ("handler.wasm", b"no component".to_vec(), "this is no WebAssembly file"),
        ("handler.wasm", module, "a core WebAssembly module, not a component"),
        ("handler.wasm", truncated, "it is not valid"),
        ("handler.wasm", command, "component `handler` does not export"),
        (
            "capabilities.toml",
            b"specversion = \"0.2\"\nwrong = 1\n".to_vec(),
            "unknown key `wrong`",
        ),
        ("capabilities.toml", format!("{config}\nbroken = [").into_bytes(), "capabilities.toml"),
    ];
    for (n, (file, contents, message)) in mistakes.iter().enumerate() {
        let path = scene.folder().join(file);
        let right = std::fs::read(&path).unwrap();
        std::fs::write(&path, contents).unwrap();
        host.wait_for_count(Err, "keeping the version that runs", n + 1).await;
        host.wait_for(Err, message).await;
        let event = format!("print done {n}.");
        scene.publish(&["-c", "right.toml", "jobs/0", "-m", &event], "").await;
        host.wait_for(Out, &format!("handler | done {n}.")).await;
        std::fs::write(&path, right).unwrap();
        host.wait_for_count(Err, "reloaded: nothing had to be replaced", n + 1).await;
    }
    scene.install("receiver", "handler.wasm");
    host.wait_for(Err, "component `handler` replaced").await;
    scene.publish(&["jobs/0", "-m", "print done 99."], "").await;
    host.wait_for(Out, NEW).await;
    drain(&mut host).await;
    each_once(&host, mistakes.len() + 1);
}

#[tokio::test]
async fn what_is_written_without_a_change_is_not_reloaded() {
    let scene = Scene::memory();
    scene.install("faulty", "handler.wasm");
    Config::default().write(&scene);
    let mut host = scene.command(&["run", "--watch"]).start();
    host.wait_for(Err, "ready").await;
    scene.install("faulty", "handler.wasm");
    let path = scene.folder().join("capabilities.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text).unwrap();
    // A change after that is the first that is reloaded.
    std::fs::write(&path, text.replace("instances = 2", "instances = 3")).unwrap();
    host.wait_for(Err, " reloaded: component `handler` replaced").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Err, " reloading: "), 1, "{}", host.lines().dump());
}

/// A subscription that no broker confirms holds up the new version, not the old one.
#[tokio::test]
async fn a_stop_during_a_reload_drains_as_always() {
    let scene = Scene::memory();
    scene.install("faulty", "handler.wasm");
    let events = (1, "print begun; sleep 1500; ");
    Config { events, ..Config::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Out, "handler | begun").await;
    let more = "[[capability]]\nname = \"pubsub.mqtt\"\n[[capability.config]]\n\
                url = \"tcp://127.0.0.1:1\"\ntopic = \"more\"\ncomponents = [\"handler\"]\n\
                delivery = \"push\"\npublish = []\n";
    Config { events, more, ..Config::default() }.write(&scene);
    host.hang_up();
    host.wait_for(Err, "cannot reach the broker").await;
    host.terminate();
    host.expect_exit(0).await;
    each_once(&host, 1);
    assert!(!host.lines().contain(Err, "reloaded"), "{}", host.lines().dump());
}

/// Nothing has changed when a broker is not there after the longest time.
#[tokio::test]
async fn a_broker_that_is_not_there_refuses_the_new_version() {
    let mut scene = Scene::mosquitto().await;
    scene.install("faulty", "handler.wasm");
    Config::default().write(&scene);
    let mut host = scene.run();
    host.wait_for(Err, " ready").await;
    let text = std::fs::read_to_string(scene.folder().join("capabilities.toml")).unwrap();
    let url = format!("url = \"{}\"", scene.broker().url());
    let elsewhere = text.replace(&url, "url = \"tcp://127.0.0.1:1\"");
    assert_ne!(text, elsewhere);
    std::fs::write(scene.folder().join("capabilities.toml"), elsewhere).unwrap();
    host.hang_up();
    host.wait_for(Err, "keeping the version that runs").await;
    host.wait_for(Err, "was not confirmed within 10s").await;
    std::fs::write(scene.folder().join("capabilities.toml"), text).unwrap();
    scene.publish(&["jobs/0", "-m", "print done 0."], "").await;
    host.wait_for(Out, "handler | done 0.").await;
    drain(&mut host).await;
    each_once(&host, 1);
}

/// The new connection has the client identifiers of the old one.
#[tokio::test]
async fn a_broker_that_is_reached_in_another_way_takes_over_the_sessions() {
    const COUNT: usize = 100;
    let mut scene = Scene::mosquitto().await;
    scene.install("faulty", "handler.wasm");
    let component = "instances = 1";
    Config { component, ..Config::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for(Err, " ready").await;
    let lines: String = (0..COUNT).map(|n| format!("sleep 3; print done {n}.\n")).collect();
    scene.publish(&["jobs/0", "--lines"], &lines).await;
    host.wait_for_count(Out, OLD, 5).await;
    let url = scene.broker().url();
    scene.set_connection(format!("url = \"{url}\"\nkeep_alive = \"20s\""));
    Config { component, ..Config::default() }.write(&scene);
    reload(&mut host, 1).await;
    host.wait_for_count(Out, OLD, COUNT).await;
    drain(&mut host).await;
    each_once(&host, COUNT);
    assert!(!host.lines().contain(Err, "another client"), "{}", host.lines().dump());
}

/// The first version cannot begin, as its broker is not there; the next one can.
#[tokio::test]
async fn a_reload_can_mend_a_start_that_waits() {
    let scene = Scene::memory();
    scene.install("faulty", "handler.wasm");
    Config { events: (1, ""), ..Config::default() }.write(&scene);
    let path = scene.folder().join("capabilities.toml");
    let right = std::fs::read_to_string(&path).unwrap();
    let wrong = right
        .replace("\"pubsub.memory\"", "\"pubsub.mqtt\"")
        .replace("[[capability.config]]", "[[capability.config]]\nurl = \"tcp://127.0.0.1:1\"");
    std::fs::write(&path, wrong).unwrap();
    let mut host = scene.run();
    host.wait_for(Err, "cannot reach the broker").await;
    std::fs::write(&path, right).unwrap();
    host.hang_up();
    host.wait_for(Err, " ready").await;
    host.wait_for(Out, "handler | done 0.").await;
    drain(&mut host).await;
    each_once(&host, 1);
}

/// With `--watch` the host waits for a new version when all commands have ended.
#[tokio::test]
async fn a_command_that_has_failed_can_be_mended() {
    let scene = Scene::memory();
    let write = |step: &str| {
        scene.write(&format!(
            "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n\
             [[capability.config]]\n[[component]]\nname = \"command\"\n\
             path = \"command.wasm\"\nargs = [\"{step}\"]\n"
        ));
    };
    scene.install("faulty-command", "command.wasm");
    write("fail on purpose");
    let mut host = scene.command(&["run", "--watch"]).start();
    host.wait_for(Err, "everything has ended; waiting for a change").await;
    write("print another");
    host.wait_for(Err, "component `command` replaced").await;
    write("print mended");
    std::fs::write(scene.folder().join("command.wasm"), other_bytes("faulty-command")).unwrap();
    host.wait_for(Out, "command | mended").await;
    drain(&mut host).await;
    assert_eq!(printed(&host), ["command | mended"], "with its new file, and only then");
}

#[tokio::test]
async fn a_dead_letter_topic_that_a_reload_brings_is_kept() {
    let mut scene = Scene::mosquitto().await;
    scene.install("faulty", "handler.wasm");
    Config::default().write(&scene);
    let mut host = scene.run();
    host.wait_for(Err, " ready").await;
    Config { binding: "dead_letter = \"dead/jobs\"", ..Config::default() }.write(&scene);
    reload(&mut host, 1).await;
    scene.publish(&["jobs/0", "-m", "reject no good"], "").await;
    host.wait_for(Err, "handler failed").await;
    // The acknowledgement comes after the letter.
    drain(&mut host).await;
    scene.broker().idle().await;
    let mut list = scene.command(&["dead", "list", "--json"]).start();
    list.expect_exit(0).await;
    let letters = printed(&list);
    assert!(letters.len() == 1 && letters[0].contains("no good"), "{letters:?}");
}
