//! Subscribing: the queue of a new member, and what the storage must know of it.

use super::broker::{Shared, closed};
use super::queue::{Member, Queue, QueueParts};
use super::routes::Routes;
use super::storage::{Position, StorageError};
use crate::broker::driver::SubscribeRequest;
use crate::broker::{BrokerError, Qos};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

/// A queue that gets a new member. Dropped before that is done, because it failed
/// or nobody waits any more, it leaves everything as it was.
struct Joining<'a> {
    shared: &'a Shared,
    queue: Arc<Queue>,
    /// Whether it was made for this member.
    is_new: bool,
    /// Whether it was made durable for this member.
    is_durable_now: bool,
    is_done: bool,
    runtime: Handle,
    _placing: OwnedMutexGuard<()>,
}

/// What a request means.
enum Found {
    /// This queue.
    Queue(Arc<Queue>),
    /// This one has its name and other topics: it is for nobody any more.
    Outdated(Arc<Queue>),
    Nothing,
}

/// What the storage has to know of a queue that has a new member.
enum Change {
    None,
    Settings,
    All(Position),
}

impl Shared {
    /// Makes a new member of the queue that is there, or of a new one.
    pub(super) async fn join(
        &self,
        request: SubscribeRequest,
    ) -> Result<(Arc<Queue>, Arc<Member>), BrokerError> {
        let start = self.number_of(request.start).await?;
        let number = self.next_id();
        loop {
            let found = self.found(&request)?;
            let joining = match found {
                Found::Queue(queue) => self.join_known(queue, &request).await?,
                Found::Nothing => self.join_new(&request, start).await?,
                Found::Outdated(queue) => {
                    self.replace(&queue).await?;
                    continue;
                }
            };
            // It may have been removed meanwhile.
            let Some(mut joining) = joining else { continue };
            let queue = joining.queue.clone();
            let member = Arc::new(Member::new(number, request.clone()));
            {
                let mut routes = self.routes.write();
                if !routes.has(&queue) {
                    continue;
                }
                routes.bequeathed.retain(|_, other| !Arc::ptr_eq(other, &queue));
                queue.join(member.clone());
            }
            joining.is_done = true;
            match joining.is_new {
                true => queue.resume(),
                false => queue.fetch(),
            }
            return Ok((queue, member));
        }
    }

    fn found(&self, request: &SubscribeRequest) -> Result<Found, BrokerError> {
        let routes = self.routes.read();
        if routes.is_closed {
            return Err(closed());
        }
        if let Some(group) = &request.group {
            let found = routes.groups.get(&(request.filter.clone(), group.clone()));
            return match found {
                Some(queue) if filters_differ(queue, request) && queue.members() > 0 => {
                    Err(other_filter(group, queue))
                }
                Some(queue) => Ok(Found::Queue(queue.clone())),
                None => Ok(Found::Nothing),
            };
        }
        let bequeathed = routes.bequeathed.get(&request.label);
        // One that has a subscriber is another one of the same label.
        let named = routes.by_name.get(&request.label);
        let named = named.filter(|queue| queue.is_durable() && queue.members() == 0);
        let found = bequeathed.or(named.filter(|queue| queue.group.is_none()));
        Ok(match found {
            Some(queue) if queue.filter == request.filter => Found::Queue(queue.clone()),
            Some(queue) => Found::Outdated(queue.clone()),
            None => Found::Nothing,
        })
    }

    async fn join_known(
        &self,
        queue: Arc<Queue>,
        request: &SubscribeRequest,
    ) -> Result<Option<Joining<'_>>, BrokerError> {
        let placing = queue.placing.clone().lock_owned().await;
        let (change, is_durable_now) = {
            let mut routes = self.routes.write();
            let is_bequeathed = routes.bequeathed.values().any(|other| Arc::ptr_eq(other, &queue));
            let is_taken = queue.group.is_none() && !is_bequeathed && queue.members() > 0;
            if !routes.has(&queue) || is_taken || routes.is_closed {
                return Ok(None);
            }
            if let Some(group) = &queue.group
                && filters_differ(&queue, request)
                && queue.members() > 0
            {
                return Err(other_filter(group, &queue));
            }
            let was_durable = queue.is_durable();
            let change = self.adapt(&mut routes, &queue, request);
            (change, queue.is_durable() && !was_durable)
        };
        Ok(Some(self.keep(queue, change, (false, is_durable_now), placing).await?))
    }

    async fn join_new(
        &self,
        request: &SubscribeRequest,
        start: Option<u64>,
    ) -> Result<Option<Joining<'_>>, BrokerError> {
        let (queue, next, placing) = {
            let mut routes = self.routes.write();
            let (queue, next) = self.make(request, start, free_name(&routes, &request.label));
            let free = queue.placing.clone().try_lock_owned();
            let known = request.group.clone().map(|group| (request.filter.clone(), group));
            let is_known = known.is_some_and(|known| routes.groups.contains_key(&known));
            // Another one may have made it meanwhile.
            let Some(placing) = free.ok().filter(|_| !is_known && !routes.is_closed) else {
                return Ok(None);
            };
            routes.insert(queue.clone());
            (queue, next, placing)
        };
        let change = Change::All(Position { next, open: Vec::new() });
        Ok(Some(self.keep(queue, change, (true, false), placing).await?))
    }

    async fn keep(
        &self,
        queue: Arc<Queue>,
        change: Change,
        (is_new, is_durable_now): (bool, bool),
        placing: OwnedMutexGuard<()>,
    ) -> Result<Joining<'_>, StorageError> {
        let joining = Joining {
            shared: self,
            queue,
            is_new,
            is_durable_now,
            is_done: false,
            runtime: Handle::current(),
            _placing: placing,
        };
        let queue = &joining.queue;
        if !queue.is_durable() {
            return Ok(joining);
        }
        match change {
            Change::None => return Ok(joining),
            Change::Settings => self.storage.put_subscription(self.record(queue)).await?,
            Change::All(position) => {
                // Both in one commit.
                let put = self.storage.put_subscription(self.record(queue));
                let set = self.storage.set_position(queue.number, position);
                let (put, set) = tokio::join!(put, set);
                put.and(set)?;
            }
        }
        queue.is_changed.store(false, Ordering::Relaxed);
        Ok(joining)
    }

    /// Makes a queue what its new member asks for.
    fn adapt(&self, routes: &mut Routes, queue: &Arc<Queue>, request: &SubscribeRequest) -> Change {
        let mut is_changed = false;
        if filters_differ(queue, request) {
            routes.change_filter(queue, request.event_filter.clone());
            is_changed = true;
        }
        let end = self.storage.last_number() + 1;
        is_changed |= queue.adapt(request.qos, request.not_from.as_ref(), end);
        // What could not be kept before is tried again.
        is_changed |= queue.is_changed.fetch_or(is_changed, Ordering::Relaxed);
        let holds = self.storage.holds_backlog() && !request.is_temporary;
        if holds && request.qos > Qos::AtMostOnce && !queue.is_durable() {
            queue.is_durable.store(true, Ordering::Relaxed);
            return Change::All(queue.position(self.storage.durable_number()));
        }
        if is_changed { Change::Settings } else { Change::None }
    }

    /// Makes a new queue. It hands nothing out before it is resumed.
    fn make(
        &self,
        request: &SubscribeRequest,
        start: Option<u64>,
        name: String,
    ) -> (Arc<Queue>, u64) {
        let holds = self.storage.holds_backlog() && !request.is_temporary;
        let parts = QueueParts {
            number: self.next_id(),
            name,
            filter: request.filter.clone(),
            group: request.group.clone(),
            event_filter: request.event_filter.clone(),
            qos: request.qos,
            not_from: request.not_from.clone(),
            created: self.time(),
            is_durable: holds && request.qos > Qos::AtMostOnce,
        };
        let queue = self.queue(parts, Handle::current());
        let end = self.storage.last_number() + 1;
        let from = start.unwrap_or(end).min(end);
        queue.pause();
        queue.begin(Position { next: from, open: Vec::new() }, end, end);
        if from < end {
            self.count_behind(&queue, from, &Handle::current());
        }
        (queue, from)
    }

    /// Makes way for another subscription of the name of this one.
    async fn replace(&self, queue: &Arc<Queue>) -> Result<(), StorageError> {
        if queue.is_durable() {
            self.remove(queue).await?;
            return Ok(());
        }
        self.routes.write().remove(queue);
        // Who waits for its room needs none any more.
        queue.tell_publishers(true);
        Ok(())
    }

    /// Forgets a queue that nobody takes from, first in the storage: where that
    /// fails it is as it was. Says whether it was there.
    pub(super) async fn remove(&self, queue: &Arc<Queue>) -> Result<bool, StorageError> {
        let _placing = queue.placing.lock().await;
        if queue.members() > 0 || !self.routes.read().has(queue) {
            return Ok(false);
        }
        if queue.is_durable() {
            self.storage.remove_subscription(queue.number).await?;
        }
        self.unroute_deserted(queue);
        Ok(true)
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let (shared, queue) = (self.shared, &self.queue);
        if self.is_durable_now {
            queue.is_durable.store(false, Ordering::Relaxed);
        }
        if !self.is_new {
            return;
        }
        shared.unroute_deserted(queue);
        if queue.is_durable() {
            // It may have been kept all the same.
            let (storage, number) = (shared.storage.clone(), queue.number);
            self.runtime.spawn(async move { storage.remove_subscription(number).await });
        }
    }
}

fn other_filter(group: &str, queue: &Queue) -> BrokerError {
    let filter = queue.event_filter();
    let filter = filter.map_or_else(|| "no filter".to_owned(), |found| format!("filter `{found}`"));
    BrokerError::Unsupported(format!(
        "group `{group}` shares `{}` with {filter}: all who share a queue have the same one",
        queue.filter
    ))
}

/// A label that no other subscription has.
fn free_name(routes: &Routes, label: &str) -> String {
    let numbered = (2..).map(|number| format!("{label} ({number})"));
    let mut names = std::iter::once(label.to_owned()).chain(numbered);
    let free = names.find(|name| !routes.by_name.contains_key(name));
    free.unwrap_or_else(|| label.to_owned())
}

fn filters_differ(queue: &Queue, request: &SubscribeRequest) -> bool {
    queue.event_filter().as_deref() != request.event_filter.as_ref()
}
