//! `check`

use crate::components::COMMAND;
use crate::support::{Jobs, Scene};
use crate::{done, failed};

#[tokio::test]
async fn a_good_configuration_is_summed_up() {
    let scene = Scene::memory();
    Jobs::default().write(&scene);
    let text = done(&scene, &["check"]).await;
    for part in [
        "queue `jobs/+` of group wasi-pubsub, qos 1, pushed to handler\n",
        "topic `dead/+`, qos 1, pushed to letters\n",
        "handler handler: ",
        "command source: ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.ends_with("ok\n"), "{text}");
}

#[tokio::test]
async fn order_and_filter_are_said() {
    let scene = Scene::memory();
    let binding = "order = \"key\"\norder_by = \"topic.2\"\nfilter = 'attributes:region'";
    Jobs { binding, ..Jobs::default() }.write(&scene);
    let text = done(&scene, &["check"]).await;
    let wanted = "qos 1, order key (topic.2), pushed to handler, where attributes:region\n";
    assert!(text.contains(wanted), "{text}");
}

#[tokio::test]
async fn components_can_be_named_beside_those_of_the_file() {
    let scene = Scene::memory();
    Jobs::default().write(&scene);
    std::fs::write(scene.folder().join("tiny.wat"), COMMAND).unwrap();
    let text = done(&scene, &["check", "tiny.wat"]).await;
    assert!(
        text.contains("command tiny: tiny.wat\n") && text.contains("command source: "),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_run_or_connected() {
    let scene = Scene::memory();
    let port = testkit::free_port();
    scene.write(&format!(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.mqtt\"\n[[capability.config]]\n\
         url = \"tcp://127.0.0.1:{port}\"\npassword = \"${{PASSWORD}}\"\nusername = \"me\"\n\
         [[component]]\npath = \"$GUESTS/publisher.wasm\"\n"
    ));
    let mut host = scene.command(&["check"]).env("PASSWORD", "hush").start();
    host.expect_exit(0).await;
    let text = host.lines().dump();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(!text.contains("hush") && !text.contains("published"), "{text}");
}

#[tokio::test]
async fn all_problems_are_reported_at_once_with_their_places() {
    let scene = Scene::memory();
    scene.write(
        r#"specversion = "0.2"

[[capability]]
name = "pubsub.memory"

[[capability.config]]
queue = "jobs/#/x"
delivery = "psh"
qos = 3
retry = { max_attemps = 3 }

[[component]]
path = "nowhere.wasm"
timeout = 5
"#,
    );
    let text = failed(&scene, &["check"], 2).await;
    for problem in [
        "capabilities.toml:7:9: capability.config.queue: ",
        "capabilities.toml:8:12: capability.config.delivery: found \"psh\", expected \"push\" or \"pull\"",
        "help: did you mean \"push\"?",
        "capabilities.toml:9:7: capability.config.qos: found 3, expected 0, 1 or 2",
        "capabilities.toml:10:11: capability.config.retry.max_attemps: unknown key `max_attemps`",
        "help: did you mean `max_attempts`?",
        "capabilities.toml:14:11: component.timeout: found 5, expected a duration",
        "help: did you mean \"5s\"?",
        "8 | delivery = \"psh\"\n",
        "  |            ^^^^^\n",
    ] {
        assert!(text.contains(problem), "{problem} in\n{text}");
    }
    assert_eq!(text, failed(&scene, &["run"], 2).await, "`run` says the same");
}

#[tokio::test]
async fn problems_of_components_and_bindings_come_together() {
    let scene = Scene::memory();
    scene.write(
        r#"specversion = "0.2"

[[capability]]
name = "pubsub.memory"

[[capability.config]]
topic = "jobs/+"
components = ["publisher"]
delivery = "push"

[[component]]
path = "$GUESTS/publisher.wasm"

[[component]]
path = "nowhere.wasm"
"#,
    );
    let text = failed(&scene, &["check"], 2).await;
    for problem in [
        "component `publisher` does not export `wasi:pubsub-data/on-message`",
        "component `nowhere` cannot be used: ",
        "nowhere.wasm",
    ] {
        assert!(text.contains(problem), "{problem} in\n{text}");
    }
    let places = text.lines().filter(|line| line.starts_with("capabilities.toml:")).count()
        + text.lines().filter(|line| line.starts_with("error: capabilities.toml:")).count();
    assert_eq!(places, 2, "{text}");
}

#[tokio::test]
async fn a_function_that_no_binding_serves() {
    let scene = Scene::memory();
    scene.write(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]\n\
         publish = []\n[[component]]\npath = \"$GUESTS/publisher.wasm\"\n[[component]]\n\
         path = \"$GUESTS/puller.wasm\"\n[[component]]\npath = \"$GUESTS/receiver.wasm\"\n",
    );
    let text = failed(&scene, &["check"], 2).await;
    for part in [
        "component `publisher` imports `publish`, but no binding lets it publish anything",
        "component `puller` imports `receive`, but no binding gives it a subscription",
        "component `receiver` handles events, but no binding pushes any to it",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
