//! Subscribers that publishers do not wait for: beyond their bound the oldest goes.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use testkit::within;
use tokio::sync::Notify;
use wasi_pubsub::broker::driver::{
    Connection, Incoming, Ready, Settlement, Source, SubscribeRequest,
};
use wasi_pubsub::broker::{BacklogBound, Budget, Order, Qos, Share, Start, TopicFilter};

/// The most that may wait.
const MAX: usize = 400;
/// Of which a store may discard a part more than it must, to do so seldom.
const MIN: usize = MAX - MAX / 8;

struct Bounded {
    source: Arc<dyn Source>,
    bound: Arc<BacklogBound>,
    ready: Arc<Notify>,
}

fn bound(bytes: usize) -> Arc<BacklogBound> {
    BacklogBound::new(MAX, bytes, Box::new(|_| {}))
}

async fn bounded(
    connection: &Arc<dyn Connection>,
    (label, group): (&str, Option<&str>),
    filter: &str,
    bound: Option<&Arc<BacklogBound>>,
) -> Bounded {
    let ready = Arc::new(Notify::new());
    let told = ready.clone();
    let request = SubscribeRequest {
        label: label.to_owned(),
        filter: TopicFilter::new(filter).unwrap(),
        group: group.map(str::to_owned),
        qos: QOS_1,
        order: Order::None,
        event_filter: None,
        start: Start::New,
        is_temporary: false,
        max_in_flight: 1000,
        max_in_flight_bytes: 1 << 20,
        group_max_in_flight: None,
        share: Share::new(&Budget::unbounded()),
        backlog_bound: bound.cloned(),
        not_from: None,
        ready: Ready(Arc::new(move || told.notify_one())),
    };
    let source = within("the subscription", connection.subscribe(request)).await.unwrap();
    Bounded { source, bound: bound.cloned().unwrap_or_else(|| self::bound(1)), ready }
}

async fn publish_to(connection: &Arc<dyn Connection>, to: &str, ids: &[String], qos: Qos) {
    let to = topic(to);
    for id in ids {
        let publish = connection.publish(&to, Arc::new(event(id)), qos, None);
        within("a publish that waits for nobody", publish).await.unwrap();
    }
}

impl Bounded {
    async fn take(&self, count: usize) -> Vec<Incoming> {
        let mut taken = Vec::new();
        within("what waits", async {
            while taken.len() < count {
                self.source.take(count - taken.len(), &mut taken).unwrap();
                if taken.len() < count {
                    self.ready.notified().await;
                }
            }
        })
        .await;
        taken
    }

    /// Takes and acknowledges everything, up to this one.
    async fn all_to(&self, last: &str) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.last().is_none_or(|id| id != last) {
            for incoming in self.take(1).await {
                ids.push(incoming.event.id.clone());
                self.source.settle(incoming.token, Settlement::Ack);
            }
        }
        ids
    }

    /// Until no more waits than may.
    async fn shrunk(&self) {
        within("what is too much to be discarded", async {
            while self.bound.is_over() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub(crate) async fn publishers_do_not_wait_and_the_newest_stay(h: &dyn Harness) {
    let connection = h.connection("a").await;
    let bound = bound(1 << 20);
    let idle = bounded(&connection, ("idle", None), "t", Some(&bound)).await;
    let busy = bounded(&connection, ("busy", None), "t", None).await;
    let ids = ids("e", 3000);
    publish_to(&connection, "t", &ids, QOS_1).await;
    assert_eq!(busy.all_to("e2999").await, ids, "others lose nothing");
    idle.shrunk().await;
    let found = idle.all_to("e2999").await;
    assert!((MIN..=MAX).contains(&found.len()), "{}", found.len());
    assert_eq!(found, ids[3000 - found.len()..]);
    assert_eq!(bound.discarded() as usize, 3000 - found.len());
    assert_eq!(bound.load().0, 0);
}

pub(crate) async fn what_is_in_hand_stays(h: &dyn Harness) {
    let connection = h.connection("a").await;
    let bound = bound(1 << 20);
    let slow = bounded(&connection, ("slow", None), "t", Some(&bound)).await;
    let ids = ids("e", 1000);
    publish_to(&connection, "t", &ids[..10], QOS_1).await;
    let in_hand = slow.take(10).await;
    publish_to(&connection, "t", &ids[10..], QOS_1).await;
    slow.shrunk().await;
    assert_eq!(in_hand[0].event.id, "e0");
    for incoming in in_hand {
        slow.source.settle(incoming.token, Settlement::Ack);
    }
    let found = slow.all_to("e999").await;
    assert!(found.len() <= MAX - 10, "{}", found.len());
    assert_eq!(found, ids[1000 - found.len()..]);
}

pub(crate) async fn subscriptions_share_it(h: &dyn Harness) {
    let connection = h.connection("a").await;
    let bound = bound(1 << 20);
    let a = bounded(&connection, ("one", None), "a/#", Some(&bound)).await;
    let b = bounded(&connection, ("two", None), "b/#", Some(&bound)).await;
    let ids = ids("e", 1000);
    for pair in ids.chunks(2) {
        publish_to(&connection, "a/x", &pair[..1], QOS_1).await;
        publish_to(&connection, "b/x", &pair[1..], QOS_1).await;
    }
    a.shrunk().await;
    let (of_a, of_b) = (a.all_to("e998").await, b.all_to("e999").await);
    assert!((MIN..=MAX).contains(&(of_a.len() + of_b.len())), "{} {}", of_a.len(), of_b.len());
    drop((a, b));
    assert_eq!(bound.load().0, 0);
}

pub(crate) async fn bytes_count_too(h: &dyn Harness) {
    let connection = h.connection("a").await;
    let bound = bound(10_000);
    let idle = bounded(&connection, ("idle", None), "t", Some(&bound)).await;
    let large = |id: &str| wasi_pubsub::broker::Event { data: vec![0; 900].into(), ..event(id) };
    let to = topic("t");
    for id in ids("e", 100) {
        let publish = connection.publish(&to, Arc::new(large(&id)), QOS_1, None);
        within("a publish", publish).await.unwrap();
    }
    idle.shrunk().await;
    let found = idle.all_to("e99").await;
    assert!((6..=11).contains(&found.len()), "{}", found.len());
}

pub(crate) async fn events_of_qos_0_are_in_nobodys_way(h: &dyn Harness) {
    let connection = h.connection("a").await;
    let bound = bound(1 << 20);
    let idle = bounded(&connection, ("idle", None), "t", Some(&bound)).await;
    publish_to(&connection, "t", &ids("zero", 380), QOS_0).await;
    publish_to(&connection, "t", &ids("e", 2000), QOS_1).await;
    idle.shrunk().await;
    let found = idle.all_to("e1999").await;
    let stored = found.iter().filter(|id| id.starts_with('e')).count();
    assert!((MIN..=MAX).contains(&stored), "{stored} of {}", found.len());
    assert_eq!(found.len() - stored, 380);
}

pub(crate) async fn a_group_has_it_until_one_without_it_shares(h: &dyn Harness) {
    let connection = h.connection("a").await;
    let bound = bound(1 << 20);
    let member = bounded(&connection, ("member", Some("g")), "t", Some(&bound)).await;
    let ids = ids("e", 2000);
    publish_to(&connection, "t", &ids[..1000], QOS_1).await;
    member.shrunk().await;
    let found = member.all_to("e999").await;
    assert!(found.len() <= MAX, "{}", found.len());
    let owner = bounded(&connection, ("owner", Some("g")), "t", None).await;
    assert_eq!(bound.load().0, 0, "nothing counts any more");
    publish_to(&connection, "t", &ids[1000..], QOS_1).await;
    drop(member);
    assert_eq!(owner.all_to("e1999").await, ids[1000..]);
}
