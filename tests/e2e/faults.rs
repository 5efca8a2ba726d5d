//! What a fault of a guest costs: its own instance, and nothing else.

use crate::support::{Jobs, Scene, drain, on_each_backend};
use testkit::Host;
use testkit::Stream::{Err, Out};

on_each_backend!(
    a_faulty_synchronous_handler_costs_its_own_instance,
    a_faulty_asynchronous_handler_costs_its_own_instance,
    of_several_in_flight_none_is_charged_for_a_trap_of_another,
    of_several_in_flight_none_is_charged_for_another_that_spins,
    of_several_in_flight_only_the_one_that_hangs_is_charged,
    fresh_instances_handle_one_event_each,
    a_reused_instance_handles_one_event_after_the_other,
    many_events_run_at_once_in_one_asynchronous_instance,
    a_component_holds_no_more_bytes_than_it_may,
);

/// Small limits, so that a fault is seen soon.
const ONE_AT_A_TIME: &str =
    "instances = 1\nmax_concurrency = 1\ntimeout = \"400ms\"\nmemory_limit = \"16MiB\"";
const TIMEOUT: &str = "no verdict within the timeout of 400ms";
const MEMORY: &str = "memory limit of 16777216 bytes exceeded";

async fn a_faulty_synchronous_handler_costs_its_own_instance(scene: Scene) {
    let faults = [
        ("panic", "trapped: "),
        ("abort", "trapped: "),
        ("exit 3", "exit"),
        ("spin", TIMEOUT),
        ("sleep 60000", TIMEOUT),
        ("grow", MEMORY),
    ];
    each_costs_its_own_instance(&scene, "faulty", &faults).await;
}

async fn a_faulty_asynchronous_handler_costs_its_own_instance(scene: Scene) {
    let faults = [
        ("panic", "trapped: "),
        ("abort", "trapped: "),
        ("spin", TIMEOUT),
        ("hang", TIMEOUT),
        ("block 60000", TIMEOUT),
        ("grow", MEMORY),
    ];
    each_costs_its_own_instance(&scene, "faulty_async", &faults).await;
}

/// Each fault happens at the first attempt of its event; between any two there
/// is an event that tells how many its instance has had.
async fn each_costs_its_own_instance(scene: &Scene, guest: &str, faults: &[(&str, &str)]) {
    let mut events = Vec::new();
    for (fault, _) in faults {
        events.push(format!("print hit {fault}; until 2; {fault}"));
        events.push(format!("count; print fine {fault}"));
    }
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    Jobs { guest, component: ONE_AT_A_TIME, events: &events, ..Jobs::default() }.write(scene);
    let mut host = scene.run();
    for (fault, _) in faults {
        host.wait_for_count(Out, &format!("handler | hit {fault}"), 2).await;
        host.wait_for(Out, &format!("handler | fine {fault}")).await;
    }
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | hit"), 2 * faults.len());
    assert_eq!(host.lines().count(Out, "handler | fine"), faults.len());
    assert!(host.lines().contain(Out, "handler | call 1"), "a new instance began to count anew");
    let failures: Vec<_> =
        host.lines().of(Err).into_iter().filter(|line| line.contains("handler failed: ")).collect();
    assert_eq!(failures.len(), faults.len(), "{failures:#?}");
    for (fault, reason) in faults {
        assert!(
            failures.iter().any(|line| line.contains(reason) && line.contains("attempt=1")),
            "{reason} for {fault}: {failures:#?}"
        );
    }
}

const TOGETHER: &str = "instances = 1\ntimeout = \"1500ms\"";

async fn of_several_in_flight_none_is_charged_for_a_trap_of_another(scene: Scene) {
    // Among the others, alone as its first attempt, and as its second.
    let host = together(&scene, "panic", 3).await;
    the_guilty_one_alone_is_charged(&host, "trapped: ");
}

async fn of_several_in_flight_none_is_charged_for_another_that_spins(scene: Scene) {
    let host = together(&scene, "spin", 3).await;
    the_guilty_one_alone_is_charged(&host, "no verdict within the timeout of 1.5s");
}

async fn of_several_in_flight_only_the_one_that_hangs_is_charged(scene: Scene) {
    let host = together(&scene, "hang", 2).await;
    the_guilty_one_alone_is_charged(&host, "no verdict within the timeout of 1.5s");
    assert_eq!(host.lines().count(Out, "handler | begun"), 4, "nobody else ran again");
}

/// Four innocents, which say so when they are handled as a first attempt, and a
/// guilty one, which fails while all of them are in flight.
async fn together(scene: &Scene, fault: &str, guilty_runs: usize) -> Host {
    let mut events: Vec<String> =
        (1..=4).map(|n| format!("print begun {n}; sleep 500; until 2; print first {n}")).collect();
    events.push(format!("sleep 150; print guilty; until 2; {fault}"));
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    Jobs { guest: "faulty_async", component: TOGETHER, events: &events, ..Jobs::default() }
        .write(scene);
    let mut host = scene.run();
    for n in 1..=4 {
        host.wait_for(Out, &format!("handler | first {n}")).await;
    }
    host.wait_for_count(Out, "handler | guilty", guilty_runs).await;
    drain(&mut host).await;
    assert_eq!(host.lines().count(Out, "handler | first"), 4, "each was handled once");
    assert_eq!(host.lines().count(Out, "handler | guilty"), guilty_runs);
    host
}

fn the_guilty_one_alone_is_charged(host: &Host, reason: &str) {
    let lines = host.lines().of(Err);
    let charged: Vec<_> = lines.iter().filter(|line| line.contains("handler failed: ")).collect();
    assert_eq!(charged.len(), 1, "one attempt failed: {charged:#?}");
    assert!(charged[0].contains(reason) && charged[0].contains("attempt=1"), "{charged:?}");
}

async fn fresh_instances_handle_one_event_each(scene: Scene) {
    for guest in ["faulty", "faulty_async"] {
        let component = "instance = \"fresh\"\ninstances = 2";
        Jobs { guest, component, events: &["count"; 4], ..Jobs::default() }.write(&scene);
        let mut host = scene.run();
        host.wait_for_count(Out, "handler | call ", 4).await;
        drain(&mut host).await;
        assert_eq!(host.lines().count(Out, "handler | call 1"), 4, "{guest}");
    }
}

async fn a_reused_instance_handles_one_event_after_the_other(scene: Scene) {
    for guest in ["faulty", "faulty_async"] {
        Jobs { guest, events: &["count"; 4], ..Jobs::default() }.write(&scene);
        let mut host = scene.run();
        host.wait_for(Out, "handler | call 4").await;
        drain(&mut host).await;
    }
}

async fn many_events_run_at_once_in_one_asynchronous_instance(scene: Scene) {
    let component = "instances = 1\nmax_concurrency = 5";
    let events = &["sleep 300; peak"; 8];
    Jobs { guest: "faulty_async", component, events, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, "handler | peak ", 8).await;
    drain(&mut host).await;
    assert!(host.lines().contain(Out, "handler | peak 5"));
    assert!(!host.lines().contain(Out, "handler | peak 6"));
}

async fn a_component_holds_no_more_bytes_than_it_may(scene: Scene) {
    // Two events are below the bound, the third goes beyond it.
    let component = "instances = 1\nmax_in_flight_bytes = \"4KiB\"";
    let event = format!("sleep 300; peak; ok; {}", "x".repeat(1_800));
    let events = &[event.as_str(); 8];
    Jobs { guest: "faulty_async", component, events, ..Jobs::default() }.write(&scene);
    let mut host = scene.run();
    host.wait_for_count(Out, "handler | peak ", 8).await;
    drain(&mut host).await;
    assert!(host.lines().contain(Out, "handler | peak 3"));
    assert!(!host.lines().contain(Out, "handler | peak 4"));
}

/// It would trap any instance, so that none is started for it.
#[tokio::test]
async fn an_event_larger_than_the_memory_of_its_handler_is_said_to_be() {
    let scene = Scene::mosquitto().await;
    let retry = "max_attempts = 2, backoff = \"10ms\", backoff_max = \"10ms\"";
    Jobs { retry, component: "memory_limit = \"2MiB\"", ..Jobs::default() }.write(&scene);
    std::fs::write(scene.folder().join("large"), vec![b'x'; 3 << 20]).unwrap();
    let mut host = scene.run_ready().await;
    scene.publish(&["jobs/0", "-f", "large"], "").await;
    scene.publish(&["jobs/0", "-m", "print next"], "").await;
    host.wait_for(Out, "handler | next").await;
    host.wait_for(Out, "letters | received").await;
    drain(&mut host).await;
    let failures = host.lines().of(Err);
    let is_told = |line: &&String| line.contains("and the component's memory_limit is 2097152");
    assert_eq!(failures.iter().filter(is_told).count(), 2, "{failures:#?}");
}

/// The instance lives on for another event, and with it the abandoned call.
#[tokio::test]
async fn what_an_abandoned_call_publishes_later_is_refused() {
    let scene = Scene::memory();
    let abandoned = "until 2; print begun; sleep 1200; publish jobs/other 1 sleep 1600; sleep 1200; \
                     print awake; publish out/late 1 late; print never";
    let component = "instances = 1\ntimeout = \"2s\"";
    let retry = "backoff = \"0s\", backoff_max = \"0s\"";
    Jobs { guest: "faulty_async", component, retry, events: &[abandoned], ..Jobs::default() }
        .write(&scene);
    let mut host = scene.run();
    host.wait_for(Err, "no verdict within the timeout of 2s").await;
    host.wait_for(Out, "handler | awake").await;
    drain(&mut host).await;
    assert!(!host.lines().contain(Out, "never"), "{}", host.lines().dump());
    assert!(!host.lines().contain(Out, "late"), "{}", host.lines().dump());
}
