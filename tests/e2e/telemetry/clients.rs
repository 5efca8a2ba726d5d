//! What MQTT clients do, as operators see it.

use super::metrics::the_reference_has_each;
use super::run_with_metrics;
use super::samples::Samples;
use crate::listening::{Subscriber, port, publish};
use crate::support::{Scene, drain};
use testkit::Certificates;
use testkit::Stream::Err;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const BROKER: (&str, &str) = ("broker", "pubsub.memory");

#[tokio::test]
async fn what_mqtt_clients_do_is_counted() {
    let scene = Scene::memory();
    scene.write(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]\n\
         listen = [\"mqtt://127.0.0.1:0\"]\nanonymous = true\npassword_file = \"users\"\n",
    );
    scene.command(&["passwd", "users", "ann"]).start_with_input("secret\n").expect_exit(0).await;
    let (mut host, address) = run_with_metrics(&scene).await;
    host.wait_for(Err, "ready").await;
    let port = port(&host, "mqtt");
    let mut subscriber = Subscriber::start(port, &["-t", "a", "-q", "1", "-V", "5"]).await;
    assert!(publish(port, &["-t", "a", "-m", "one", "-q", "1", "-r"]).await);
    assert!(publish(port, &["-t", "a", "-m", "two", "-q", "2", "-u", "ann", "-P", "secret"]).await);
    assert!(!publish(port, &["-t", "a", "-m", "x", "-u", "ann", "-P", "wrong"]).await);
    subscriber.until("a two").await;
    let samples = Samples::scrape_until(&address, "all publishers to be gone", |samples| {
        samples.get("wasi_pubsub_listener_connections", &[BROKER]) == Some(1.0)
    })
    .await;
    for (name, value) in [
        ("clients", 1.0),
        ("kept_sessions", 0.0),
        ("subscriptions", 1.0),
        ("accepted_total", 4.0),
        ("authentication_failures_total", 1.0),
        ("published_total", 2.0),
        ("sent_total", 2.0),
        ("throttled_total", 0.0),
    ] {
        let name = format!("wasi_pubsub_listener_{name}");
        assert_eq!(samples.get(&name, &[BROKER]), Some(value), "{name}: {samples:#?}");
    }
    for (name, reason, value) in [
        ("refused_total", "bad_user_name_or_password", 1.0),
        ("ended_total", "normal", 2.0),
        ("dropped_total", "expired", 0.0),
        ("dropped_total", "too_large", 0.0),
        ("dropped_total", "inexpressible", 0.0),
        ("dropped_total", "overflow", 0.0),
    ] {
        let name = format!("wasi_pubsub_listener_{name}");
        let found = samples.get(&name, &[BROKER, ("reason", reason)]);
        assert_eq!(found, Some(value), "{name} {reason}: {samples:#?}");
    }
    for (name, least) in [
        ("retained", 1.0),
        ("retained_bytes", 4.0),
        ("received_bytes_total", 60.0),
        ("sent_bytes_total", 20.0),
    ] {
        let name = format!("wasi_pubsub_listener_{name}");
        let found = samples.get(&name, &[BROKER]);
        assert!(found.is_some_and(|found| found >= least), "{name}: {samples:#?}");
    }
    the_reference_has_each(&samples);
    // The figures go on over a reload.
    host.hang_up();
    host.wait_for(Err, "reloaded").await;
    assert!(publish(port, &["-t", "a", "-m", "three"]).await);
    subscriber.until("a three").await;
    Samples::scrape_until(&address, "one more publish", |samples| {
        samples.get("wasi_pubsub_listener_published_total", &[BROKER]) == Some(3.0)
    })
    .await;
    drain(&mut host).await;
}

/// Over real sockets: silent ones, half a packet, floods, and who takes nothing.
#[tokio::test]
async fn hostile_clients_cost_only_themselves() {
    let scene = Scene::memory();
    let c = Certificates::make(scene.folder());
    let (cert, key) = (c.server_cert.display(), c.server_key.display());
    scene.write(&format!(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n\
         [[capability.config]]\nlisten = [\"mqtt://127.0.0.1:0\", \"mqtts://127.0.0.1:0\", \
         \"ws://127.0.0.1:0/mqtt\"]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n\
         listen_limits = {{ connect_time = \"2s\", send_time = \"2s\" }}\n"
    ));
    let (mut host, address) = run_with_metrics(&scene).await;
    host.wait_for(Err, "ready").await;
    let plain = port(&host, "mqtt");
    let ports = [plain, port(&host, "mqtts"), port(&host, "ws")];
    let mut subscriber = Subscriber::start(plain, &["-t", "news", "-q", "1"]).await;
    // CONNECT without a keep-alive, then a subscription to everything.
    let deaf = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x82\x06\x00\x01\x00\x01#\x00";
    let begun = b"\x10\x0c\x00\x04MQ";
    let mut sockets = Vec::new();
    for port in ports {
        for (bytes, number) in [
            (&b""[..], 40),
            (begun, 40),
            (&[0xff; 1000], 40),
            (b"GET /mqtt HTTP/1.1\r\nX: ", 40),
            (deaf, 5),
        ] {
            for _ in 0..number {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // One that was closed meanwhile does not mind.
                let _ = socket.write_all(bytes).await;
                sockets.push(socket);
            }
        }
    }
    // More than the buffers of the system hold for who takes nothing.
    let data = "x".repeat(100_000);
    for number in 0..100 {
        let news = format!("{number} {data}");
        assert!(publish(plain, &["-t", "news", "-m", &news, "-q", "1"]).await);
        subscriber.until(&format!("news {number} ")).await;
    }
    // All of them are ended, though they hold on to their sockets, and nobody else is.
    Samples::scrape_until(&address, "one client to be left", |samples| {
        samples.get("wasi_pubsub_listener_connections", &[BROKER]) == Some(1.0)
    })
    .await;
    std::mem::drop(sockets);
    assert!(publish(plain, &["-t", "news", "-m", "last", "-q", "1"]).await);
    subscriber.until("news last").await;
    drain(&mut host).await;
    assert!(!host.lines().contain(Err, "panicked"), "{}", host.lines().dump());
}
