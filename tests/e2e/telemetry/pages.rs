//! Health, readiness, and clients that are not what they should be.

use super::client::{get, get_until, read, request, send};
use super::{ANY_PORT, address_of_metrics, run_with_metrics};
use crate::support::{Jobs, Scene, drain};
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::Stream::{Err, Out};
use testkit::{Proxy, free_port, within};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn readiness_follows_the_broker_and_the_drain() {
    let mut scene = Scene::mosquitto().await;
    let proxy = Proxy::start(scene.broker().address()).await;
    proxy.refuse(true);
    scene.set_connection(format!("url = \"{}\"", proxy.url()));
    Jobs { top: "drain = \"1m\"", ..Jobs::default() }.write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;

    let reply = get(&address, "/readyz").await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.json()["phase"], "starting");
    let unconfirmed = reply.json()["unconfirmed"].clone();
    assert_eq!(unconfirmed.as_array().map(Vec::len), Some(3), "{unconfirmed}");
    let jobs = json!({"broker": "pubsub.mqtt", "subscription": "wasi-pubsub/jobs/+"});
    assert!(unconfirmed.as_array().unwrap().contains(&jobs), "{unconfirmed}");
    let reply = get(&address, "/healthz").await;
    assert_eq!(reply.status, 200, "a process that waits is well: {reply:?}");
    assert_eq!(reply.json()["phase"], "starting");

    proxy.refuse(false);
    let reply = get_until(&address, "/readyz", "readiness", |reply| reply.status == 200).await;
    assert_eq!(reply.json(), json!({"phase": "ready", "unconfirmed": []}));
    assert!(reply.header("content-type").as_deref() == Some("application/json"), "{reply:?}");

    // An outage later is no reason to start the process again; metrics show it.
    for (refused, value) in [(true, 0), (false, 1)] {
        proxy.refuse(refused);
        proxy.cut();
        let label = "component=\"letters\",subscription=\"letters/dead/+\"";
        let line = format!("wasi_pubsub_subscription_connected{{{label}}} {value}\n");
        get_until(&address, "/metrics", &line, |reply| reply.body.contains(&line)).await;
        assert_eq!(get(&address, "/readyz").await.status, 200);
    }

    scene.publish(&["jobs/0", "-m", "print begun; sleep 3000; print done"], "").await;
    host.wait_for(Out, "handler | begun").await;
    host.terminate();
    let reply = get_until(&address, "/readyz", "the drain", |reply| reply.status == 503).await;
    assert_eq!(reply.json()["phase"], "stopping");
    assert_eq!(get(&address, "/healthz").await.status, 200, "it still serves what is in flight");
    assert!(!host.lines().contain(Out, "handler | done"), "{}", host.lines().dump());
    host.expect_exit(0).await;
    assert!(host.lines().contain(Out, "handler | done"));
}

#[tokio::test]
async fn a_component_that_cannot_start_is_shown_while_the_others_run() {
    let scene = Scene::memory();
    let component = "memory_limit = \"64KiB\"";
    Jobs { component, events: &["ok"], ..Jobs::default() }.write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;
    let component = |health: &serde_json::Value, name: &str| {
        let components = health["components"].as_array().unwrap().clone();
        components.into_iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{health}"))
    };
    let failing = |reply: &super::client::Reply| {
        let health = reply.json();
        health["phase"] == "ready" && component(&health, "handler")["healthy"] == json!(false)
    };
    let reply = get_until(&address, "/healthz", "a component that fails", failing).await;
    assert_eq!(reply.status, 200, "starting the process again would not help: {reply:?}");
    let health = reply.json();
    let handler = component(&health, "handler");
    let text = handler.to_string();
    assert!(handler["failing"]["reason"].as_str().unwrap().contains("memory"), "{text}");
    assert!(handler["failing"]["failures"].as_u64().unwrap() >= 1, "{text}");
    let since = handler["failing"]["since"].as_str().unwrap();
    assert!(since.len() == 20 && since.ends_with('Z') && since.contains('T'), "{since}");
    assert_eq!(component(&health, "letters")["healthy"], json!(true), "{health}");
    assert_eq!(health["phase"], "ready", "{health}");
    let jobs = &health["subscriptions"][0];
    assert_eq!(jobs["name"], "jobs/+", "{health}");
    assert_eq!(jobs["components"], json!(["handler"]), "{health}");
    assert_eq!(jobs["confirmed"], json!(true), "{health}");

    let metrics = get(&address, "/metrics").await.body;
    for line in [
        "wasi_pubsub_component_healthy{component=\"handler\"} 0\n",
        "wasi_pubsub_component_healthy{component=\"letters\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("start_failures_total{component=\"handler\"} 0"), "{metrics}");
    drain(&mut host).await;
}

#[tokio::test]
async fn what_else_is_asked_for_is_refused_in_words() {
    let scene = Scene::memory();
    Jobs::default().write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;
    for path in ["/", "/metric", "/metrics/", "/metrics%20", "/readyz/x"] {
        let reply = get(&address, path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.body, "there are /metrics, /healthz and /readyz here\n", "{path}");
    }
    host.wait_for(Err, "ready").await;
    assert_eq!(get(&address, "/readyz?verbose=1").await.status, 200, "a query changes nothing");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "FETCH"] {
        let reply = request(&address, method, "/metrics", "").await;
        assert_eq!(reply.status, 405, "{method}: {reply:?}");
        assert_eq!(reply.header("allow").as_deref(), Some("get, head"), "{method}");
    }
    let with_body = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\nabc";
    assert_eq!(send(&address, with_body).await.status, 405, "its body is not read");
    let head = request(&address, "HEAD", "/metrics", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""), "{head:?}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    assert!([414, 431].contains(&send(&address, &long).await.status));
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(request(&address, "GET", "/metrics", &many).await.status, 431);
    assert_eq!(send(&address, "nonsense\r\n\r\n").await.status, 400);
    drain(&mut host).await;
}

#[tokio::test]
async fn slow_and_many_clients_cost_only_themselves() {
    let scene = Scene::memory();
    Jobs::default().write(&scene);
    let (mut host, address) = run_with_metrics(&scene).await;
    let connect = || async {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.unwrap();
        stream
    };
    // More than there may be, none of which ever ends its request.
    let mut slow = Vec::new();
    for _ in 0..150 {
        slow.push(connect().await);
    }
    let asked = Instant::now();
    assert_eq!(get(&address, "/metrics").await.status, 200);
    assert_eq!(get(&address, "/readyz").await.status, 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}: not held up", asked.elapsed());
    for mut stream in slow {
        within("the end of a slow client's connection", read(&mut stream)).await;
    }

    // They send a request, and do not read the answer.
    let mut deaf = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    assert_eq!(get(&address, "/readyz").await.status, 200);
    drop(deaf);
    drain(&mut host).await;
    assert!(!host.lines().contain(Err, "panicked"), "{}", host.lines().dump());
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_an_error_before_anything_runs() {
    let scene = Scene::memory();
    Jobs { events: &["print handled"], ..Jobs::default() }.write(&scene);
    let taken = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, reason) in
        [(taken.as_str(), "in use"), ("127.0.0.1", "invalid socket address"), ("", "invalid")]
    {
        let mut host = scene.command(&["run", "--metrics", address]).start();
        host.expect_exit(2).await;
        let text = host.lines().dump();
        assert!(text.contains(&format!("cannot listen on `{address}`")), "{text}");
        assert!(text.contains(reason) && text.contains("such as 127.0.0.1:9464"), "{text}");
        assert_eq!(host.lines().of(Out), [""; 0]);
    }
}

#[tokio::test]
async fn the_environment_names_the_address_as_well() {
    let scene = Scene::memory();
    Jobs::default().write(&scene);
    let wanted = format!("127.0.0.1:{}", free_port());
    let mut host = scene.command(&["run"]).env("WASI_PUBSUB_METRICS", &wanted).start();
    assert_eq!(address_of_metrics(&mut host).await, wanted);
    host.wait_for(Err, "ready").await;
    assert_eq!(get(&wanted, "/readyz").await.status, 200);
    drain(&mut host).await;
    assert!(TcpStream::connect(&wanted).await.is_err(), "the server ends with the host");
}
