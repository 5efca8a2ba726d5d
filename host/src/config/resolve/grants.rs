//! Where a component may publish, and where a topic goes.

use crate::broker::{BrokerError, Qos, Topic, TopicError, TopicFilter};
use std::time::Duration;

/// What one component may publish.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// The ids of all capabilities, also of those that this component has no part in.
    pub(super) ids: Vec<String>,
    pub(super) list: Vec<Granted>,
}

/// One grant, joined with its broker.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) broker: usize,
    pub(super) id: String,
    /// `None`: anything.
    pub(super) filter: Option<TopicFilter>,
    pub(super) by_id_only: bool,
    pub(super) qos: Qos,
    pub(super) timeout: Duration,
}

/// Where an event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The broker's index.
    pub broker: usize,
    /// The topic there.
    pub topic: Topic,
    /// The highest quality of service of the grants that match.
    pub qos: Qos,
    /// The longest `publish_timeout` of the grants that match.
    pub timeout: Duration,
}

/// Why an event goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The text is no topic.
    #[error("{0}")]
    InvalidTopic(#[from] TopicError),
    /// No grant covers it.
    #[error("the configuration does not let this component publish to `{0}`")]
    Denied(String),
    /// Two brokers of one capability would take it. Configurations in which
    /// two could are refused, so that this is not seen.
    #[error("more than one broker would take `{0}`")]
    Ambiguous(String),
}

impl From<RouteError> for BrokerError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::InvalidTopic(reason) => Self::InvalidTopic(reason.to_string()),
            RouteError::Denied(_) | RouteError::Ambiguous(_) => Self::Denied(error.to_string()),
        }
    }
}

impl Grants {
    /// Where the event goes that a component publishes to this text: a topic,
    /// or `ID:TOPIC` with the id of a capability.
    ///
    /// # Errors
    /// The text is no topic, or no grant covers it.
    pub fn route(&self, text: &str) -> Result<Route, RouteError> {
        let id = text.split_once(':').filter(|(id, _)| self.ids.iter().any(|known| known == id));
        let (id, topic) = match id {
            Some((id, topic)) => (Some(id), topic),
            None => (None, text),
        };
        let topic = Topic::new(topic)?;
        let matching = |granted: &&Granted| {
            id.map_or(!granted.by_id_only, |id| granted.id == id)
                && granted.filter.as_ref().is_none_or(|filter| filter.matches(&topic))
        };
        let explicit = |granted: &&Granted| granted.filter.is_some();
        let first = self.list.iter().filter(matching).find(explicit);
        let Some(first) = first.or_else(|| self.list.iter().find(matching)) else {
            return Err(RouteError::Denied(text.to_owned()));
        };
        let mut route = Route {
            broker: first.broker,
            topic: topic.clone(),
            qos: first.qos,
            timeout: first.timeout,
        };
        for granted in self.list.iter().filter(matching) {
            if granted.broker == route.broker {
                route.qos = route.qos.max(granted.qos);
                route.timeout = route.timeout.max(granted.timeout);
            } else if granted.filter.is_some() == first.filter.is_some() {
                return Err(RouteError::Ambiguous(text.to_owned()));
            }
        }
        Ok(route)
    }

    /// The indexes of all brokers that something may be published to.
    #[must_use]
    pub fn brokers(&self) -> Vec<usize> {
        let mut brokers: Vec<usize> = self.list.iter().map(|granted| granted.broker).collect();
        brokers.sort_unstable();
        brokers.dedup();
        brokers
    }

    /// Whether anything can be published at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn granted(broker: usize, id: &str, filter: Option<&str>, level: u8) -> Granted {
        Granted {
            broker,
            id: id.into(),
            filter: filter.map(|filter| TopicFilter::new(filter).unwrap()),
            by_id_only: false,
            qos: Qos::from_level(level).unwrap(),
            timeout: Duration::from_secs(u64::from(level)),
        }
    }

    fn grants(list: Vec<Granted>) -> Grants {
        Grants { ids: vec!["a".into(), "b".into(), "other".into()], list }
    }

    fn to(grants: &Grants, text: &str) -> Option<(usize, String, u8)> {
        let route = grants.route(text).ok()?;
        Some((route.broker, route.topic.to_string(), route.qos.level()))
    }

    #[test]
    fn an_explicit_grant_goes_first() {
        let grants = grants(vec![granted(0, "a", None, 1), granted(1, "b", Some("orders/#"), 1)]);
        assert_eq!(to(&grants, "orders/1"), Some((1, "orders/1".into(), 1)));
        assert_eq!(to(&grants, "users/1"), Some((0, "users/1".into(), 1)));
        assert_eq!(to(&grants, "a:orders/1"), Some((0, "orders/1".into(), 1)));
        assert_eq!(grants.route("b:users/1"), Err(RouteError::Denied("b:users/1".into())));
        assert_eq!(grants.route("other:x"), Err(RouteError::Denied("other:x".into())));
        assert_eq!(to(&grants, "urn:x"), Some((0, "urn:x".into(), 1)), "no id, but a topic");
    }

    #[test]
    fn the_highest_qos_to_one_broker_counts_and_so_does_the_longest_timeout() {
        let grants = grants(vec![
            granted(0, "a", Some("x/#"), 0),
            granted(0, "a", Some("x/y"), 2),
            granted(0, "a", None, 1),
        ]);
        assert_eq!(to(&grants, "x/y"), Some((0, "x/y".into(), 2)));
        assert_eq!(to(&grants, "x/z"), Some((0, "x/z".into(), 1)));
        assert_eq!(grants.route("x/y").unwrap().timeout, Duration::from_secs(2));
    }

    #[test]
    fn what_is_granted_by_id_is_named_by_id() {
        let mut by_id = granted(0, "a", Some("x/#"), 1);
        by_id.by_id_only = true;
        let grants = grants(vec![by_id]);
        assert_eq!(to(&grants, "a:x/y"), Some((0, "x/y".into(), 1)));
        assert_eq!(grants.route("x/y"), Err(RouteError::Denied("x/y".into())));
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        let grants = grants(vec![granted(0, "a", None, 1)]);
        assert_eq!(grants.route("a/#"), Err(RouteError::InvalidTopic(TopicError::Wildcard)));
        assert_eq!(grants.route("a:"), Err(RouteError::InvalidTopic(TopicError::Empty)));
        let twice =
            Grants { list: vec![granted(0, "a", None, 1), granted(1, "a", None, 1)], ..grants };
        assert_eq!(twice.route("x"), Err(RouteError::Ambiguous("x".into())));
    }
}
