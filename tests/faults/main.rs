//! Broken links, broken brokers, slow handlers: nothing is lost.
//!
//! Every test has a real mosquitto of its own. Those that cut the link demand
//! that the cuts came while events were unacknowledged.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "these are tests")]

/// Writes each test once and runs it for both versions of the protocol.
macro_rules! both_versions {
    ($($test:ident),+ $(,)?) => {
        mod mqtt_5 {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(Version::V5).await;
                }
            )+
        }
        mod mqtt_3_1_1 {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(Version::V3_1_1).await;
                }
            )+
        }
    };
}

mod cuts_inbound;
mod cuts_outbound;
mod disk;
mod disk_kills;
mod poison;
mod promises;
mod restart;
mod sizes;
mod slow;
mod start;
mod support;
mod takeover;
mod transports;
