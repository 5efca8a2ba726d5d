//! What a process before has left: retained messages, and sessions, which go on as
//! if their clients had just gone.

use super::archive::{Archive, RECEIVED, RETAINED, SENT, SESSION, SUBSCRIPTION};
use super::codec::{Header, Sent, Subscribed, Unreadable};
use super::hub::Hub;
use super::kept::Kept;
use super::packets::{Options, Retained, Will};
use super::retained::{Restored, RetainedMessage};
use super::session::Session;
use super::subscribe::{is_labelled, open, target};
use crate::broker::driver::RecordChange;
use crate::broker::{BrokerError, Qos, Topic};
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after a failure records are read again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many sessions are opened at the same time.
const SESSIONS_AT_ONCE: usize = 256;

/// Stands for what could not be read of a subscription that is to end.
const UNREAD: Subscribed = Subscribed {
    options: Options {
        qos: Qos::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retained: Retained::Never,
    },
    identifier: None,
    since: None,
};

/// A session as its records have it.
struct Found {
    number: u64,
    header: Header,
    subscriptions: Vec<(String, Subscribed)>,
    received: Vec<u16>,
    sent: Vec<(u16, Sent)>,
    /// All of it could be read, and no later session of its client is there.
    is_whole: bool,
}

/// Takes in what is kept.
pub(super) async fn restore(hub: &Arc<Hub>, archive: &Arc<Archive>) {
    let began = Instant::now();
    let retained = restore_retained(hub, archive).await;
    let found = sessions(archive).await;
    let count = found.len();
    // First those that go on: what they share with others is not to end with these.
    let (live, over): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.is_live(hub));
    for found in [live, over] {
        let restore = |found| restore_session(hub, archive, found);
        stream::iter(found).for_each_concurrent(SESSIONS_AT_ONCE, restore).await;
    }
    // Where the disk failed at the wrong moment, there are subscriptions of nobody.
    match hub.broker.forget_subscriptions(&is_labelled).await {
        Ok(0) => {}
        Ok(removed) => tracing::warn!(
            "{removed} subscriptions of MQTT clients that have no session are removed"
        ),
        Err(error) => {
            tracing::warn!(%error, "subscriptions of MQTT clients that have no session cannot be removed")
        }
    }
    if retained + count > 0 {
        let took = began.elapsed();
        tracing::debug!(retained, sessions = count, ?took, "what MQTT clients left is there");
    }
}

/// Returns how many retained messages there are.
async fn restore_retained(hub: &Hub, archive: &Arc<Archive>) -> usize {
    let mut unfit = 0;
    let mut gone = Vec::new();
    each(archive, RETAINED, |key, value| match RetainedMessage::from_bytes(&key, value) {
        Ok(message) if hub.expiry(&message.event).is_err() => gone.push(key),
        Ok(message) => {
            if hub.retained.restore(message) == Restored::Unfit {
                unfit += 1;
                gone.push(key);
            }
        }
        Err(error) => {
            let topic = String::from_utf8_lossy(&key);
            tracing::warn!(%topic, %error, "a retained message cannot be read, and is removed");
            gone.push(key);
        }
    })
    .await;
    if unfit > 0 {
        tracing::warn!("{unfit} retained messages are removed: the bounds have no room for them");
    }
    // What is not here is not to be there: a client could not remove it any more.
    for key in gone {
        let topic = std::str::from_utf8(&key).ok().and_then(|text| Topic::new(text).ok());
        match topic {
            Some(topic) if archive.has_retained(&topic) => {}
            Some(topic) => drop(archive.note_retained(&topic, None)),
            None => drop(archive.note([RecordChange { kind: RETAINED, key, value: None }])),
        }
    }
    hub.retained.is_complete();
    hub.retained.len()
}

/// Calls `found` with each record of a kind. While they cannot be read it waits:
/// without them clients would be told that they have no session.
async fn each(archive: &Archive, kind: u8, mut found: impl FnMut(Vec<u8>, Vec<u8>)) {
    let mut after = Vec::new();
    let mut is_failing = false;
    loop {
        match archive.records.load(kind, &after).await {
            Ok(page) => {
                let Some((last, _)) = page.last() else { return };
                after.clone_from(last);
                page.into_iter().for_each(|(key, value)| found(key, value));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "MQTT clients wait: their sessions cannot be read");
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// All sessions, with what belongs to them.
async fn sessions(archive: &Arc<Archive>) -> Vec<Found> {
    let mut all: BTreeMap<u64, Found> = BTreeMap::new();
    let mut nobodys = Vec::new();
    each(archive, SESSION, |key, value| {
        let number = number_of(&key).map(|(number, _)| number);
        let read = number.and_then(|number| Ok((number, Header::from_bytes(&value)?)));
        match read {
            Ok((number, header)) => {
                let found = Found {
                    number,
                    header,
                    subscriptions: Vec::new(),
                    received: Vec::new(),
                    sent: Vec::new(),
                    is_whole: true,
                };
                all.insert(number, found);
            }
            Err(error) => {
                tracing::warn!(%error, "an MQTT session cannot be read, and is removed");
                nobodys.push(RecordChange { kind: SESSION, key, value: None });
            }
        }
    })
    .await;
    for kind in [SUBSCRIPTION, RECEIVED, SENT] {
        each(archive, kind, |key, value| {
            let found = number_of(&key).ok().and_then(|(number, part)| {
                archive.know_session(number);
                Some((all.get_mut(&number)?, part))
            });
            let Some((found, part)) = found else {
                nobodys.push(RecordChange { kind, key, value: None });
                return;
            };
            if let Err(error) = found.add(kind, part, &value) {
                let client_id = &found.header.client_id;
                tracing::warn!(%client_id, %error, "an MQTT session cannot be read, and ends");
                found.is_whole = false;
                nobodys.push(RecordChange { kind, key, value: None });
            }
        })
        .await;
    }
    if let Some(last) = all.keys().next_back() {
        archive.know_session(*last);
    }
    if !nobodys.is_empty() {
        archive.note(nobodys);
    }
    // The last session of a client is the one that there is. What an earlier one has in
    // common with it was removed from the broker before it began.
    let mut later: HashMap<Arc<str>, HashSet<String>> = HashMap::new();
    for found in all.values_mut().rev() {
        found.is_whole &= !later.contains_key(&found.header.client_id);
        let filters = later.entry(found.header.client_id.clone()).or_default();
        found.subscriptions.retain(|(filter, _)| filters.insert(filter.clone()));
    }
    all.into_values().collect()
}

/// The number of the session that a record belongs to, and the rest of its key.
fn number_of(key: &[u8]) -> Result<(u64, &[u8]), Unreadable> {
    match key.split_first_chunk() {
        Some((number, part)) => Ok((u64::from_be_bytes(*number), part)),
        None => Err(Unreadable::new("its key is too short")),
    }
}

impl Found {
    fn add(&mut self, kind: u8, part: &[u8], value: &[u8]) -> Result<(), Unreadable> {
        if kind == SUBSCRIPTION {
            let filter = std::str::from_utf8(part)
                .map_err(|_| Unreadable::new("the filter of a subscription is no UTF-8"))?;
            let read = Subscribed::from_bytes(value);
            // The broker has it in any case, and is to forget it.
            let subscribed = read.as_ref().copied().unwrap_or(UNREAD);
            self.subscriptions.push((filter.to_owned(), subscribed));
            return read.map(drop);
        }
        let id = part.try_into().map(u16::from_be_bytes);
        let id = id.map_err(|_| Unreadable::new("a packet identifier has not two bytes"))?;
        match kind {
            SENT => self.sent.push((id, Sent::from_bytes(value)?)),
            _ => self.received.push(id),
        }
        Ok(())
    }

    fn is_live(&self, hub: &Hub) -> bool {
        self.is_whole && !self.left(hub).is_zero()
    }

    /// What is left of the session's time. A clock that was set back makes it no
    /// longer than it was.
    fn left(&self, hub: &Hub) -> Duration {
        let away = hub.millis().saturating_sub(self.header.left.unwrap_or(u64::MAX));
        let expiry = Duration::from_secs(self.header.expiry.into());
        let expiry = expiry.min(hub.settings.limits.session_expiry_max);
        expiry.saturating_sub(Duration::from_millis(away))
    }

    /// The will that waits, with what is left of its delay.
    fn will(&mut self, hub: &Hub) -> Option<(Will, Duration)> {
        let will = self.header.will.take()?;
        let away = hub.millis().saturating_sub(self.header.left.unwrap_or(u64::MAX));
        let delay = Duration::from_secs(will.delay.into());
        Some((will, delay.saturating_sub(Duration::from_millis(away))))
    }
}

/// Opens the subscriptions of a session again, and keeps it for its client; or ends
/// it, where its time is over.
async fn restore_session(hub: &Arc<Hub>, archive: &Arc<Archive>, mut found: Found) {
    let client_id = found.header.client_id.clone();
    let left = found.left(hub);
    let mut session =
        Box::new(Session::new(client_id.clone(), &hub.settings.limits, &hub.counters));
    session.kept = Some(Box::new(Kept::restored(archive, found.number, found.header.clone())));
    for (filter, subscribed) in &found.subscriptions {
        if let Err(error) = open_again(hub, &mut session, filter, *subscribed).await {
            tracing::warn!(%client_id, filter, %error, "an MQTT session ends: its subscription cannot be opened");
            found.is_whole = false;
        }
    }
    for (id, sent) in &found.sent {
        session.expect(*id, sent);
    }
    session.unreleased.all.extend(&found.received);
    session.unreleased.restored.extend(&found.received);
    let was_there = found.header.left.is_none();
    let expiry = found.header.expiry;
    let will = found.will(hub);
    if !found.is_whole || left.is_zero() {
        if let Some((will, _)) = will.filter(|_| found.is_whole) {
            hub.publish_will(&client_id, will);
        }
        session.end();
        return;
    }
    if let (Some(kept), true) = (&mut session.kept, was_there) {
        // From now on it counts.
        kept.left(hub.millis(), expiry, will.as_ref().map(|(will, _)| will.clone()));
    }
    let now = Instant::now();
    let expires = now.checked_add(left);
    let will = will.map(|(will, delay)| (will, now + delay.min(left)));
    hub.registry.restore(session, expires, will, hub.settings.limits.sessions_max);
}

async fn open_again(
    hub: &Arc<Hub>,
    session: &mut Session,
    filter: &str,
    subscribed: Subscribed,
) -> Result<(), BrokerError> {
    let target = target(filter, usize::MAX);
    let target = target.map_err(|fault| BrokerError::InvalidTopic(fault.text.into_owned()))?;
    let opened = open(hub, session, &target, filter, subscribed).await?;
    session.insert(opened);
    Ok(())
}
