//! Topics that remember, and subscriptions that begin in the past.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use wasi_pubsub::broker::{
    Broker, Limits, Retention, RetentionRule, Start, SubscriptionSettings, TopicFilter,
};

/// A broker whose topics below `kept` remember everything.
async fn remembering(h: &dyn Harness) -> Arc<Broker> {
    let connection = h.connection("a").await;
    let filter = TopicFilter::new("kept/#").unwrap();
    connection.set_retention(vec![RetentionRule { filter, retention: Retention::default() }]);
    Broker::new("a", connection, Limits::default())
}

fn from(start: Start, label: &str, filter: &str) -> SubscriptionSettings {
    SubscriptionSettings { start, ..labelled(label, filter) }
}

pub(crate) async fn who_comes_late_gets_what_was_acknowledged(h: &dyn Harness) {
    let broker = remembering(h).await;
    let early = subscribe(&broker, on("kept/#")).await;
    let sent = ids("e", 1500);
    publish(&broker, "kept/a", &sent).await;
    assert_eq!(handle_many(&early, sent.len()).await, sent);
    let late = subscribe(&broker, from(Start::Earliest, "late", "kept/a")).await;
    publish(&broker, "kept/a", ["new"]).await;
    assert_eq!(handle_many(&late, sent.len()).await, sent);
    handle(&late, "new").await;
    handle(&early, "new").await;
}

pub(crate) async fn what_is_published_meanwhile_comes_after_it_once(h: &dyn Harness) {
    let broker = remembering(h).await;
    let (before, after) = (ids("before", 700), ids("after", 700));
    publish(&broker, "kept/a", &before).await;
    let late = subscribe(&broker, from(Start::Earliest, "late", "kept/+")).await;
    let publishing = publish(&broker, "kept/b", &after);
    let (handled, ()) = tokio::join!(handle_many(&late, 1400), publishing);
    assert_eq!(handled, [before, after].concat());
    counts(&late, "at the end", |s| s.queued == 0).await;
}

pub(crate) async fn a_new_one_begins_with_what_comes(h: &dyn Harness) {
    let broker = remembering(h).await;
    publish(&broker, "kept/a", ["old"]).await;
    let new = subscribe(&broker, from(Start::New, "late", "kept/a")).await;
    publish(&broker, "kept/a", ["new"]).await;
    handle(&new, "new").await;
}

pub(crate) async fn other_topics_do_not_remember(h: &dyn Harness) {
    let broker = remembering(h).await;
    let early = subscribe(&broker, on("other")).await;
    publish(&broker, "other", ["1"]).await;
    handle(&early, "1").await;
    h.forget("other").await;
    let late = subscribe(&broker, from(Start::Earliest, "late", "#")).await;
    publish(&broker, "other", ["2"]).await;
    handle(&late, "2").await;
}

pub(crate) async fn the_past_can_be_filtered_and_retried(h: &dyn Harness) {
    let broker = remembering(h).await;
    publish(&broker, "kept/a", ["1", "2", "3"]).await;
    let event_filter = wasi_pubsub::broker::EventFilter::new(r#"attributes.id != "2""#).unwrap();
    let settings = from(Start::Earliest, "late", "kept/a");
    let settings = SubscriptionSettings { event_filter: Some(event_filter), ..settings };
    let late = subscribe(&broker, settings).await;
    let first = take_id(&late, "1").await;
    first.settle(retry(None));
    let mut rest = handle_many(&late, 2).await;
    rest.sort();
    assert_eq!(rest, ["1", "3"]);
}
