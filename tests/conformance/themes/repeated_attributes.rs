//! Attributes whose name occurs twice.

use crate::harness::Harness;
use crate::support::*;
use wasi_pubsub::broker::Event;

pub(crate) async fn they_keep_order_and_number(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let pairs = [("link", "2"), ("tag", "z"), ("link", "1"), ("link", "2"), ("tag", "")];
    let sent = Event {
        attributes: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..event("1")
    };
    publish_event(&broker, "t", sent.clone(), QOS_1).await;
    assert_eq!(**take(&subscription).await.event(), sent);
}
