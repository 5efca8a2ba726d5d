//! The ways to a broker, and what it may say there.

use crate::support::{Jobs, Scene, drain};
use std::time::Duration;
use testkit::Stream::{Err, Out};
use testkit::{DEADLINE, Host, Mosquitto, MosquittoBuilder, eventually};

/// An event goes there and back.
async fn works(broker: MosquittoBuilder, keys: impl Fn(&Mosquitto) -> String) -> Host {
    let broker = broker.start().await;
    let keys = keys(&broker);
    let mut scene = Scene::with_broker(broker);
    scene.set_connection(keys);
    let events = &["publish out/a 1 back; until 2; error once"];
    Jobs { events, ..Jobs::default() }.write(&scene);
    let mut host = scene.command(&["run"]).env("BROKER_PASSWORD", "hush-hush").start();
    host.wait_for_count(Out, r#"data: "back""#, 2).await;
    drain(&mut host).await;
    assert!(!host.lines().dump().contains("hush-hush"), "the password is never shown");
    host
}

#[tokio::test]
async fn by_tcp_with_a_password_of_the_environment() {
    works(Mosquitto::builder().password("me", "hush-hush"), |broker| {
        let url = broker.url();
        format!("url = \"{url}\"\nusername = \"me\"\npassword = \"${{BROKER_PASSWORD}}\"")
    })
    .await;
}

#[tokio::test]
async fn by_mqtt_3_1_1() {
    works(Mosquitto::builder(), |broker| {
        format!("url = \"{}\"\nversion = \"3.1.1\"", broker.url())
    })
    .await;
}

#[tokio::test]
async fn by_tls() {
    works(Mosquitto::builder().tls(), |broker| {
        let ca = broker.certificates().ca.display();
        format!("url = \"{}\"\nca_file = \"{ca}\"", broker.tls_url())
    })
    .await;
}

#[tokio::test]
async fn by_tls_with_a_certificate_of_its_own() {
    works(Mosquitto::builder().client_certificates(), |broker| {
        let c = broker.certificates();
        format!(
            "url = \"{}\"\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"",
            broker.tls_url(),
            c.ca.display(),
            c.client_cert.display(),
            c.client_key.display()
        )
    })
    .await;
}

#[tokio::test]
async fn by_web_socket() {
    works(Mosquitto::builder().websocket(), |broker| {
        format!("url = \"{}\"", broker.websocket_url())
    })
    .await;
}

#[tokio::test]
async fn by_unix_socket() {
    works(Mosquitto::builder().unix_socket(), |broker| {
        format!("url = \"unix://{}\"", broker.socket_path().display())
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let broker = Mosquitto::builder().password("me", "right").start().await;
    let keys =
        format!("url = \"{}\"\nusername = \"me\"\npassword = \"wrong-secret\"", broker.url());
    let mut scene = Scene::with_broker(broker);
    scene.set_connection(keys);
    Jobs::default().write(&scene);
    let mut host = scene.run();
    let is_said = || {
        let text = host.lines().dump().to_lowercase();
        text.contains("notauthorized")
            || text.contains("not authorized")
            || text.contains("password")
    };
    eventually(DEADLINE, "the host says that it was refused", is_said).await;
    assert!(!host.lines().contain(Err, "ready"));
    host.terminate();
    host.exit_code().await;
    assert!(!host.lines().dump().contains("wrong-secret"));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_trusted() {
    let broker = Mosquitto::builder().tls().start().await;
    let keys = format!("url = \"{}\"", broker.tls_url());
    let mut scene = Scene::with_broker(broker);
    scene.set_connection(keys);
    Jobs::default().write(&scene);
    let mut host = scene.run();
    let is_said = || host.lines().dump().to_lowercase().contains("certificate");
    eventually(DEADLINE, "the host says why it does not connect", is_said).await;
    assert!(!host.lines().contain(Err, "ready"));
    host.terminate();
    host.exit_code().await;
}

/// How long two hosts may fight for a session where the broker doesn't tell the
/// one that it throws out.
const FIGHT: Duration = Duration::from_secs(40);

/// Two hosts with one client id would throw each other out for ever. MQTT 5 has
/// a word for it, which this mosquitto may or may not say: then either gives way.
#[tokio::test]
async fn of_two_hosts_with_one_client_id_one_ends_with_an_error() {
    let mut scene = Scene::mosquitto().await;
    let keys = format!("url = \"{}\"\nclient_id = \"orders-1\"", scene.broker().url());
    scene.set_connection(keys);
    scene.write(
        r#"specversion = "0.2"
[[capability]]
name = "pubsub.memory"
[[capability.config]]
topic = "jobs/+"
delivery = "push"
[[component]]
path = "$GUESTS/receiver.wasm"
"#,
    );
    let first = scene.run_ready().await;
    let mut hosts = vec![first, scene.run()];
    let has_ended = |host: &Host| host.lines().complete();
    eventually(FIGHT, "one of them has given way", || hosts.iter().any(has_ended)).await;
    let mut loser = hosts.remove(hosts.iter().position(has_ended).unwrap());
    let mut winner = hosts.remove(0);
    loser.expect_exit(1).await;
    assert!(loser.lines().contain(Err, "another client"), "{}", loser.lines().dump());
    assert!(loser.lines().contain(Err, "orders-1"), "{}", loser.lines().dump());
    winner.wait_for(Err, "ready").await;
    scene.publish(&["jobs/0", "-m", "still there"], "").await;
    winner.wait_for(Out, "still there").await;
    drain(&mut winner).await;
}
