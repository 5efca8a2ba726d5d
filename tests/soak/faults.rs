//! Ends the host and mosquitto at random moments, and starts them again.

use crate::host::{Host, Scene};
use crate::options::{BrokerFault, Options};
use crate::publish::Publisher;
use crate::tally::Tally;
use fastrand::Rng;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use testkit::Mosquitto;
use tokio::time::{Instant, sleep};

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) host_kills: u64,
    pub(crate) broker_kills: u64,
    pub(crate) broker_stops: u64,
}

/// Host and broker, and what befalls them.
pub(crate) struct Faults {
    options: Options,
    rng: Rng,
    scene: Scene,
    broker: Mosquitto,
    host: Option<Host>,
    tally: Arc<Tally>,
    count: Count,
    due: Instant,
}

impl Faults {
    pub(crate) fn new(
        options: &Options,
        scene: Scene,
        broker: Mosquitto,
        host: Host,
        tally: Arc<Tally>,
    ) -> Self {
        let mut faults = Self {
            options: options.clone(),
            rng: Rng::with_seed(options.seed),
            scene,
            broker,
            host: Some(host),
            tally,
            count: Count::default(),
            due: Instant::now(),
        };
        faults.plan();
        faults
    }

    pub(crate) fn count(&self) -> Count {
        self.count
    }

    /// Waits a moment; if it is time for a fault, that is what happens.
    pub(crate) async fn next(&mut self, publisher: &Publisher) {
        sleep(Duration::from_millis(20)).await;
        if let Some(host) = &mut self.host {
            host.must_run(&self.scene);
        }
        if Instant::now() < self.due || publisher.is_done() {
            return;
        }
        match (self.rng.u8(0..10), self.options.kills_host, self.options.broker) {
            (_, false, BrokerFault::Keep) => {}
            (0..5, true, _) | (_, true, BrokerFault::Keep) => self.kill_host().await,
            (9, true, _) => {
                self.end_broker().await;
                self.kill_host_without_broker().await;
            }
            _ => {
                self.end_broker().await;
                self.pause().await;
                self.broker.restart().await;
            }
        }
        self.plan();
    }

    /// The time of the next fault: half to one and a half of the mean from now.
    fn plan(&mut self) {
        self.due = Instant::now() + self.options.every.mul_f64(0.5 + self.rng.f64());
    }

    async fn kill_host(&mut self) {
        self.take_host();
        self.pause().await;
        self.start_host().await;
    }

    /// The host goes while the broker is away, and comes back after it.
    async fn kill_host_without_broker(&mut self) {
        self.pause().await;
        self.take_host();
        self.broker.restart().await;
        self.start_host().await;
    }

    fn take_host(&mut self) {
        if let Some(host) = self.host.take() {
            host.kill();
            self.count.host_kills += 1;
        }
    }

    async fn start_host(&mut self) {
        self.host = Some(Host::start(&self.scene, &self.tally).await);
    }

    async fn end_broker(&mut self) {
        if self.options.broker == BrokerFault::Kill {
            self.broker.kill();
            self.count.broker_kills += 1;
        } else {
            self.broker.stop().await;
            self.count.broker_stops += 1;
        }
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.rng.u64(0..2000))).await;
    }

    /// Drains the host. Returns how often what happened.
    pub(crate) async fn end(mut self) -> Count {
        if let Some(host) = self.host.take() {
            host.stop().await;
        }
        self.count
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_kills, broker_kills, broker_stops } = self;
        write!(
            f,
            "host killed {host_kills} times, mosquitto killed {broker_kills} and stopped \
             {broker_stops} times"
        )
    }
}
