//! The trace context of an event goes on with what its handler publishes, without
//! any configuration.

use crate::support::{Scene, drain, on_each_backend};
use testkit::Host;
use testkit::Stream::{Err, Out};

on_each_backend!(
    the_context_of_an_event_goes_on,
    the_context_of_an_event_goes_on_from_an_asynchronous_handler,
    a_handler_may_set_its_own,
    what_is_malformed_does_not_go_on,
);

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// The source publishes to `tag/1`, from where one handler publishes with the
/// attributes that the payload says; what comes to `jobs/…` another handler does;
/// what comes to `out/…` is printed.
fn write(scene: &Scene, guest: &str, events: &[String]) {
    let steps: Vec<_> = events.iter().map(|event| format!("publish tag/1 1 {event}")).collect();
    let steps = serde_json::to_string(&steps).unwrap();
    scene.write(&format!(
        r##"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
queue = "tag/1"
group = "first"
components = ["first"]
delivery = "push"
[[capability.config]]
queue = "tag/2"
group = "second"
components = ["second"]
delivery = "push"
[[capability.config]]
queue = "jobs/+"
components = ["handler"]
delivery = "push"
[[capability.config]]
queue = "out/+"
group = "printer"
components = ["printer"]
delivery = "push"
[[capability.config]]
components = ["source", "first", "second", "handler"]
publish = ["#"]
[[component]]
name = "first"
path = "$GUESTS/tagging.wasm"
[[component]]
name = "second"
path = "$GUESTS/tagging.wasm"
[[component]]
name = "handler"
path = "$GUESTS/{guest}.wasm"
[[component]]
name = "printer"
path = "$GUESTS/receiver.wasm"
[[component]]
name = "source"
path = "$GUESTS/faulty-command.wasm"
args = {steps}
"##
    ));
}

/// What is printed of the event with this payload.
async fn printed(host: &mut Host, data: &str) -> String {
    let data = format!("data: {data:?}");
    host.wait_for(Out, &data).await;
    host.lines().of(Out).into_iter().find(|line| line.contains(&data)).unwrap()
}

async fn goes_on(scene: Scene, guest: &str) {
    let events = [
        format!("jobs/1 traceparent={PARENT} tracestate=a=1,b=2 region=eu | publish out/1 1 with"),
        "jobs/1 region=eu | publish out/1 1 without".to_owned(),
    ];
    write(&scene, guest, &events);
    let mut host = scene.run();
    let with = printed(&mut host, "with").await;
    assert!(with.contains(&format!(r#""traceparent": "{PARENT}""#)), "{with}");
    assert!(with.contains(r#""tracestate": "a=1,b=2""#), "{with}");
    assert!(!with.contains("region"), "nothing else goes on: {with}");
    let without = printed(&mut host, "without").await;
    assert!(!without.contains("trace"), "nothing is made up: {without}");
    drain(&mut host).await;
    assert!(!host.lines().contain(Err, "WARN"), "{}", host.lines().dump());
}

async fn the_context_of_an_event_goes_on(scene: Scene) {
    goes_on(scene, "faulty").await;
}

async fn the_context_of_an_event_goes_on_from_an_asynchronous_handler(scene: Scene) {
    goes_on(scene, "faulty_async").await;
}

async fn a_handler_may_set_its_own(scene: Scene) {
    let event =
        format!("tag/2 traceparent={PARENT} tracestate=a=1 | out/1 traceparent={OTHER} | its own");
    write(&scene, "faulty", &[event]);
    let mut host = scene.run();
    let line = printed(&mut host, "its own").await;
    assert!(line.contains(OTHER) && !line.contains(PARENT), "{line}");
    assert!(!line.contains("tracestate"), "the state belongs to the other: {line}");
    drain(&mut host).await;
}

async fn what_is_malformed_does_not_go_on(scene: Scene) {
    let malformed = PARENT.replace("00f067aa0ba902b7", "0000000000000000");
    let event = format!("jobs/1 traceparent={malformed} tracestate=a=1 | publish out/1 1 after");
    write(&scene, "faulty", &[event]);
    let mut host = scene.run();
    let line = printed(&mut host, "after").await;
    assert!(!line.contains("trace"), "{line}");
    drain(&mut host).await;
}
