//! A component whose instances cannot be started.

use crate::support::{Scene, drain, on_each_backend};
use testkit::Stream::{Err, Out};

on_each_backend!(
    a_component_that_cannot_start_leaves_its_queue_to_others,
    a_component_is_healthy_again_when_it_can_start,
);

const UNHEALTHY: &str = "unhealthy: an instance cannot be started";

/// `bad` has less memory than it begins with.
async fn a_component_that_cannot_start_leaves_its_queue_to_others(scene: Scene) {
    const COUNT: usize = 50;
    scene.write(&format!(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "jobs/+"
components = ["bad", "good"]
delivery = "push"
[[capability.config]]
components = ["source"]
[[component]]
name = "bad"
path = "$GUESTS/faulty.wasm"
memory_limit = "64KiB"
[[component]]
name = "good"
path = "$GUESTS/faulty.wasm"
instances = 1
[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["publish jobs/0 {COUNT} sleep 2; print done", "sleep 700", "publish jobs/0 1 print last"]
"#
    ));
    let mut host = scene.run();
    host.wait_for_count(Out, "good | done", COUNT).await;
    host.wait_for(Out, "good | last").await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "good | done"), COUNT, "each once");
    let lines = host.lines().of(Err);
    let said: Vec<_> = lines.iter().filter(|line| line.contains("unhealthy")).collect();
    assert_eq!(said.len(), 1, "said once: {said:#?}");
    assert!(said[0].contains("memory limit of 65536 bytes exceeded"), "{said:?}");
    assert!(said[0].contains("component=bad"), "{said:?}");
    assert!(!host.lines().contain(Err, "handler failed"), "no attempt was charged");
}

async fn a_component_is_healthy_again_when_it_can_start(scene: Scene) {
    let folder = scene.folder().join("data");
    std::fs::create_dir(&folder).unwrap();
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "jobs/+"
components = ["handler"]
delivery = "push"
[[capability.config]]
topic = "other"
components = ["other"]
delivery = "push"
[[capability.config]]
components = ["source"]
[[component]]
name = "handler"
path = "$GUESTS/faulty.wasm"
dirs = [{ host = "data", guest = "/data" }]
[[component]]
name = "other"
path = "$GUESTS/receiver.wasm"
[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = ["sleep 1000", "publish jobs/0 3 print done", "publish other 1 here"]
"#,
    );
    let mut host = scene.run_ready().await;
    std::fs::remove_dir(&folder).unwrap();
    host.wait_for(Err, UNHEALTHY).await;
    host.wait_for(Out, "other | received").await;
    assert!(!host.lines().contain(Out, "handler | done"));
    std::fs::create_dir(&folder).unwrap();
    host.wait_for(Err, "healthy again").await;
    host.wait_for_count(Out, "handler | done", 3).await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Err, UNHEALTHY), 1, "said once: {}", host.lines().dump());
    assert_eq!(host.lines().count(Out, "handler | done"), 3);
    assert!(!host.lines().contain(Err, "handler failed"), "no attempt was charged");
}
