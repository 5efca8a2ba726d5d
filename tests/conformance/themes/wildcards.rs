//! Filters: MQTT 5.0, section 4.7.

use crate::harness::Harness;
use crate::support::*;
use wasi_pubsub::broker::Verdict;

const TOPICS: &[&str] = &["a", "a/b", "a/b/c", "a/", "/a", "a//c", "é/x", "$own/b", "A/b"];

pub(crate) async fn filters_select_topics(h: &dyn Harness) {
    let table: &[(&str, &[&str])] = &[
        ("#", &["a", "a/b", "a/b/c", "a/", "/a", "a//c", "é/x", "A/b"]),
        ("+", &["a"]),
        ("a", &["a"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/", "a//c"]),
        ("a/+", &["a/b", "a/"]),
        ("+/+", &["a/b", "a/", "/a", "é/x", "A/b"]),
        ("/+", &["/a"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("a//c", &["a//c"]),
        ("é/+", &["é/x"]),
        ("$own/#", &["$own/b"]),
        ("+/b/#", &["a/b", "a/b/c", "A/b"]),
    ];
    let broker = h.broker("a").await;
    let mut subscriptions = Vec::new();
    for (filter, _) in table {
        subscriptions.push(subscribe(&broker, on(filter)).await);
    }
    // Twice: an event too many in the first round stands before the second.
    for round in ["1", "2"] {
        for topic in TOPICS {
            publish(&broker, topic, [format!("{round} {topic}")]).await;
        }
    }
    for (subscription, (filter, matching)) in subscriptions.iter().zip(table) {
        for round in ["1", "2"] {
            for topic in *matching {
                let lease = take(subscription).await;
                let (id, found) = (&lease.event().id, lease.topic().as_str());
                assert_eq!(
                    (id.as_str(), found),
                    (&*format!("{round} {topic}"), *topic),
                    "filter `{filter}`"
                );
                lease.settle(Verdict::Ack);
            }
        }
    }
}
