//! Fetching what is only in the storage.

use super::bounded::Discarded;
use super::member::{Told, tell};
use super::{Entry, Queue};
use crate::broker::Qos;
use crate::builtin::storage::{Page, StorageError, Stored};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before a page is asked for again: the storage has failed, or
/// what is to come is not durable yet.
const FETCH_AGAIN: Duration = Duration::from_millis(20);

impl Queue {
    /// Fetches what is only in the storage, if there is room for it and somebody
    /// to take it.
    pub(in crate::builtin) fn fetch(self: &Arc<Self>) {
        let asked = {
            let mut state = self.state.lock();
            let wanted = state.is_fetching_useful() && !state.closed && !state.is_paused;
            if wanted { state.backlog.fetch(&self.filter) } else { None }
        };
        let Some((fetch, round)) = asked else { return };
        let this = self.clone();
        let reply = Box::new(move |page| this.fetched(round, page));
        self.storage.fetch(fetch, reply);
    }

    pub(in crate::builtin) fn fetch_later(self: &Arc<Self>, delay: Duration) {
        let this = self.clone();
        self.runtime.spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            this.fetch();
        });
    }

    fn fetched(self: &Arc<Self>, round: u64, page: Result<Page, StorageError>) {
        let (told, again, discarded) = match page {
            Ok(page) => self.take_page(round, page),
            Err(error) => {
                tracing::warn!(subscription = self.name, %error, "events cannot be read");
                self.state.lock().backlog.fetch_failed(round);
                (Told::new(), Some(FETCH_AGAIN), None)
            }
        };
        tell(&told);
        self.discarded(discarded);
        if let Some(delay) = again {
            self.fetch_later(delay);
        }
    }

    /// Returns whom to tell, when to fetch again, if at once or later, and what was
    /// discarded.
    fn take_page(&self, round: u64, page: Page) -> (Told, Option<Duration>, Option<Discarded>) {
        let filter = self.event_filter();
        let mut state = self.state.lock();
        let (qos, not_from) = (state.qos, state.not_from.clone());
        let (live_from, live_to) = (state.live_from, state.live_to);
        let wanted = |stored: Stored| {
            let own = stored.from.is_some() && stored.from.as_deref() == not_from.as_deref();
            let at_qos_0 = stored.qos.min(qos) == Qos::AtMostOnce || stored.number < live_to;
            let live = at_qos_0 && stored.number >= live_from;
            // What is open may come from a snapshot of another subscription.
            let fits = self.filter.matches(&stored.topic)
                && filter.as_ref().is_none_or(|filter| filter.matches(&stored.event));
            (!own && !live && fits).then(|| Entry::stored(stored, qos))
        };
        let Some(fetched) = state.backlog.take_page(round, page, wanted) else {
            return (Told::new(), None, None);
        };
        for entry in fetched.open {
            state.returned.insert(entry.number, entry);
        }
        state.over.extend(fetched.lost);
        state.report();
        let discarded = state.discard();
        if state.members.is_empty() {
            state.backlog.park();
        }
        let goes_on = state.backlog.wants_fetch() && state.is_fetching_useful();
        let again = goes_on.then_some(match fetched.is_early {
            true => FETCH_AGAIN,
            false => Duration::ZERO,
        });
        (state.all(), again, discarded)
    }
}
