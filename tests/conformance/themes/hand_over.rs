//! What a member of a group leaves unacknowledged.

use crate::harness::Harness;
use crate::support::*;
use std::collections::BTreeSet;
use wasi_pubsub::broker::Verdict;

pub(crate) async fn what_a_member_leaves_goes_to_another(h: &dyn Harness) {
    let (a, b) = (h.broker("a").await, h.broker("b").await);
    let leaver = subscribe(&a, queue("g", "jobs")).await;
    publish(&a, "jobs", ids("j", 10)).await;
    let in_hand = [take(&leaver).await, take(&leaver).await];
    confirm(take(&leaver).await, Verdict::Ack).await;

    let stayer = subscribe(&b, queue("g", "jobs")).await;
    leaver.stop();
    drop(in_hand);
    drop(leaver);
    let found: BTreeSet<_> = handle_many(&stayer, 9).await.into_iter().collect();
    let wanted = ids("j", 10).into_iter().filter(|id| id != "j2").collect::<BTreeSet<_>>();
    assert_eq!(found, wanted);
    publish(&a, "jobs", ["marker"]).await;
    handle(&stayer, "marker").await;
}
