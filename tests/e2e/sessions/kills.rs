//! The host itself, killed, with the clients that people use.

use super::{Client, Hello};
use crate::listening::{Subscriber, port, publish};
use crate::support::{Scene, drain};
use testkit::Stream::Err;
use testkit::{Host, within};

fn write(scene: &Scene) {
    scene.write(
        "specversion = \"0.2\"\n[[capability]]\nname = \"pubsub.memory\"\n\
         [[capability.config]]\nlisten = [\"mqtt://127.0.0.1:0\"]\n",
    );
}

async fn again(scene: &Scene, mut host: Host) -> Host {
    host.kill();
    host.exit_code().await;
    scene.run_ready().await
}

#[tokio::test]
async fn mqtt_4_1_0_1_sessions_outlive_a_host_that_is_killed() {
    let scene = Scene::disk();
    write(&scene);
    for version in ["mqttv311", "5"] {
        let mut host = scene.run_ready().await;
        let kept = ["-t", "a/#", "-q", "2", "-i", "kept", "-c", "-V", version];
        let kept = match version {
            "5" => [&kept[..], &["-x", "3600"]].concat(),
            _ => kept.to_vec(),
        };
        let mut subscriber = Subscriber::start(port(&host, "mqtt"), &kept).await;
        assert!(publish(port(&host, "mqtt"), &["-t", "a/1", "-m", "first", "-q", "1"]).await);
        subscriber.until("a/1 first").await;
        drop(subscriber);
        assert!(publish(port(&host, "mqtt"), &["-t", "a/2", "-m", "away", "-q", "1"]).await);
        host = again(&scene, host).await;
        assert!(publish(port(&host, "mqtt"), &["-t", "a/3", "-m", "killed", "-q", "2"]).await);
        let mut command = crate::listening::client(
            "mosquitto_sub",
            port(&host, "mqtt"),
            &[&kept[..], &["-v", "-C", "2"]].concat(),
        );
        let output = within("mosquitto_sub", command.output()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a/2 away\na/3 killed\n");
        drain(&mut host).await;
    }
}

#[tokio::test]
async fn mqtt_3_3_1_5_retained_messages_outlive_a_host_that_is_killed() {
    let scene = Scene::disk();
    write(&scene);
    let host = scene.run_ready().await;
    for (topic, text) in [("a/1", "old"), ("a/2", "gone"), ("a/1", "new")] {
        let arguments = ["-t", topic, "-m", text, "-r", "-q", "1"];
        assert!(publish(port(&host, "mqtt"), &arguments).await);
    }
    assert!(publish(port(&host, "mqtt"), &["-t", "a/2", "-n", "-r", "-q", "2"]).await);
    // What a command publishes for the host is retained there as well.
    let mut host = again(&scene, host).await;
    let mut subscriber = Subscriber::start(port(&host, "mqtt"), &["-t", "a/#"]).await;
    subscriber.until("a/1 new").await;
    assert!(publish(port(&host, "mqtt"), &["-t", "a/9", "-m", "end"]).await);
    let rest = subscriber.up_to("a/9 end").await;
    assert!(!rest.iter().any(|line| line.contains("gone")), "{rest:?}");
    drain(&mut host).await;
}

/// A session that is not kept leaves nothing with the broker, whatever becomes of the
/// host.
#[tokio::test]
async fn mqtt_3_1_2_23_a_host_that_is_killed_leaves_no_subscription_of_nobody() {
    let scene = Scene::disk();
    write(&scene);
    let host = scene.run_ready().await;
    let clean = Hello { clean: true, expiry: 0, ..Hello::kept("c", 5) };
    let mut client = Client::connect(port(&host, "mqtt"), clean).await;
    client.subscribe("a", 2).await;
    client.subscribe("$share/g/a", 2).await;
    let mut kept = Client::connect(port(&host, "mqtt"), Hello::kept("kept", 5)).await;
    kept.subscribe("b", 1).await;
    let mut host = again(&scene, host).await;
    drain(&mut host).await;
    let mut listed = scene.command(&["broker", "subscriptions"]).start();
    listed.expect_exit(0).await;
    let said = listed.lines().dump();
    assert!(said.contains("mqtt/kept/b"), "{said}");
    assert!(!said.contains("mqtt/c/"), "{said}");
    let mut check = scene.command(&["broker", "check"]).start();
    check.expect_exit(0).await;
    assert_eq!(host.lines().count(Err, "WARN"), 0, "{}", host.lines().dump());
}
