//! Publishing: admission, number, storage.

use super::broker::{Shared, closed};
use super::once::{Claim, Found};
use super::publication::{Admission, Offer, Publication, Routed};
use super::queue::{Full, Queue};
use super::storage::{Appended, StorageError};
use crate::broker::driver::RecordChange;
use crate::broker::{BrokerError, Event, Qos, Topic};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often a publisher looks whether a full storage has room.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a publisher brings.
#[derive(Clone, Copy)]
pub(super) struct Brought<'a> {
    pub(super) topic: &'a Topic,
    pub(super) event: &'a Arc<Event>,
    pub(super) qos: Qos,
    pub(super) from: Option<&'a str>,
    pub(super) is_dead_letter: bool,
    /// What changes with it in the records of the storage.
    pub(super) records: &'a [RecordChange],
}

/// How far a publisher got.
enum Tried {
    /// Nobody wants the event.
    Unwanted,
    Refused(BrokerError),
    Appended(Appended),
}

/// Told of an event that is on its way into the storage.
pub(super) type StoredReply = oneshot::Receiver<Result<u64, StorageError>>;

/// Waits until it is there.
pub(super) async fn is_stored(reply: StoredReply) -> Result<(), BrokerError> {
    match reply.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(closed()),
    }
}

impl Shared {
    pub(super) async fn publish(&self, brought: Brought<'_>) -> Result<(), BrokerError> {
        match self.submit(brought).await? {
            None => Ok(()),
            Some(stored) => is_stored(stored).await,
        }
    }

    /// Publishes an event up to where its place is settled. What few publishes come to is
    /// in boxes of its own, so that the others take little. Returns what says that it is
    /// stored, if there is something to wait for.
    pub(super) async fn submit(
        &self,
        brought: Brought<'_>,
    ) -> Result<Option<StoredReply>, BrokerError> {
        let mut claim = None;
        if brought.qos == Qos::EffectivelyOnce {
            match Box::pin(self.once.claim(brought.topic, brought.event, self.time())).await {
                Found::New(new) => claim = Some(new),
                Found::Published => {
                    return Box::pin(self.put_records(brought.records)).await.map(|()| None);
                }
            }
        }
        let size = brought.event.size();
        loop {
            let tried = match self.try_publish(&brought, size, &mut claim) {
                Ok(tried) => tried,
                Err(full) => {
                    Box::pin(self.publish_with_room(&brought, size, &mut claim, full)).await
                }
            };
            match tried {
                Tried::Unwanted => {
                    return Box::pin(self.put_records(brought.records)).await.map(|()| None);
                }
                Tried::Refused(error) => return Err(error),
                Tried::Appended(Appended::Now(_, notices)) => {
                    notices.send();
                    return Ok(None);
                }
                Tried::Appended(Appended::Later(reply)) => return Ok(Some(reply)),
                Tried::Appended(Appended::Full(mut publication)) => {
                    if brought.qos == Qos::AtMostOnce {
                        // It does not wait: it is delivered, and not remembered.
                        publication.is_kept = false;
                        if let Appended::Now(_, notices) = self.storage.append(publication) {
                            notices.send();
                        }
                        return Ok(None);
                    }
                    claim = publication.claim.take();
                    drop(publication);
                    let trimmed = self.trimmed.notified();
                    let _either = Box::pin(tokio::time::timeout(LOOK_AGAIN, trimmed)).await;
                }
            }
        }
    }

    async fn publish_with_room(
        &self,
        brought: &Brought<'_>,
        size: usize,
        claim: &mut Option<Claim>,
        mut full: Full,
    ) -> Tried {
        loop {
            let try_again = || self.try_publish(brought, size, claim);
            // Room at one may mean that another is full now.
            match full.queue.clone().wait_for_room(full.freed, try_again).await {
                Ok(tried) => return tried,
                Err(other) => full = other,
            }
        }
    }

    /// Hands an event to the storage with room in all queues that it belongs to,
    /// or says which one is full.
    fn try_publish(
        &self,
        brought: &Brought<'_>,
        size: usize,
        claim: &mut Option<Claim>,
    ) -> Result<Tried, Full> {
        let &Brought { topic, event, qos, from, is_dead_letter, .. } = brought;
        let offer = Offer { size, qos, from, is_dead_letter };
        let routes = self.routes.read();
        if routes.is_closed {
            return Ok(Tried::Refused(closed()));
        }
        let mut matching: SmallVec<[Arc<Queue>; 2]> = SmallVec::new();
        routes.matching(topic, event, |queue| matching.push(queue.clone()));
        let is_remembered = routes.is_remembered(topic);
        if matching.is_empty() && !is_remembered {
            return Ok(Tried::Unwanted);
        }
        // In one order for all, so that of two publishers one is always first.
        matching.sort_unstable_by_key(|queue| queue.number);
        let mut routed = Routed::default();
        let mut is_wanted = false;
        let mut full = None;
        for queue in matching {
            let admission = queue.admit(&offer);
            match admission {
                Admission::Full(freed) => {
                    full = Some(Full { queue, freed });
                    break;
                }
                Admission::Unwanted => {}
                Admission::Reserved | Admission::Unreserved => {
                    is_wanted |= admission == Admission::Reserved;
                    routed.push((queue, admission));
                }
            }
        }
        if let Some(full) = full {
            for (queue, _) in routed.iter().filter(|(_, given)| *given == Admission::Reserved) {
                queue.release(size);
            }
            return Err(full);
        }
        let is_kept = is_remembered || is_wanted && self.storage.holds_backlog();
        let publication = self.publication(brought, size, routed, is_kept, claim);
        Ok(Tried::Appended(self.append(publication)))
    }

    fn publication(
        &self,
        brought: &Brought<'_>,
        size: usize,
        routes: Routed,
        is_kept: bool,
        claim: &mut Option<Claim>,
    ) -> Publication {
        let claim = claim.take();
        Publication {
            topic: brought.topic.clone(),
            event: brought.event.clone(),
            size,
            qos: brought.qos,
            from: brought.from.filter(|_| is_kept).map(Arc::from),
            time: if is_kept { self.time() } else { std::time::SystemTime::UNIX_EPOCH },
            once: claim.as_ref().map(Claim::mark),
            records: brought.records.to_vec(),
            is_kept,
            is_dead_letter: brought.is_dead_letter,
            routes,
            claim,
        }
    }

    /// Changes records without an event to go with them.
    async fn put_records(&self, changes: &[RecordChange]) -> Result<(), BrokerError> {
        match self.storage.records() {
            Some(records) if !changes.is_empty() => records.put(changes.to_vec()).await,
            _ => Ok(()),
        }
    }

    fn append(&self, publication: Publication) -> Appended {
        if publication.is_kept {
            self.activity.note();
        }
        self.storage.append(publication)
    }
}
