//! Brings dead letters from their broker to this machine.

use super::letter::key;
use super::places::{Place, client_id};
use super::spool::{Spool, Store};
use crate::broker::{
    Broker, BrokerError, Event, Lease, Subscription, SubscriptionSettings, TopicFilter, Verdict,
};
use std::sync::Arc;
use std::time::Duration;

/// How long the broker may take to let us in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the last acknowledgements may take.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// How many letters are written to the disk at once.
const BATCH: usize = 64;
/// How often the session is asked for again when another program takes it: a
/// host that starts has a look at it.
const SESSIONS_MAX: u32 = 5;

/// Moves all letters of a place into its spool, until the broker has sent none
/// for `wait`. Returns how many there were.
///
/// # Errors
/// Why some may still be at the broker, in words.
pub(super) async fn collect(
    store: &Store,
    spool: &mut Spool,
    place: &Place,
    wait: Duration,
) -> Result<usize, String> {
    let mut collected = 0;
    for session in 1.. {
        match take_all(store, spool, place, wait, &mut collected).await {
            Err(Stop::Session(_)) if session < SESSIONS_MAX => {}
            Err(Stop::Session(reason) | Stop::For(reason)) => return Err(reason),
            Ok(()) => break,
        }
    }
    Ok(collected)
}

/// Why no more is taken.
enum Stop {
    /// The session has ended; another one may help.
    Session(String),
    For(String),
}

async fn take_all(
    store: &Store,
    spool: &mut Spool,
    place: &Place,
    wait: Duration,
    collected: &mut usize,
) -> Result<(), Stop> {
    let broker = open(place).map_err(Stop::For)?;
    let result = async {
        let subscription = subscribe(&broker, place).await?;
        let result = drain(store, spool, &subscription, wait, collected).await;
        subscription.stop();
        result
    }
    .await;
    broker.close(CLOSE_GRACE).await;
    result
}

fn open(place: &Place) -> Result<Arc<Broker>, String> {
    match place.connection.open_kept(&client_id(&place.topic)) {
        Some(Ok(connection)) => Ok(place.broker(connection)),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("this kind of broker keeps no dead letters".into()),
    }
}

async fn subscribe(broker: &Arc<Broker>, place: &Place) -> Result<Arc<Subscription>, Stop> {
    let filter = TopicFilter::new(place.topic.as_str());
    let filter = filter.map_err(|error| Stop::For(error.to_string()))?;
    let settings = SubscriptionSettings {
        label: client_id(&place.topic),
        ..SubscriptionSettings::new(filter)
    };
    let subscribed = broker.subscribe(settings);
    match tokio::time::timeout(CONNECT_TIME_MAX, subscribed).await {
        Ok(Ok(subscription)) => Ok(subscription),
        Ok(Err(BrokerError::Closed(reason))) => Err(Stop::Session(reason)),
        Ok(Err(error)) => Err(Stop::For(error.to_string())),
        Err(_) => Err(Stop::For(format!(
            "{} cannot be reached within {CONNECT_TIME_MAX:?}",
            place.connection.describe()
        ))),
    }
}

async fn drain(
    store: &Store,
    spool: &mut Spool,
    subscription: &Arc<Subscription>,
    wait: Duration,
    collected: &mut usize,
) -> Result<(), Stop> {
    loop {
        let Ok(first) = tokio::time::timeout(wait, subscription.next()).await else {
            return Ok(());
        };
        let mut leases = vec![first.map_err(|error| Stop::Session(error.to_string()))?];
        while leases.len() < BATCH
            && let Ok(Some(lease)) = subscription.try_next()
        {
            leases.push(lease);
        }
        keep(store, spool, leases, collected)?;
    }
}

/// Writes letters to the disk, and acknowledges them then.
fn keep(
    store: &Store,
    spool: &mut Spool,
    leases: Vec<Lease>,
    collected: &mut usize,
) -> Result<(), Stop> {
    let events: Vec<&Event> = leases.iter().map(|lease| &**lease.event()).collect();
    if !spool.has_room(&events) {
        return Err(Stop::For(
            "there is no room for more on this machine: redrive or drop some of them".into(),
        ));
    }
    let added = spool.add(store, &events);
    *collected += added.map_err(|error| Stop::For(format!("cannot be kept here: {error}")))?;
    for lease in leases {
        tracing::debug!(letter = ?key(lease.event()), "collected");
        lease.settle(Verdict::Ack);
    }
    Ok(())
}
