//! Subscriptions that nobody takes from.

use super::*;
use crate::broker::driver::Connection;
use crate::broker::{Broker, Limits, StoreBounds, SubscriptionSettings};
use crate::builtin::{BuiltIn, Clock, Settings};
use std::sync::atomic::{AtomicU64, Ordering};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_shorter_expiry_takes_effect_while_the_store_is_open() {
    let folder = Folder::new();
    let days = Arc::new(AtomicU64::new(0));
    let clock = {
        let days = days.clone();
        Clock(Arc::new(move || at(0) + DAY * days.load(Ordering::SeqCst) as u32))
    };
    let settings = Settings { subscription_expiry: Some(10 * DAY), clock, ..Settings::default() };
    let store = BuiltIn::open(Arc::new(folder.open()), settings).unwrap();
    let broker = Broker::new("test", store.clone(), Limits::default());
    let mut used = None;
    for name in ["left", "used"] {
        let settings = SubscriptionSettings { label: name.into(), ..settings_of("t") };
        let subscription = broker.subscribe(settings).await.unwrap();
        match name {
            "used" => used = Some(subscription),
            _ => subscription.stop(),
        }
    }
    days.store(5, Ordering::SeqCst);
    let names = || store.subscriptions().into_iter().map(|s| s.name).collect::<Vec<_>>();
    let bounds = |days| StoreBounds { bytes_max: 1 << 30, subscription_expiry: days * DAY };
    assert_eq!(names(), ["left", "used"]);
    store.set_store_bounds(bounds(4));
    let gone = async {
        while names() != ["used"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
    drop(used);
    store.close(DEADLINE).await;
}

fn settings_of(filter: &str) -> SubscriptionSettings {
    SubscriptionSettings::new(self::filter(filter))
}
