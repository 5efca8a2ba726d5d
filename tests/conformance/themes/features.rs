//! The features in the table are those that the backend declares.

use crate::harness::Harness;
use crate::support::*;

pub(crate) async fn are_as_declared(h: &dyn Harness, table: &[&str]) {
    let features = h.broker("a").await.features();
    let in_table = |name| table.contains(&name);
    assert_eq!(features.queue, in_table("queue"));
    assert_eq!(features.ordered_queue, in_table("ordered_queue"));
    assert_eq!(features.qos_max == QOS_2, in_table("qos2"));
    assert!(features.qos_max >= QOS_1, "a backend keeps qos 1 at least");
    // Only a broker inside the process knows who published.
    assert_eq!(!features.network, in_table("own_events"));
    assert_eq!(features.replay, in_table("replay"));
    assert_eq!(features.pins_keys, in_table("pins_keys"));
}
