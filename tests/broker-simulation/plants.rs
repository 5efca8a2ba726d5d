//! Faults that are planted to see whether they are found: in the storage, or
//! between the broker and those who use it.

use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasi_pubsub::broker::driver::{
    Incoming, Parting, Ready, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{BrokerError, Order};
use wasi_pubsub::builtin::storage::{Contents, Delta, Page, Progress, Trim};

/// A fault to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    // In the storage.
    /// An event is confirmed and thrown away.
    LosesEvents,
    /// An event is delivered, but not kept.
    KeepsTooLittle,
    /// What may not be published again is not kept.
    ForgetsWhatWasPublished,
    /// A page lacks an event.
    LosesFromPages,
    /// A page ends before its last event.
    RepeatsPages,
    /// A page is out of order.
    MixesPages,
    /// Deletes one event too many.
    TrimsTooMuch,
    /// Deletes what is open.
    TrimsTheOpen,
    /// Deletes what topics are to remember.
    TrimsTheRetained,
    /// Deletes too late.
    TrimsTooLittle,
    /// What is acknowledged is not kept.
    LosesProgress,
    /// What is in hand counts as acknowledged.
    ForgetsTheOpen,
    /// What was acknowledged stays open.
    KeepsTheClosed,
    /// One event too many counts as taken.
    OverstatesProgress,
    /// Attempts are counted twice.
    MiscountsAttempts,
    /// Seeking is forgotten by a restart.
    SeeksWithoutKeeping,
    /// A snapshot's open events are forgotten by a restart.
    SeeksWithoutTheOpen,
    /// The first event of a time is missed.
    MissesTheTime,
    /// A subscription that was removed is there again after a restart.
    KeepsWhatIsRemoved,
    /// Subscriptions forget what they wanted when they are loaded.
    ForgetsFilters,
    /// Snapshots are forgotten by a restart.
    ForgetsSnapshots,
    // Before the broker.
    /// Acknowledgements are lost now and then.
    LosesAcknowledgements,
    /// Everything is given back at once.
    IgnoresDelays,
    /// What is given back counts as a failed attempt.
    ChargesAlways,
    /// A delivery is handed out twice.
    DeliversTwice,
    /// Not every time that there is something the subscribers are told.
    LosesWakeUps,
    /// More is handed out than was asked for.
    TakesTooMuch,
    /// Keys do not matter.
    IgnoresOrder,
    /// Filters do not matter.
    IgnoresFilters,
    /// One gets what he published himself.
    IgnoresPublishers,
}

impl Plant {
    /// What is loaded instead.
    pub(crate) fn load(self, contents: &mut Contents) {
        match self {
            Self::ForgetsWhatWasPublished => contents.once.clear(),
            Self::ForgetsSnapshots => contents.snapshots.clear(),
            Self::ForgetsFilters => {
                contents
                    .subscriptions
                    .iter_mut()
                    .for_each(|(record, _)| record.event_filter = None);
            }
            _ => {}
        }
    }

    /// The page that comes instead.
    pub(crate) fn page(self, page: &mut Page, each: u64) {
        match self {
            Self::LosesFromPages if each.is_multiple_of(3) => drop(page.events.pop()),
            Self::RepeatsPages if page.events.len() > 1 && !page.is_last => {
                page.next = page.events[page.events.len() - 1].number;
            }
            Self::MixesPages if page.events.len() > 1 => page.events.swap(0, 1),
            _ => {}
        }
    }

    /// What is trimmed instead.
    pub(crate) fn trim(self, trim: &mut Trim) {
        match self {
            Self::TrimsTooMuch => trim.needed_from += 1,
            Self::TrimsTheOpen => trim.needed.clear(),
            Self::TrimsTheRetained => trim.retention = None,
            Self::TrimsTooLittle => {
                trim.needed_from = trim.needed_from.saturating_sub(2);
            }
            _ => {}
        }
    }

    /// Whose progress is kept instead.
    pub(crate) fn progress(self, inner: Arc<dyn Progress>) -> Arc<dyn Progress> {
        Arc::new(FaultyProgress { inner, plant: self })
    }

    /// What is asked for instead.
    pub(crate) fn request(self, request: &mut SubscribeRequest) {
        match self {
            Self::LosesWakeUps => request.ready = deaf(request.ready.clone()),
            Self::TakesTooMuch => request.max_in_flight += 1,
            Self::IgnoresOrder => request.order = Order::None,
            Self::IgnoresFilters => request.event_filter = None,
            Self::IgnoresPublishers => request.not_from = None,
            _ => {}
        }
    }

    /// What is taken from instead.
    pub(crate) fn source(self, inner: Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(FaultySource { inner, plant: self, count: AtomicU64::new(1) })
    }
}

/// Does not hear every seventh time.
fn deaf(ready: Ready) -> Ready {
    let count = AtomicU64::new(1);
    Ready(Arc::new(move || {
        if !count.fetch_add(1, Ordering::Relaxed).is_multiple_of(7) {
            ready.notify();
        }
    }))
}

struct FaultyProgress {
    inner: Arc<dyn Progress>,
    plant: Plant,
}

impl Progress for FaultyProgress {
    fn id(&self) -> u64 {
        self.inner.id()
    }

    fn collect(&self) -> Option<Delta> {
        let mut delta = self.inner.collect()?;
        match self.plant {
            Plant::LosesProgress => {
                self.inner.kept(delta, true);
                return None;
            }
            Plant::ForgetsTheOpen => delta.opened.clear(),
            Plant::KeepsTheClosed => delta.closed.clear(),
            Plant::OverstatesProgress => delta.next += 1,
            Plant::MiscountsAttempts => {
                delta.opened.iter_mut().for_each(|(_, attempt)| *attempt += 1);
            }
            _ => {}
        }
        Some(delta)
    }

    fn kept(&self, delta: Delta, durable: bool) {
        self.inner.kept(delta, durable);
    }
}

struct FaultySource {
    inner: Arc<dyn Source>,
    plant: Plant,
    count: AtomicU64,
}

impl FaultySource {
    fn shows(&self, plant: Plant, each: u64) -> bool {
        self.plant == plant && self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(each)
    }
}

#[async_trait]
impl Source for FaultySource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        self.inner.take(max, into)?;
        if self.shows(Plant::DeliversTwice, 5) {
            into.extend(into.last().cloned());
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        if self.shows(Plant::LosesAcknowledgements, 7) {
            return;
        }
        let settlement = match (self.plant, settlement) {
            (Plant::IgnoresDelays, Settlement::Return { charged, .. }) => {
                Settlement::Return { delay: Duration::ZERO, charged }
            }
            (Plant::ChargesAlways, Settlement::Return { delay, .. }) => {
                Settlement::Return { delay, charged: true }
            }
            (_, settlement) => settlement,
        };
        self.inner.settle(token, settlement);
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.inner.confirmed(token).await
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn queued(&self) -> usize {
        self.inner.queued()
    }

    fn stop(&self) {
        self.inner.stop();
    }

    fn part(&self, parting: Parting) {
        self.inner.part(parting);
    }

    async fn parted(&self) {
        self.inner.parted().await;
    }
}
