//! The one timer of the broker, for events that are held back.

use super::queue::Queue;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Which queue is to be looked at when. A queue registers again whenever it must
/// be looked at sooner; looking too often does no harm.
#[derive(Default)]
pub(super) struct Timer {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<BTreeMap<(Instant, u64), Weak<Queue>>>,
    changed: Notify,
}

impl Timer {
    /// Starts the task, in the runtime of the caller, where there is none.
    pub(super) fn start(&self) {
        let mut task = self.task.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(run(self.shared.clone())));
        }
    }

    /// Looks at a queue at this time.
    pub(super) fn arm(&self, queue: &Arc<Queue>, at: Instant) {
        let sooner = {
            let mut queues = self.shared.queues.lock();
            queues.insert((at, queue.number), Arc::downgrade(queue));
            queues.keys().next().is_some_and(|(first, _)| *first == at)
        };
        if sooner {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

async fn run(shared: Arc<Shared>) {
    loop {
        let now = super::now();
        for queue in shared.due(now) {
            if let Some(at) = queue.tick(now) {
                shared.queues.lock().insert((at, queue.number), Arc::downgrade(&queue));
            }
        }
        let next = shared.queues.lock().keys().next().map(|(at, _)| *at);
        match next {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = shared.changed.notified() => {}
                }
            }
            None => shared.changed.notified().await,
        }
    }
}

impl Shared {
    fn due(&self, now: Instant) -> Vec<Arc<Queue>> {
        let mut due = Vec::new();
        let mut queues = self.queues.lock();
        while let Some(first) = queues.first_entry()
            && first.key().0 <= now
        {
            due.extend(first.remove().upgrade());
        }
        due
    }
}
