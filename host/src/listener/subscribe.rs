//! SUBSCRIBE and UNSUBSCRIBE.

use super::connection::{Client, let_others_run};
use super::encode;
use super::hub::levels;
use super::packets::{Retained, Subscribe, Unsubscribe, Wanted};
use super::reason::{Fault, Reason};
use super::session::{Backlog, Subscription};
use crate::broker::driver::{Parting, SubscribeRequest};
use crate::broker::{BrokerError, Order, Share, Start, TopicFilter};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long the broker may take to confirm a subscription.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(30);

/// A filter as a client writes it, taken apart.
struct Target {
    filter: TopicFilter,
    group: Option<String>,
}

impl Client {
    pub(super) async fn subscribe(&mut self, packet: Subscribe) -> Result<(), Fault> {
        let mut reasons = Vec::with_capacity(packet.wanted.len());
        for (number, wanted) in packet.wanted.into_iter().enumerate() {
            if number > 0 {
                let_others_run().await;
            }
            let mut wanted = wanted;
            if self.is_bridge {
                wanted.options.no_local = !wanted.filter.starts_with("$share/");
                wanted.options.retain_as_published = true;
            }
            reasons.push(self.subscribe_one(&wanted, packet.identifier).await?);
        }
        encode::suback(self.protocol, packet.id, &reasons, &mut self.wire.out);
        Ok(())
    }

    async fn subscribe_one(
        &mut self,
        wanted: &Wanted,
        identifier: Option<u32>,
    ) -> Result<Reason, Fault> {
        let target = target(&wanted.filter, self.hub.settings.limits.levels_max)?;
        if target.group.is_some() && wanted.options.no_local {
            return Err(Fault::protocol("no-local with a shared subscription"));
        }
        if !self.rights.may_subscribe(&target.filter) {
            return Ok(Reason::NOT_AUTHORIZED);
        }
        let before = self.session.find(&wanted.filter).cloned();
        if before.is_none()
            && self.session.subscriptions.len() >= self.hub.settings.limits.subscriptions_max
        {
            return Ok(Reason::QUOTA_EXCEEDED);
        }
        // The retained messages of all may be sent twice: who asks for them again and
        // again has to take them first.
        if self.session.backlog.len() > 2 * self.hub.settings.limits.retained_max {
            return Ok(Reason::QUOTA_EXCEEDED);
        }
        let is_new = before.is_none();
        if let Some(before) = before {
            let same = before.options.qos == wanted.options.qos
                && before.options.no_local == wanted.options.no_local;
            if same {
                self.replace(&before, wanted, identifier);
                self.send_retained(&target, wanted, false);
                return Ok(Reason(wanted.options.qos.level()));
            }
            self.session.remove(&wanted.filter, Parting::Replaced);
        }
        match self.open(&target, wanted, identifier).await {
            Ok(()) => {}
            Err(BrokerError::Denied(_)) => return Ok(Reason::NOT_AUTHORIZED),
            Err(BrokerError::InvalidTopic(_)) => return Ok(Reason::TOPIC_FILTER_INVALID),
            Err(error) => {
                tracing::warn!(filter = %target.filter, %error, "a subscription failed");
                return Ok(Reason::UNSPECIFIED);
            }
        }
        self.send_retained(&target, wanted, is_new);
        Ok(Reason(wanted.options.qos.level()))
    }

    /// Opens a subscription of the broker.
    async fn open(
        &mut self,
        target: &Target,
        wanted: &Wanted,
        identifier: Option<u32>,
    ) -> Result<(), BrokerError> {
        let limits = &self.hub.settings.limits;
        let share = Share::new(&self.hub.budget);
        let backlog_bound = match target.group {
            None => self.session.bound.clone(),
            Some(_) => self.hub.group_bound(),
        };
        let noted = Arc::new(AtomicBool::new(false));
        let request = SubscribeRequest {
            label: format!("mqtt/{}/{}", self.session.client_id, wanted.filter),
            filter: target.filter.clone(),
            group: target.group.clone(),
            qos: wanted.options.qos,
            order: Order::None,
            event_filter: None,
            start: Start::New,
            // Sessions end with the process: what a storage kept for one would be for
            // nobody. A group is also that of components.
            is_temporary: target.group.is_none(),
            group_max_in_flight: None,
            max_in_flight: usize::from(limits.in_flight_max),
            max_in_flight_bytes: limits.in_flight_bytes_max,
            share: share.clone(),
            backlog_bound: Some(backlog_bound),
            not_from: wanted.options.no_local.then(|| self.publisher.to_string()),
            ready: self.session.wake.ready(self.session.next_key(), noted.clone()),
        };
        let opened = self.hub.broker.subscribe(request);
        let source = match tokio::time::timeout(SUBSCRIBE_TIME_MAX, opened).await {
            Ok(opened) => opened?,
            Err(_) => return Err(BrokerError::Timeout),
        };
        self.session.insert(Subscription {
            filter: wanted.filter.as_str().into(),
            topics: target.filter.clone(),
            source,
            share,
            options: wanted.options,
            identifier,
            is_shared: target.group.is_some(),
            noted,
            counted: Arc::new(self.hub.counters.subscriptions.enter()),
        });
        Ok(())
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
            is_shared: before.is_shared,
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

    pub(super) fn unsubscribe(&mut self, packet: &Unsubscribe) -> Result<(), Fault> {
        let mut reasons = Vec::with_capacity(packet.filters.len());
        for filter in &packet.filters {
            target(filter, usize::MAX)?;
            reasons.push(match self.session.remove(filter, Parting::Removed) {
                true => Reason::SUCCESS,
                false => Reason::NO_SUBSCRIPTION_EXISTED,
            });
        }
        encode::unsuback(self.protocol, packet.id, &reasons, &mut self.wire.out);
        Ok(())
    }
}

/// Takes a filter apart (sections 4.7 and 4.8.2).
fn target(text: &str, levels_max: usize) -> Result<Target, Fault> {
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
