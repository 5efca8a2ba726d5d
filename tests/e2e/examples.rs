//! Every example, with the configuration that lies beside it, and the same one
//! with mosquitto as its broker.

use crate::support::{Scene, drain, examples, on_each_backend, printed, printed_sorted};
use std::time::Duration;
use testkit::Host;
use testkit::Stream::{Err, Out};

on_each_backend!(
    publisher, receiver, puller, streamer, concurrent, pipeline, worker, raw, task_queue, routing,
);

/// Starts an example. The built-in broker gets the very file of the example.
fn start(scene: &Scene, name: &str) -> Host {
    let file = examples().join(name).join("capabilities.toml");
    if scene.is_memory() {
        return scene.command(&["run", "-c", &file.to_string_lossy()]).start();
    }
    let text = std::fs::read_to_string(&file).expect("the configuration of an example");
    let target = format!("path = \"{}/target/", examples().display());
    scene.write(&text.replace("path = \"../target/", &target));
    scene.run()
}

/// How the receiver prints an event of the publisher.
fn order(host: &Host, component: &str, number: u32) {
    let data = format!("data: \"order {number}\"");
    let lines = printed(host);
    let found: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with(&format!("{component} | ")) && line.contains(&data))
        .collect();
    let [line] = found.as_slice() else {
        panic!("one line with {data}, not {found:?}: {lines:#?}")
    };
    for part in [
        "Event { id: \"",
        "source: \"publisher\"",
        "type: \"com.example.order\"",
        "topic: \"orders/new\"",
        "attempt: 1",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

async fn publisher(scene: Scene) {
    let mut host = start(&scene, "publisher");
    host.expect_exit(0).await;
    assert_eq!(printed(&host), ["publisher | published 3 to orders/new"]);
}

async fn receiver(scene: Scene) {
    let mut host = start(&scene, "receiver");
    host.wait_for_count(Out, "receiver | received Event {", 3).await;
    host.wait_for(Out, "publisher | published 3 to orders/new").await;
    drain(&mut host).await;
    (1..=3).for_each(|number| order(&host, "receiver", number));
    assert_eq!(printed(&host).len(), 4);
}

async fn puller(scene: Scene) {
    let mut host = start(&scene, "puller");
    host.expect_exit(0).await;
    (1..=3).for_each(|number| order(&host, "puller", number));
    assert_eq!(host.lines().count(Out, "puller | received Event {"), 3);
}

async fn streamer(scene: Scene) {
    let mut host = start(&scene, "streamer");
    host.expect_exit(0).await;
    (1..=3).for_each(|number| order(&host, "streamer", number));
    assert_eq!(host.lines().count(Out, "streamer | streamed Event {"), 3);
}

async fn concurrent(scene: Scene) {
    let mut host = start(&scene, "concurrent");
    host.wait_for_count(Out, "concurrent | finished order", 10).await;
    drain(&mut host).await;
    let lines = printed(&host);
    let is = |line: &&String, what: &str| line.starts_with(&format!("concurrent | {what}"));
    let before_the_first_end = lines.iter().take_while(|line| !is(line, "finished"));
    let started = before_the_first_end.filter(|line| is(line, "started")).count();
    assert_eq!(started, 10, "all were in progress at once: {lines:#?}");
    assert_eq!(host.lines().count(Out, "concurrent | finished order"), 10);
}

async fn pipeline(scene: Scene) {
    let mut host = start(&scene, "pipeline");
    host.wait_for_count(Out, "receiver | received", 3).await;
    drain(&mut host).await;
    for number in 1..=3 {
        let line = format!("pipeline | writing the invoice for order {number}");
        assert_eq!(host.lines().count(Out, &line), 1, "{line}");
        let data = format!("data: \"invoice for order {number}\"");
        let lines = printed(&host);
        let invoice = lines.iter().find(|line| line.contains(&data)).expect("an invoice");
        for part in [
            "source: \"pipeline\"",
            "type: \"com.example.invoice\"",
            "content_type: \"text/plain\"",
            "attributes: {\"order\": \"",
            "topic: \"invoices/new\"",
        ] {
            assert!(invoice.contains(part), "{part} in {invoice}");
        }
    }
    assert_eq!(host.lines().count(Out, "receiver | received"), 3);
}

async fn worker(scene: Scene) {
    let mut host = start(&scene, "worker");
    host.expect_exit(0).await;
    assert_eq!(
        printed_sorted(&host),
        [
            "publisher | published 3 to orders/new",
            "worker | again: order 3 is not in stock yet",
            "worker | packed order 1, attempt 1",
            "worker | packed order 2, attempt 1",
            "worker | packed order 3, attempt 2",
        ]
    );
}

/// Of 60 tasks each is done, and none is done twice: what a worker that crashes had
/// begun is done by whoever gets it next.
async fn task_queue(scene: Scene) {
    let mut host = start(&scene, "task-queue");
    host.wait_for_count(Out, " | done: order ", 60).await;
    drain(&mut host).await;
    let lines = printed(&host);
    let done = |line: &String| {
        let (worker, task) = line.split_once(" | done: ")?;
        let (task, attempt) = task.split_once(", attempt ")?;
        Some((worker.to_owned(), task.to_owned(), attempt.parse::<u32>().ok()?))
    };
    let done: Vec<_> = lines.iter().filter_map(done).collect();
    let mut tasks: Vec<_> = done.iter().map(|(_, task, _)| task.clone()).collect();
    tasks.sort();
    let mut expected: Vec<_> = (1..=60).map(|number| format!("order {number}")).collect();
    expected.sort();
    assert_eq!(tasks, expected, "each task is done once");
    for worker in ["steady", "slow", "crashing"] {
        assert!(done.iter().any(|(by, ..)| by == worker), "{worker} took part: {lines:#?}");
    }
    let crashes = host.lines().count(Err, "component=crashing");
    assert!(crashes > 0, "it has crashed: {}", host.lines().dump());
    let repeated = done.iter().filter(|(.., attempt)| *attempt > 1).count();
    assert!((1..=crashes).contains(&repeated), "{repeated} were repeated after {crashes} crashes");
}

async fn routing(scene: Scene) {
    let mut host = start(&scene, "routing");
    host.expect_exit(0).await;
    let lines = printed(&host);
    assert_eq!(lines[0], "routing | 32 events of 4 topics: each of 4 users got what is theirs");
}

/// A thousand users and a thousand topics.
#[tokio::test]
async fn routing_to_many() {
    let scene = Scene::memory();
    let text = routing_configuration("1000", "1000", "10");
    let target = format!("path = \"{}/target/", examples().display());
    scene.write(&text.replace("path = \"../target/", &target));
    let mut host = scene.run();
    host.expect_exit(0).await;
    let lines = printed(&host);
    let all = "routing | 10000 events of 1000 topics: each of 1000 users got what is theirs";
    assert_eq!(lines[0], all, "{lines:?}");
}

/// A host that starts later reads what was published before.
#[tokio::test]
async fn replay_by_another_host() {
    let scene = Scene::disk();
    for (file, last) in [("capabilities.toml", PUBLISHED), ("late.toml", HISTORY)] {
        scene.write(&replay_configuration(file));
        let mut host = scene.run();
        host.expect_exit(0).await;
        assert_eq!(printed(&host).last().map(String::as_str), Some(last));
    }
}

/// A component that joins later, in the same host.
#[tokio::test]
async fn replay_after_a_reload() {
    for scene in [Scene::memory(), Scene::disk()] {
        scene.write(&replay_configuration("capabilities.toml"));
        let mut host = scene.command(&["run", "--watch"]).start();
        host.wait_for(Out, PUBLISHED).await;
        scene.write(&replay_configuration("late.toml"));
        host.wait_for(Out, HISTORY).await;
        drain(&mut host).await;
        let orders: Vec<_> = (1..=3).map(|number| format!("replay | order {number}")).collect();
        assert_eq!(printed(&host)[1..4], orders);
    }
}

const PUBLISHED: &str = "publisher | published 3 to orders/new";
const HISTORY: &str = "replay | the history has 3 orders";

/// One of the files of `replay`, for the broker of a scene.
fn replay_configuration(file: &str) -> String {
    let text = std::fs::read_to_string(examples().join("replay").join(file)).expect("a file");
    let target = format!("path = \"{}/target/wasm", examples().display());
    text.replace("path = \"../target/replay.pubsub\"\n", "")
        .replace("pubsub.disk", "pubsub.memory")
        .replace("path = \"../target/wasm", &target)
}

/// The file beside the example comes from the script.
#[test]
fn the_script_of_routing_wrote_its_configuration() {
    let folder = examples().join("routing");
    let written = routing_configuration("4", "4", "8");
    let there = std::fs::read_to_string(folder.join("capabilities.toml")).expect("a configuration");
    assert_eq!(written, there);
}

fn routing_configuration(users: &str, topics: &str, events: &str) -> String {
    let script = examples().join("routing/capabilities.sh");
    let output =
        std::process::Command::new("sh").arg(script).args([users, topics, events]).output();
    String::from_utf8(output.expect("a shell").stdout).expect("text")
}

async fn raw(scene: Scene) {
    let mut host = start(&scene, "raw");
    host.wait_for_count(Out, "raw | received", 3).await;
    host.wait_for(Out, "publisher | published").await;
    drain(&mut host).await;
    assert_eq!(
        printed_sorted(&host),
        [
            "publisher | published 3 to orders/new",
            "raw | received com.example.order from publisher: order 1",
            "raw | received com.example.order from publisher: order 2",
            "raw | received com.example.order from publisher: order 3",
        ]
    );
}

/// One test for both backends: compiling an interpreter takes long, and needs to
/// happen once.
#[tokio::test]
async fn python_receiver() {
    let file = examples().join("target/python_receiver.wasm");
    assert!(
        file.is_file(),
        "{} is missing: guest-examples/README.md says how to build it",
        file.display()
    );
    let memory = Scene::memory();
    let inspected = memory.command(&["inspect", &file.to_string_lossy()]).start();
    let is_compiled = || inspected.lines().complete();
    testkit::eventually(COMPILE_DEADLINE, "the interpreter is compiled", is_compiled).await;
    for scene in [memory, Scene::mosquitto().await] {
        let mut host = start(&scene, "python-receiver");
        host.wait_for_count(Out, "receiver | received Event {", 3).await;
        drain(&mut host).await;
        for number in 1..=3 {
            let line =
                format!("python-receiver | python received com.example.order 'order {number}'");
            assert_eq!(host.lines().count(Out, &line), 1, "{line}");
            let greeting = format!("data: \"hello, order {number}\"");
            assert_eq!(host.lines().count(Out, &greeting), 1, "{greeting}");
        }
        assert!(!host.lines().contain(Err, "handler failed"), "{}", host.lines().dump());
    }
}

const COMPILE_DEADLINE: Duration = Duration::from_secs(180);

/// The background of all this: two files, one command, no configuration.
#[tokio::test]
async fn two_components_without_a_configuration() {
    let scene = Scene::memory();
    let guests = crate::support::guests();
    let [publisher, receiver] =
        ["publisher.wasm", "receiver.wasm"].map(|file| guests.join(file).display().to_string());
    let mut host = scene.command(&["run", &publisher, &receiver]).start();
    host.wait_for_count(Out, "receiver | received Event {", 3).await;
    host.wait_for(Out, "publisher | published").await;
    drain(&mut host).await;
    (1..=3).for_each(|number| order(&host, "receiver", number));
    assert!(host.lines().contain(Err, "built-in broker"), "it says which broker is used");
}
