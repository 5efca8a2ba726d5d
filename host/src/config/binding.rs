//! Reading a `[[capability.config]]` table.

use super::backend::{BackendSection, Backends};
use super::load::owner;
use super::model::{Binding, Delivery, Grant, Publish, SubscriptionConfig};
use super::section::Section;
use super::source::{Located, Place};
use super::{ConnectionSettings, Problem, filter, listen, order, replay};
use crate::broker::{
    ACK_DEADLINE, DedupeWindow, EventFilter, Exhausted, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, Order,
    Qos, RetryPolicy, Start, Topic, TopicFilter,
};
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "wasi-pubsub";
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
const PUBLISH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const IN_FLIGHT_MAX: u64 = 65_535;
const GROUP_IN_FLIGHT_MAX: u64 = 1_000_000;
/// Of a subscription, and of a component.
pub(super) const IN_FLIGHT_BYTES_MIN: u64 = 1 << 10;
pub(super) const IN_FLIGHT_BYTES_MAX: u64 = 4 << 30;
const ATTEMPTS_MAX: u64 = 1_000_000;
const DEDUPE_EVENTS_MAX: u64 = 1_000_000;

/// What goes only with `topic` or `queue`.
const SUBSCRIPTION_KEYS: [&str; 18] = [
    "subscription",
    "delivery",
    "group",
    "on_message",
    "on-message",
    "order",
    "order_by",
    "max_in_flight",
    "max_in_flight_bytes",
    "group_max_in_flight",
    "ack_deadline",
    "retry",
    "dead_letter",
    "keep_dead_letters",
    "on_exhausted",
    "filter",
    "dedupe",
    "start",
];

/// What a binding is a part of.
pub(super) struct Scope<'a> {
    pub(super) backends: &'a Backends<'a>,
    /// `None` where the name selects none.
    pub(super) backend: Option<&'a dyn BackendSection>,
    pub(super) id: &'a str,
    pub(super) all_ids: &'a [String],
}

impl Scope<'_> {
    /// The capability that `ID:REST` names, and the rest.
    fn split<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        text.split_once(':').filter(|(id, _)| self.all_ids.iter().any(|known| known == id))
    }
}

pub(super) fn read(mut section: Section<'_>, scope: &Scope<'_>) -> Option<Binding> {
    let connection = connection(&mut section, scope);
    let qos = read_qos(&mut section, scope);
    let publish = publish(&mut section, scope);
    let publish_timeout = section.duration("publish_timeout", MILLISECOND..=PUBLISH_TIMEOUT_MAX);
    let components = section.strings("components").map(|names| names.value);
    let retention = replay::retention(&mut section, scope.backend);
    let listen = listen::read(&mut section, scope.backend).map(Arc::new);
    let subscription = subscription(&mut section, scope, qos);
    let place = section.place().clone();
    let own = scope.backend.map(BackendSection::name);
    if scope.backend.is_some() {
        section.finish(&|key| owner(scope.backends, key).filter(|name| Some(*name) != own));
    }
    Some(Binding {
        place,
        connection: connection?,
        qos: qos.unwrap_or_default(),
        publish,
        publish_timeout: publish_timeout.map_or(PUBLISH_TIMEOUT, |timeout| timeout.value),
        components,
        retention,
        listen,
        subscription: subscription.ok()?,
    })
}

fn connection(section: &mut Section<'_>, scope: &Scope<'_>) -> Option<Arc<dyn ConnectionSettings>> {
    match scope.backend {
        Some(backend) => backend.connection(section),
        // Nobody knows which keys it would have.
        None => {
            section.hide_likely_secrets();
            None
        }
    }
}

fn read_qos(section: &mut Section<'_>, scope: &Scope<'_>) -> Option<Qos> {
    let levels = [(0, Qos::AtMostOnce), (1, Qos::AtLeastOnce), (2, Qos::EffectivelyOnce)];
    let qos = section.number_of("qos", &levels);
    let backend = scope.backend?;
    let max = backend.features().qos_max;
    let found = qos.as_ref().map_or(Qos::default(), |qos| qos.value);
    if found > max {
        let place = qos.as_ref().map_or_else(|| section.place().clone(), |qos| qos.place.clone());
        section.report(&place, Problem::QosTooHigh { found, max, backend: backend.name() });
    }
    qos.map(|qos| qos.value)
}

fn publish(section: &mut Section<'_>, scope: &Scope<'_>) -> Publish {
    let Some(texts) = section.strings("publish") else { return Publish::Anything };
    let mut grants = Vec::new();
    for text in texts.value {
        let id = scope.split(&text.value).map(|(id, rest)| (id.to_owned(), rest.to_owned()));
        let (by_id_only, text) = match id {
            Some((id, rest)) => {
                check_own(section, scope, &text.place, &id);
                (true, text.map(|_| rest))
            }
            None => (false, text),
        };
        if let Some(filter) = section.checked_topic(text, TopicFilter::new) {
            grants.push(Grant { filter: filter.value, by_id_only, place: filter.place });
        }
    }
    Publish::Only(grants)
}

/// Where a capability is named, it has to be the one that the key belongs to.
fn check_own(section: &Section<'_>, scope: &Scope<'_>, place: &Place, id: &str) {
    if id != scope.id && !scope.id.is_empty() {
        let problem = Problem::OtherCapability { id: id.to_owned(), own: scope.id.to_owned() };
        section.report(place, problem);
    }
}

/// `Err` where there is a subscription that cannot be read.
fn subscription(
    section: &mut Section<'_>,
    scope: &Scope<'_>,
    qos: Option<Qos>,
) -> Result<Option<SubscriptionConfig>, ()> {
    let (has_topic, has_queue) = (section.has("topic"), section.has("queue"));
    let (topic, queue) = (section.filter("topic"), section.filter("queue"));
    let rest = Rest::read(section, scope);
    if !has_topic && !has_queue {
        for key in SUBSCRIPTION_KEYS {
            if let Some(place) = section.place_of(key) {
                let reason = "without one there is no subscription that it could be about";
                section.report(&place, Problem::Requires { other: "`topic` or `queue`", reason });
            }
        }
        return Ok(None);
    }
    if let (true, Some(place)) = (has_topic, section.place_of("queue")) {
        let reason = "a binding has one subscription; write a second [[capability.config]]";
        section.report(&place, Problem::Conflict { other: "topic", reason });
        return Err(());
    }
    // Where `qos` itself is wrong, nobody knows what it would have been.
    let qos_is_known = qos.is_some() || !section.has("qos");
    if let Some(place) = section.place_of("dedupe")
        && qos_is_known
        && qos.unwrap_or_default() < Qos::EffectivelyOnce
    {
        let (other, reason) = ("`qos = 2`", "at a lower one an event may be handled again");
        section.report(&place, Problem::Requires { other, reason });
    }
    if let (true, Some(place)) = (has_topic, section.place_of("group")) {
        section.report(&place, Problem::GroupWithTopic);
    }
    if let (Some(place), Some(backend)) = (section.place_of("queue"), scope.backend)
        && !backend.features().queue
    {
        section.report(&place, Problem::NoQueues { backend: backend.name() });
    }
    if let (true, Some(place), Some(backend)) = (has_queue, &rest.order.1, scope.backend)
        && backend.features().queue
        && !backend.features().ordered_queue
        && !backend.features().pins_keys
    {
        section.report(place, Problem::NoOrderedQueues { backend: backend.name() });
    }
    if !section.has("delivery") {
        let purpose = "\"push\" (the host calls the component) or \"pull\" (the component asks)";
        section.missing("delivery", purpose);
    }
    let filter = topic.or(queue).ok_or(())?;
    if let Some(dead_letter) = &rest.dead_letter
        && filter.value.matches(&dead_letter.value)
    {
        let problem = Problem::DeadLetterLoop {
            topic: dead_letter.value.to_string(),
            filter: filter.value.to_string(),
        };
        section.report(&dead_letter.place, problem);
    }
    rest.finish(filter, has_queue).map(Some).ok_or(())
}

/// The keys of a subscription beside `topic` and `queue`.
struct Rest {
    name: Option<Located<String>>,
    group: Option<Located<String>>,
    delivery: Option<Located<Delivery>>,
    max_in_flight: Option<Located<u64>>,
    max_in_flight_bytes: Option<Located<usize>>,
    group_max_in_flight: Option<usize>,
    ack_deadline: Option<Located<Duration>>,
    retry: RetryPolicy,
    dead_letter: Option<Located<Topic>>,
    keep_dead_letters: bool,
    drop: bool,
    order: (Order, Option<Place>),
    event_filter: Option<EventFilter>,
    dedupe: DedupeWindow,
    start: Start,
}

impl Rest {
    fn read(section: &mut Section<'_>, scope: &Scope<'_>) -> Self {
        let name = section.name("subscription");
        let group = section.name("group");
        let words = [("push", Delivery::Push), ("pull", Delivery::Pull)];
        let delivery = section.choice("delivery", &words);
        on_message(section, delivery.as_ref());
        let max_in_flight = section.integer("max_in_flight", 1..=IN_FLIGHT_MAX);
        let max_in_flight_bytes =
            section.size("max_in_flight_bytes", IN_FLIGHT_BYTES_MIN..=IN_FLIGHT_BYTES_MAX);
        let group_max_in_flight = group_max_in_flight(section, scope);
        let ack_deadline = section.duration("ack_deadline", MILLISECOND..=DAY);
        let (retry, attempts) = retry(section);
        let (dead_letter, drop) = exhausted(section, scope, attempts);
        let keep_dead_letters = keep_dead_letters(section);
        let order = order::read(section);
        let event_filter = filter::read(section);
        let dedupe = dedupe(section);
        let start = replay::start(section, scope.backend);
        Self {
            name,
            group,
            delivery,
            max_in_flight,
            max_in_flight_bytes,
            group_max_in_flight,
            ack_deadline,
            retry,
            dead_letter,
            keep_dead_letters,
            drop,
            order,
            event_filter,
            dedupe,
            start,
        }
    }

    fn finish(self, filter: Located<TopicFilter>, is_queue: bool) -> Option<SubscriptionConfig> {
        let group = self.group.map_or_else(|| GROUP.to_owned(), |group| group.value);
        let (order, order_place) = self.order;
        let in_flight = self.max_in_flight.and_then(|max| usize::try_from(max.value).ok());
        Some(SubscriptionConfig {
            place: filter.place,
            filter: filter.value,
            group: is_queue.then_some(group),
            name: self.name,
            delivery: self.delivery?.value,
            order,
            order_place,
            event_filter: self.event_filter,
            dedupe: self.dedupe,
            max_in_flight: in_flight.unwrap_or(MAX_IN_FLIGHT),
            max_in_flight_bytes: self.max_in_flight_bytes.map_or(MAX_IN_FLIGHT_BYTES, |m| m.value),
            group_max_in_flight: self.group_max_in_flight,
            start: self.start,
            ack_deadline: self.ack_deadline.map_or(ACK_DEADLINE, |deadline| deadline.value),
            retry: self.retry,
            exhausted: match self.dead_letter {
                Some(topic) => Exhausted::DeadLetter(topic.value),
                None if self.drop => Exhausted::Drop,
                None => Exhausted::Never,
            },
            keep_dead_letters: self.keep_dead_letters,
        })
    }
}

/// The function that is called. There is one of that name; its two spellings
/// stand for it alike, as key and as value.
fn on_message(section: &mut Section<'_>, delivery: Option<&Located<Delivery>>) {
    let words = [("on_message", ()), ("on-message", ())];
    section.choice("on_message", &words);
    section.choice("on-message", &words);
    let (first, second) = (section.place_of("on_message"), section.place_of("on-message"));
    if let (Some(_), Some(second)) = (&first, &second) {
        let reason = "these are two spellings of one key";
        section.report(second, Problem::Conflict { other: "on_message", reason });
    }
    if let (Some(place), Some(Located { value: Delivery::Pull, .. })) = (first.or(second), delivery)
    {
        let reason = "the host calls nothing when the component pulls";
        section.report(&place, Problem::Conflict { other: "delivery = \"pull\"", reason });
    }
}

/// The bound of a whole group.
fn group_max_in_flight(section: &mut Section<'_>, scope: &Scope<'_>) -> Option<usize> {
    let max = section.integer("group_max_in_flight", 1..=GROUP_IN_FLIGHT_MAX);
    let place = section.place_of("group_max_in_flight")?;
    let backend = scope.backend?;
    if !backend.features().group_limits {
        section.report(&place, Problem::NoGroupLimits { backend: backend.name() });
    } else if section.has("topic") && !section.has("queue") {
        let reason = "only the subscribers of a queue are a group";
        section.report(&place, Problem::Requires { other: "`queue`", reason });
    }
    max.and_then(|max| usize::try_from(max.value).ok())
}

/// The retry policy, and where it bounds the attempts.
fn retry(section: &mut Section<'_>) -> (RetryPolicy, Option<Place>) {
    let default = RetryPolicy::default();
    let Some(mut table) = section.table("retry") else { return (default, None) };
    let attempts = table.integer("max_attempts", 1..=ATTEMPTS_MAX);
    let backoff = table.duration("backoff", Duration::ZERO..=DAY);
    let backoff_max = table.duration("backoff_max", Duration::ZERO..=DAY);
    let policy = RetryPolicy {
        max_attempts: attempts.as_ref().and_then(|n| u32::try_from(n.value).ok()),
        backoff: backoff.as_ref().map_or(default.backoff, |backoff| backoff.value),
        backoff_max: backoff_max.as_ref().map_or(default.backoff_max, |max| max.value),
    };
    if policy.backoff > policy.backoff_max
        && let Some(place) = backoff_max.or(backoff).map(|found| found.place)
    {
        table.invalid(&place, "`backoff` is longer than `backoff_max`");
    }
    table.finish(&|_| None);
    (policy, attempts.map(|attempts| attempts.place))
}

/// Which verdicts are remembered at qos 2.
fn dedupe(section: &mut Section<'_>) -> DedupeWindow {
    let default = DedupeWindow::default();
    let Some(mut table) = section.table("dedupe") else { return default };
    let events = table.integer("events", 1..=DEDUPE_EVENTS_MAX);
    let age = table.duration("age", MILLISECOND..=DAY);
    table.finish(&|_| None);
    let events = events.and_then(|events| usize::try_from(events.value).ok());
    DedupeWindow {
        events: events.unwrap_or(default.events),
        age: age.map_or(default.age, |age| age.value),
    }
}

/// The dead-letter topic, and whether events are dropped.
fn exhausted(
    section: &mut Section<'_>,
    scope: &Scope<'_>,
    attempts: Option<Place>,
) -> (Option<Located<Topic>>, bool) {
    let has_dead_letter = section.has("dead_letter");
    let dead_letter = section.string("dead_letter").and_then(|text| {
        let id = scope.split(&text.value).map(|(id, rest)| (id.to_owned(), rest.to_owned()));
        let text = match id {
            Some((id, rest)) => {
                check_own(section, scope, &text.place, &id);
                text.map(|_| rest)
            }
            None => text,
        };
        section.checked_topic(text, Topic::new)
    });
    let has_action = section.has("on_exhausted");
    let drop = section.choice("on_exhausted", &[("dead_letter", false), ("drop", true)]);
    if let Some(Located { value, place }) = &drop {
        if *value && has_dead_letter {
            let reason = "an event is either stored there or dropped";
            section.report(place, Problem::Conflict { other: "dead_letter", reason });
        }
        if !value && !has_dead_letter {
            let reason = "it names the topic";
            section.report(place, Problem::Requires { other: "`dead_letter`", reason });
        }
    }
    if let Some(place) = attempts
        && !has_dead_letter
        && !has_action
    {
        section.report(&place, Problem::NothingAfterAttempts);
    }
    (dead_letter, drop.is_some_and(|drop| drop.value))
}

/// Whether the broker is to keep dead letters for `wasi-pubsub dead`.
fn keep_dead_letters(section: &mut Section<'_>) -> bool {
    let keep = section.flag("keep_dead_letters");
    if let Some(Located { place, .. }) = &keep
        && !section.has("dead_letter")
    {
        let reason = "it says what becomes of what is stored there";
        section.report(place, Problem::Requires { other: "`dead_letter`", reason });
    }
    keep.is_none_or(|keep| keep.value)
}
