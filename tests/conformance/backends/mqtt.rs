//! A mosquitto of the test's own, through either version of the protocol.

use crate::harness::Harness;
use async_trait::async_trait;
use std::sync::Arc;
use testkit::Mosquitto;
use wasi_pubsub::backends::mqtt::{self, MqttSettings, Version};
use wasi_pubsub::broker::driver::Connection;

pub(crate) struct Mqtt5(Mosquitto);
pub(crate) struct Mqtt3(Mosquitto);

impl Mqtt5 {
    pub(crate) async fn start() -> Self {
        Self(Mosquitto::start().await)
    }
}

impl Mqtt3 {
    pub(crate) async fn start() -> Self {
        Self(Mosquitto::start().await)
    }
}

#[async_trait]
impl Harness for Mqtt5 {
    async fn connection(&self, identity: &str) -> Arc<dyn Connection> {
        connect(&self.0, Version::V5, identity)
    }
}

#[async_trait]
impl Harness for Mqtt3 {
    async fn connection(&self, identity: &str) -> Arc<dyn Connection> {
        connect(&self.0, Version::V3_1_1, identity)
    }
}

fn connect(mosquitto: &Mosquitto, version: Version, identity: &str) -> Arc<dyn Connection> {
    let mut settings = MqttSettings::new(&mosquitto.url()).unwrap();
    settings.version = version;
    mqtt::open(settings, identity.to_owned()).unwrap()
}
