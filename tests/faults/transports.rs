//! The ways to a broker, and who is let in.

use crate::support::*;
use std::time::Duration;
use testkit::{Mosquitto, capture_logs, within};
use wasi_pubsub::backends::mqtt::{Identity, MqttSettings};
use wasi_pubsub::broker::BrokerError;

/// There and back, at every quality of service.
async fn passes(settings: MqttSettings) {
    let host = connect_with(settings, "host");
    let subscription = subscribe(&host, on("t/+", QOS_2)).await;
    for (number, qos) in [QOS_1, QOS_2].into_iter().enumerate() {
        let id = number.to_string();
        publish(&host, "t/x", sized_event(&id, 20_000), qos).await.unwrap();
        handle(&subscription, &id).await;
    }
    part(host, subscription).await;
}

/// The broker says no: an error at once, for subscribing and for publishing.
async fn is_denied(settings: MqttSettings) {
    let host = connect_with(settings, "host");
    let subscribed = within("an answer", host.subscribe(on("t", QOS_1))).await;
    assert!(matches!(subscribed, Err(BrokerError::Denied(_))), "{subscribed:?}");
    let published = within("an answer", publish(&host, "t", event("1"), QOS_1)).await;
    assert!(matches!(published, Err(BrokerError::Denied(_))), "{published:?}");
}

/// No session comes about, and the log says why.
async fn does_not_connect(settings: MqttSettings, identity: &str) {
    let logs = capture_logs();
    let host = connect_with(settings, identity);
    let published =
        publish_within(&host, "t", event("1"), QOS_1, Duration::from_secs(3)).await.unwrap_err();
    let lines = logs.lines().join("\n").to_lowercase();
    let said = published.to_string().to_lowercase();
    assert!(
        lines.contains("certificate") || said.contains("certificate"),
        "nothing tells that it is about certificates: {published}\n{lines}"
    );
}

async fn tls(version: Version) {
    let mosquitto = Mosquitto::builder().tls().start().await;
    let mut settings = settings(&mosquitto.tls_url(), version);
    settings.ca = Some(mosquitto.certificates().ca.clone());
    passes(settings).await;
}

async fn an_unknown_authority_is_not_trusted(version: Version) {
    let mosquitto = Mosquitto::builder().tls().start().await;
    let other = tempfile::tempdir().unwrap();
    let mut settings = settings(&mosquitto.tls_url(), version);
    settings.ca = Some(testkit::Certificates::make(other.path()).ca);
    does_not_connect(settings, "distrustful").await;
}

async fn client_certificates(version: Version) {
    let mosquitto = Mosquitto::builder().client_certificates().start().await;
    let mut settings = settings(&mosquitto.tls_url(), version);
    settings.ca = Some(mosquitto.certificates().ca.clone());
    does_not_connect(settings.clone(), "nameless").await;
    settings.identity = Some(Identity {
        certificate: mosquitto.certificates().client_cert.clone(),
        key: mosquitto.certificates().client_key.clone(),
    });
    passes(settings).await;
}

async fn web_socket(version: Version) {
    let mosquitto = Mosquitto::builder().websocket().start().await;
    passes(settings(&mosquitto.websocket_url(), version)).await;
}

async fn unix_socket(version: Version) {
    let mosquitto = Mosquitto::builder().unix_socket().start().await;
    let url = format!("unix://{}", mosquitto.socket_path().display());
    passes(settings(&url, version)).await;
}

async fn user_and_password(version: Version) {
    let mosquitto = Mosquitto::builder().password("svc", "s3cret").start().await;
    let mut settings = settings(&mosquitto.url(), version);
    is_denied(settings.clone()).await;
    settings.username = Some("svc".to_owned());
    settings.password = Some("wrong".to_owned());
    is_denied(settings.clone()).await;
    settings.password = Some("s3cret".to_owned());
    passes(settings).await;
}

/// The version need not be named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_version() {
    let mosquitto = Mosquitto::start().await;
    passes(settings(&mosquitto.url(), Version::Auto)).await;
}

both_versions!(
    tls,
    an_unknown_authority_is_not_trusted,
    client_certificates,
    web_socket,
    unix_socket,
    user_and_password,
);
