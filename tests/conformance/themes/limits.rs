//! Events and topics that are too large.

use crate::harness::Harness;
use crate::support::*;
use wasi_pubsub::broker::{BrokerError, Event, Limits};

pub(crate) async fn an_event_above_the_limit_is_refused_and_the_rest_goes_on(h: &dyn Harness) {
    let limits = Limits { event_bytes_max: 2000, ..Limits::default() };
    let broker = h.broker_with("a", limits).await;
    let subscription = subscribe(&broker, on("t")).await;
    let sized = |id: &str, bytes| {
        let bare = event(id);
        let data = vec![7; bytes - (bare.size() - bare.data.len())].into();
        Event { data, ..bare }
    };
    let refused = try_publish(&broker, "t", sized("large", 2001), QOS_1).await;
    assert_eq!(refused, Err(BrokerError::TooLarge { limit: 2000 }));
    publish_event(&broker, "t", sized("fits", 2000), QOS_1).await;
    handle(&subscription, "fits").await;
}

pub(crate) async fn attributes_above_their_limits_are_refused(h: &dyn Harness) {
    let limits = Limits {
        attributes_max: 2,
        attribute_name_bytes_max: 8,
        attribute_value_bytes_max: 16,
        ..Limits::default()
    };
    let broker = h.broker_with("a", limits).await;
    let subscription = subscribe(&broker, on("t")).await;
    let with = |attributes: &[(&str, &str)]| Event {
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..event("1")
    };
    let long = "x".repeat(17);
    let refused = [
        with(&[("a", "1"), ("b", "2"), ("c", "3")]),
        with(&[("ninebytes", "1")]),
        with(&[("a", &long)]),
        Event { kind: long.clone(), ..event("1") },
        Event { ordering_key: Some(long.clone()), ..event("1") },
    ];
    for event in refused {
        let error = try_publish(&broker, "t", event.clone(), QOS_1).await.unwrap_err();
        assert!(!error.is_temporary(), "`{error}` for {event:?}: it will never be taken");
    }
    publish_event(&broker, "t", with(&[("a", &long[..16]), ("eightbyt", "")]), QOS_1).await;
    handle(&subscription, "1").await;
}

pub(crate) async fn a_topic_of_the_greatest_length_passes(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("long/+")).await;
    let long = format!("long/{}", "x".repeat(wasi_pubsub::broker::TOPIC_BYTES_MAX - 5));
    publish(&broker, &long, ["1"]).await;
    let lease = take_id(&subscription, "1").await;
    assert!(lease.topic().as_str() == long, "the topic came back changed");
}
