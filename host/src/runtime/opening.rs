//! A subscription that is open, or will be once its broker is reached.

use super::setup::SubscriptionSetup;
use super::status::SubscriptionStatus;
use crate::broker::driver::Parting;
use crate::broker::{Broker, Subscription, SubscriptionSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The least time that a subscription gets to settle what is in flight.
const PART_GRACE_MIN: Duration = Duration::from_millis(100);

/// A subscription, from the wish for it to its end. Components of several
/// generations share it while it stays the same.
pub(super) struct Opening {
    pub(super) broker: Arc<Broker>,
    pub(super) settings: SubscriptionSettings,
    pub(super) push: bool,
    state: watch::Sender<State>,
    /// Whether it is over, as the service wants it.
    parted: AtomicBool,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone)]
enum State {
    Waiting,
    Open(Arc<Subscription>),
    Refused(String),
}

impl Opening {
    /// Nothing is opened before [`begin`](Self::begin).
    pub(super) fn new(setup: &SubscriptionSetup, broker: &Arc<Broker>) -> Arc<Self> {
        Arc::new(Self {
            broker: Arc::clone(broker),
            settings: setup.settings.clone(),
            push: setup.push,
            state: watch::Sender::new(State::Waiting),
            parted: AtomicBool::new(false),
            task: parking_lot::Mutex::default(),
        })
    }

    /// Whether it can serve where this is wanted.
    pub(super) fn serves(&self, wanted: &SubscriptionSetup, broker: &Arc<Broker>) -> bool {
        let over = match &*self.state.borrow() {
            State::Waiting => false,
            State::Open(subscription) => subscription.is_closed(),
            State::Refused(_) => true,
        };
        !over
            && !self.parted.load(Ordering::Acquire)
            && Arc::ptr_eq(&self.broker, broker)
            && self.settings == wanted.settings
            && self.push == wanted.push
    }

    /// Begins to open it, without limit while the broker cannot be reached.
    pub(super) fn begin(&self) {
        let mut task = self.task.lock();
        if task.is_some() || self.parted.load(Ordering::Acquire) {
            return;
        }
        let (broker, settings) = (Arc::clone(&self.broker), self.settings.clone());
        let state = self.state.clone();
        *task = Some(tokio::spawn(async move {
            let name = settings.name.clone();
            state.send_replace(match broker.subscribe(settings).await {
                Ok(subscription) => State::Open(subscription),
                Err(error) => {
                    let broker = broker.name();
                    tracing::error!(broker, "cannot subscribe to `{name}`: {error}");
                    State::Refused(format!("{name}: {error}"))
                }
            });
        }));
    }

    /// Waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Why the broker refuses it.
    pub(super) async fn opened(&self) -> Result<Arc<Subscription>, String> {
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| !matches!(state, State::Waiting)).await;
        match decided.as_deref() {
            Ok(State::Open(subscription)) => Ok(Arc::clone(subscription)),
            Ok(State::Refused(reason)) => Err(reason.clone()),
            // The sender is in `self`.
            Ok(State::Waiting) | Err(_) => Err(self.settings.name.clone()),
        }
    }

    /// The subscription, once it is open.
    pub(super) fn subscription(&self) -> Option<Arc<Subscription>> {
        match &*self.state.borrow() {
            State::Open(subscription) => Some(Arc::clone(subscription)),
            State::Waiting | State::Refused(_) => None,
        }
    }

    /// Stops it because the process ends.
    pub(super) fn stop(&self) -> Option<Arc<Subscription>> {
        self.abort();
        let subscription = self.subscription()?;
        subscription.stop();
        Some(subscription)
    }

    /// Ends it while the process goes on: takes nothing more, waits until then
    /// for what is in flight, and until the broker has taken note.
    pub(super) async fn part(&self, parting: Parting, deadline: Instant) {
        self.parted.store(true, Ordering::Release);
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It may be just about to open: only its end says whether it has.
            task.abort();
            let _ = task.await;
        }
        let Some(subscription) = self.subscription() else { return };
        subscription.part(parting);
        let deadline = deadline.max(Instant::now() + PART_GRACE_MIN);
        if tokio::time::timeout_at(deadline, subscription.drained()).await.is_err() {
            let name = &self.settings.name;
            tracing::warn!(subscription = %name, "the drain time is over; what is in flight goes back");
        }
        subscription.parted().await;
    }

    fn abort(&self) {
        if let Some(task) = &*self.task.lock() {
            task.abort();
        }
    }

    pub(super) fn status(self: &Arc<Self>, members: Vec<String>) -> Arc<SubscriptionStatus> {
        Arc::new(SubscriptionStatus {
            name: self.settings.name.clone(),
            label: self.settings.label.clone(),
            broker: self.broker.name().to_owned(),
            members,
            opening: Arc::clone(self),
        })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.abort();
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("label", &self.settings.label).finish_non_exhaustive()
    }
}
