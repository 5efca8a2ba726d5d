//! SUBSCRIBE and UNSUBSCRIBE.

use super::archive::Promise;
use super::codec::Subscribed;
use super::connect::KEEPING_TIME_MAX;
use super::connection::{Client, let_others_run};
use super::encode;
use super::hub::{Hub, levels, publisher};
use super::packets::{Retained, Subscribe, Unsubscribe, Wanted};
use super::reason::{Fault, Reason};
use super::session::{Backlog, Session, Subscription, begin};
use crate::broker::driver::{Parting, SubscribeRequest};
use crate::broker::{BrokerError, Order, Share, Start, TopicFilter};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::timeout;

/// How long the broker may take to confirm a subscription.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(30);

/// How many subscriptions of a client are opened at the same time.
const OPENING_MAX: usize = 64;

/// A filter as a client writes it, taken apart.
pub(super) struct Target {
    filter: TopicFilter,
    group: Option<String>,
}

/// A subscription that was opened, or was not.
struct Opened {
    /// The client had none with this filter.
    is_new: bool,
    result: Result<Subscription, BrokerError>,
}

impl Client {
    pub(super) async fn subscribe(&mut self, packet: Subscribe) -> Result<(), Fault> {
        let Subscribe { id, identifier, mut wanted } = packet;
        let mut granted = Vec::with_capacity(wanted.len());
        let mut new = HashSet::new();
        for wanted in &mut wanted {
            if self.is_bridge {
                wanted.options.no_local = !wanted.filter.starts_with("$share/");
                wanted.options.retain_as_published = true;
            }
            granted.push(self.grant(wanted, &mut new)?);
        }
        let all = || wanted.iter().zip(&granted).filter(|(_, granted)| granted.is_ok());
        // What is kept comes first: so a crash leaves nothing with the broker that is
        // nobody's.
        let kept = self.session.kept.as_ref().map(|kept| {
            kept.subscribed(all().map(|(wanted, _)| {
                let since = self.session.find(&wanted.filter).map(|before| before.since);
                (&*wanted.filter, Subscribed { options: wanted.options, identifier, since })
            }))
        });
        let is_kept = is_kept(kept.unwrap_or_default()).await;
        let mut opened = match is_kept {
            true => self.open_all(&wanted, &granted, identifier).await,
            false => HashMap::new(),
        };
        let mut reasons = Vec::with_capacity(wanted.len());
        for (index, (wanted, granted)) in wanted.iter().zip(granted).enumerate() {
            if index > 0 {
                let_others_run().await;
            }
            let opened = opened.remove(&index);
            reasons.push(match granted {
                Ok(target) if is_kept => {
                    self.subscribe_one(&target, wanted, identifier, opened).await
                }
                Ok(_) => Reason::UNSPECIFIED,
                Err(reason) => reason,
            });
        }
        self.note_opened(&wanted);
        self.forget_failed(&wanted, &reasons);
        encode::suback(self.protocol, id, &reasons, &mut self.wire.out);
        Ok(())
    }

    /// Whether a client may subscribe so; `new` are the filters that it has not
    /// subscribed to yet.
    fn grant(
        &self,
        wanted: &Wanted,
        new: &mut HashSet<String>,
    ) -> Result<Result<Target, Reason>, Fault> {
        let limits = &self.hub.settings.limits;
        let target = target(&wanted.filter, limits.levels_max)?;
        if target.group.is_some() && wanted.options.no_local {
            return Err(Fault::protocol("no-local with a shared subscription"));
        }
        if !self.rights.may_subscribe(&target.filter) {
            return Ok(Err(Reason::NOT_AUTHORIZED));
        }
        if self.session.find(&wanted.filter).is_none() && !new.contains(&wanted.filter) {
            if self.session.subscriptions.len() + new.len() >= limits.subscriptions_max {
                return Ok(Err(Reason::QUOTA_EXCEEDED));
            }
            new.insert(wanted.filter.clone());
        }
        Ok(Ok(target))
    }

    /// Notes from where on there are events, which nobody has to wait for.
    fn note_opened(&self, wanted: &[Wanted]) {
        let Some(kept) = &self.session.kept else { return };
        let found = wanted.iter().filter_map(|wanted| self.session.find(&wanted.filter));
        kept.subscribed(found.map(|found| found.record()));
    }

    /// What failed is not to be there after a restart.
    fn forget_failed(&self, wanted: &[Wanted], reasons: &[Reason]) {
        let Some(kept) = &self.session.kept else { return };
        let failed = wanted.iter().zip(reasons).filter(|(wanted, reason)| {
            reason.is_failure() && self.session.find(&wanted.filter).is_none()
        });
        let mut failed = failed.map(|(wanted, _)| &*wanted.filter).peekable();
        if failed.peek().is_some() {
            kept.unsubscribed(failed);
        }
    }

    /// Opens what the broker does not have, many at the same time: so they share the
    /// commits of a storage. By the place in what is wanted; of a filter that occurs
    /// twice the first one.
    async fn open_all(
        &mut self,
        wanted: &[Wanted],
        granted: &[Result<Target, Reason>],
        identifier: Option<u32>,
    ) -> HashMap<usize, Opened> {
        let mut seen = HashSet::new();
        let mut opening = Vec::new();
        for (index, (wanted, granted)) in wanted.iter().zip(granted).enumerate() {
            let Ok(target) = granted else { continue };
            let before = self.session.find(&wanted.filter);
            let is_new = before.is_none();
            let since = before.map(|before| before.since);
            let is_open = before.is_some_and(|before| goes_on(before, wanted));
            if !seen.insert(&*wanted.filter) || is_open {
                continue;
            }
            if !is_new {
                self.session.remove(&wanted.filter, Parting::Replaced);
            }
            let subscribed = Subscribed { options: wanted.options, identifier, since };
            let open = open(&self.hub, &self.session, target, &wanted.filter, subscribed);
            opening.push(async move { (index, Opened { is_new, result: open.await }) });
        }
        stream::iter(opening).buffer_unordered(OPENING_MAX).collect().await
    }

    async fn subscribe_one(
        &mut self,
        target: &Target,
        wanted: &Wanted,
        identifier: Option<u32>,
        opened: Option<Opened>,
    ) -> Reason {
        // The retained messages of all may be sent twice: who asks for them again and
        // again has to take them first.
        if self.session.backlog.len() > 2 * self.hub.settings.limits.retained_max {
            if let Some(Opened { result: Ok(subscription), .. }) = opened {
                subscription.end(Parting::Removed);
            }
            return Reason::QUOTA_EXCEEDED;
        }
        let Opened { is_new, result } = match (opened, self.session.find(&wanted.filter).cloned()) {
            (Some(opened), _) => opened,
            (None, Some(before)) if goes_on(&before, wanted) => {
                self.replace(&before, wanted, identifier);
                self.send_retained(target, wanted, false);
                return Reason(wanted.options.qos.level());
            }
            (None, _) => {
                // It occurs twice in one packet, and differs.
                self.session.remove(&wanted.filter, Parting::Replaced);
                let subscribed = Subscribed { options: wanted.options, identifier, since: None };
                let open = open(&self.hub, &self.session, target, &wanted.filter, subscribed);
                Opened { is_new: false, result: open.await }
            }
        };
        match result {
            Ok(subscription) => self.session.insert(subscription),
            Err(BrokerError::Denied(_)) => return Reason::NOT_AUTHORIZED,
            Err(BrokerError::InvalidTopic(_)) => return Reason::TOPIC_FILTER_INVALID,
            Err(error) => {
                tracing::warn!(filter = %target.filter, %error, "a subscription failed");
                return Reason::UNSPECIFIED;
            }
        }
        self.send_retained(target, wanted, is_new);
        Reason(wanted.options.qos.level())
    }

    /// Goes on with other options that the broker need not know.
    fn replace(&mut self, before: &Arc<Subscription>, wanted: &Wanted, identifier: Option<u32>) {
        self.session.exchange(Subscription {
            filter: before.filter.clone(),
            topics: before.topics.clone(),
            source: before.source.clone(),
            share: before.share.clone(),
            options: wanted.options,
            identifier,
            since: before.since,
            is_shared: before.is_shared,
            key: before.key.clone(),
            noted: before.noted.clone(),
            counted: before.counted.clone(),
        });
    }

    /// Queues the retained messages that a subscription is to get.
    fn send_retained(&mut self, target: &Target, wanted: &Wanted, is_new: bool) {
        let is_wanted = match wanted.options.retained {
            Retained::Always => true,
            Retained::IfNew => is_new,
            Retained::Never => false,
        };
        if !is_wanted || target.group.is_some() {
            return;
        }
        let Some(subscription) = self.session.find(&wanted.filter).cloned() else { return };
        let client_id = &self.session.client_id;
        for message in self.hub.retained.find(&target.filter) {
            let is_own = message.from.as_ref() == Some(client_id);
            if !(wanted.options.no_local && is_own) {
                let subscription = subscription.clone();
                self.session.backlog.push_back(Backlog { message, subscription });
            }
        }
    }

    pub(super) async fn unsubscribe(&mut self, packet: &Unsubscribe) -> Result<(), Fault> {
        let mut reasons = Vec::with_capacity(packet.filters.len());
        let mut removed = Vec::new();
        for filter in &packet.filters {
            target(filter, usize::MAX)?;
            reasons.push(match self.session.remove(filter, Parting::Removed) {
                Some(subscription) => {
                    removed.push(subscription);
                    Reason::SUCCESS
                }
                None => Reason::NO_SUBSCRIPTION_EXISTED,
            });
        }
        if !self.removed(removed).await {
            for reason in reasons.iter_mut().filter(|reason| **reason == Reason::SUCCESS) {
                *reason = Reason::UNSPECIFIED;
            }
        }
        encode::unsuback(self.protocol, packet.id, &reasons, &mut self.wire.out);
        Ok(())
    }

    /// Waits until it is kept that subscriptions are over, and says whether it is.
    async fn removed(&mut self, removed: Vec<Arc<Subscription>>) -> bool {
        let filters: Vec<_> = removed.iter().map(|found| found.filter.clone()).collect();
        let stored =
            removed.into_iter().filter(|found| self.session.kept.is_some() || found.is_shared);
        // With the broker first: so a crash leaves nothing there that is nobody's.
        let rest = begin(join_all(stored.map(Subscription::parted)));
        let kept = self.session.kept.as_ref().filter(|_| !filters.is_empty());
        let kept = kept.map(|kept| kept.unsubscribed(filters.iter().map(|filter| &**filter)));
        let parted = async {
            if let Some(rest) = rest {
                rest.await;
            }
        };
        tokio::join!(is_kept(kept.unwrap_or_default()), parted).0
    }
}

/// Waits until something is kept, at most for a certain time.
async fn is_kept(promise: Promise) -> bool {
    if promise.is_kept() {
        return true;
    }
    match timeout(KEEPING_TIME_MAX, promise.kept()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "what a client asked for is not kept");
            false
        }
        Err(_) => false,
    }
}

/// Whether a subscription is what is wanted, as far as the broker has to know.
fn goes_on(before: &Subscription, wanted: &Wanted) -> bool {
    before.options.qos == wanted.options.qos && before.options.no_local == wanted.options.no_local
}

/// Opens a subscription of the broker, to be put into the session. One that is kept is
/// durable there, so that it is found again under the same label.
pub(super) fn open(
    hub: &Arc<Hub>,
    session: &Session,
    target: &Target,
    filter: &str,
    subscribed: Subscribed,
) -> impl Future<Output = Result<Subscription, BrokerError>> + Send + use<> {
    let limits = &hub.settings.limits;
    let Subscribed { options, identifier, since } = subscribed;
    let share = Share::new(&hub.budget);
    let noted = Arc::new(AtomicBool::new(false));
    let key = Arc::default();
    let request = SubscribeRequest {
        label: label(&session.client_id, filter),
        filter: target.filter.clone(),
        group: target.group.clone(),
        qos: options.qos,
        order: Order::None,
        event_filter: None,
        start: Start::New,
        is_temporary: session.kept.is_none(),
        group_max_in_flight: None,
        max_in_flight: usize::from(limits.in_flight_max),
        max_in_flight_bytes: limits.in_flight_bytes_max,
        share: share.clone(),
        backlog_bound: Some(match target.group {
            None => session.bound.clone(),
            Some(_) => hub.group_bound(),
        }),
        not_from: options.no_local.then(|| publisher(&session.client_id).to_string()),
        ready: session.wake.ready(&key, noted.clone()),
    };
    let (hub, filter): (_, Arc<str>) = (hub.clone(), filter.into());
    let (topics, is_shared) = (target.filter.clone(), target.group.is_some());
    async move {
        let source = match timeout(SUBSCRIBE_TIME_MAX, hub.broker.subscribe(request)).await {
            Ok(opened) => opened?,
            Err(_) => return Err(BrokerError::Timeout),
        };
        Ok(Subscription {
            filter,
            topics,
            source,
            share,
            options,
            identifier,
            // What was published meanwhile may come in two ways, and is not lost.
            since: since.or_else(|| Some(hub.broker.last_number()? + 1)).unwrap_or(0),
            is_shared,
            key,
            noted,
            counted: Arc::new(hub.counters.subscriptions.enter()),
        })
    }
}

/// What a subscription is called at the broker. No two clients have one in common,
/// whatever they are called.
fn label(client_id: &str, filter: &str) -> String {
    let client_id = client_id.replace('%', "%25").replace('/', "%2F");
    format!("mqtt/{client_id}/{filter}")
}

/// Whether a subscription of the broker is one that [`label`] has named. Nobody else's is,
/// whatever it is called: such labels have all of the topics and not only their end.
pub(super) fn is_labelled(label: &str, topics: &TopicFilter) -> bool {
    let of_client = label.strip_prefix("mqtt/").and_then(|rest| rest.split_once('/'));
    of_client.is_some_and(|(_, filter)| filter == topics.as_str())
}

/// Takes a filter apart (sections 4.7 and 4.8.2).
pub(super) fn target(text: &str, levels_max: usize) -> Result<Target, Fault> {
    let invalid = |error: &dyn std::fmt::Display| {
        Fault::malformed(format!("a topic filter that is none: {error}"))
    };
    let (group, filter) = match text.strip_prefix("$share/") {
        None => (None, text),
        Some(rest) => {
            let (group, filter) =
                rest.split_once('/').ok_or_else(|| invalid(&"a share without a filter"))?;
            if group.is_empty() || group.contains(['+', '#']) {
                return Err(invalid(&"the name of a share may not be empty or have wildcards"));
            }
            (Some(group.to_owned()), filter)
        }
    };
    if filter.is_empty() {
        return Err(Fault::malformed("an empty topic filter"));
    }
    let filter = TopicFilter::new(filter).map_err(|error| invalid(&error))?;
    match levels(filter.as_str()) <= levels_max {
        true => Ok(Target { filter, group }),
        // It is well-formed, and not accepted.
        false => {
            let text = format!("a topic filter with more than {levels_max} levels");
            Err(Fault::new(Reason::TOPIC_FILTER_INVALID, text))
        }
    }
}
