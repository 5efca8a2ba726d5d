//! Who may connect, and what they may publish and subscribe to.

use super::users::Users;
use crate::broker::{Topic, TopicFilter};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// What stands in a rule's topics for the user's name.
const USER: &str = "{user}";
/// What stands in a rule's topics for the client identifier.
const CLIENT_ID: &str = "{client_id}";

/// Who may do what. Without rules whoever is let in may do everything.
#[derive(Clone, Default)]
pub struct Access {
    /// Users and their passwords; `None` where none are asked for.
    pub users: Option<Arc<Users>>,
    /// The rules. What one that fits grants is granted, unless one that fits denies it.
    pub rules: Vec<Rule>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What some clients may do. Topics are filters, in which `{user}` and
/// `{client_id}` stand for the client's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The users that it is for; `None` for all. The empty name is for clients
    /// without one.
    pub users: Option<HashSet<String>>,
    /// The client identifiers that it is for; `None` for all.
    pub client_ids: Option<HashSet<String>>,
    /// What may be published.
    pub publish: Vec<String>,
    /// What may be subscribed to.
    pub subscribe: Vec<String>,
    /// What may not be published.
    pub deny_publish: Vec<String>,
    /// What is not delivered, and may not be subscribed to.
    pub deny_subscribe: Vec<String>,
}

/// What one client may do.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    /// There are no rules.
    everything: bool,
    publish: Vec<TopicFilter>,
    subscribe: Vec<TopicFilter>,
    deny_publish: Vec<TopicFilter>,
    deny_subscribe: Vec<TopicFilter>,
}

impl Access {
    /// The rights of a client.
    pub(super) fn rights(&self, user: Option<&str>, client_id: &str) -> Rights {
        if self.rules.is_empty() {
            return Rights::all();
        }
        let user = user.unwrap_or("");
        let fits = |rule: &&Rule| {
            rule.users.as_ref().is_none_or(|users| users.contains(user))
                && rule.client_ids.as_ref().is_none_or(|ids| ids.contains(client_id))
        };
        let mut rights = Rights::default();
        for rule in self.rules.iter().filter(fits) {
            for (texts, filters) in [
                (&rule.publish, &mut rights.publish),
                (&rule.subscribe, &mut rights.subscribe),
                (&rule.deny_publish, &mut rights.deny_publish),
                (&rule.deny_subscribe, &mut rights.deny_subscribe),
            ] {
                filters.extend(texts.iter().filter_map(|text| filled(text, user, client_id)));
            }
        }
        rights
    }
}

/// A filter with the client's own names in it; `None` where one of them would be
/// more than one level, or none at all.
fn filled(text: &str, user: &str, client_id: &str) -> Option<TopicFilter> {
    let is_level = |name: &str| !name.is_empty() && !name.contains(['/', '+', '#']);
    if text.contains(USER) && !is_level(user) || text.contains(CLIENT_ID) && !is_level(client_id) {
        return None;
    }
    TopicFilter::new(&text.replace(USER, user).replace(CLIENT_ID, client_id)).ok()
}

impl Rights {
    /// The right to do everything.
    pub(super) fn all() -> Self {
        Self { everything: true, ..Self::default() }
    }

    pub(super) fn may_publish(&self, topic: &Topic) -> bool {
        let any = |filters: &[TopicFilter]| filters.iter().any(|filter| filter.matches(topic));
        self.everything || any(&self.publish) && !any(&self.deny_publish)
    }

    pub(super) fn may_subscribe(&self, wanted: &TopicFilter) -> bool {
        let any = |filters: &[TopicFilter]| filters.iter().any(|filter| covers(filter, wanted));
        self.everything || any(&self.subscribe) && !any(&self.deny_subscribe)
    }

    /// Whether an event of a subscription may be delivered: a wider filter than
    /// what is denied may be subscribed to.
    pub(super) fn may_receive(&self, topic: &Topic) -> bool {
        !self.deny_subscribe.iter().any(|filter| filter.matches(topic))
    }
}

/// Whether a filter asks for every topic that another one asks for.
fn covers(wide: &TopicFilter, narrow: &TopicFilter) -> bool {
    let (wide, narrow) = (wide.as_str(), narrow.as_str());
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn a_filter_covers_what_it_asks_for_whatever_the_topic() {
        for (wide, narrow) in
            [("#", "a/+"), ("a/#", "a"), ("a/#", "a/#"), ("a/+", "a/+"), ("+/b", "a/b"), ("a", "a")]
        {
            assert!(covers(&filter(wide), &filter(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("a/+", "a/#"), ("a/b", "a/+"), ("#", "$SYS/#"), ("+/x", "$SYS/x"), ("a", "a/b")]
        {
            assert!(!covers(&filter(wide), &filter(narrow)), "{wide} {narrow}");
        }
    }

    #[test]
    fn rules_grant_and_deny_by_user_and_client() {
        let own = Rule {
            publish: vec!["dev/{client_id}/#".into()],
            subscribe: vec!["#".into()],
            deny_subscribe: vec!["secret/#".into()],
            ..Rule::default()
        };
        let admin = Rule {
            users: Some(["admin".to_owned()].into()),
            publish: vec!["#".into()],
            deny_publish: vec!["audit".into()],
            ..Rule::default()
        };
        let access = Access { users: None, rules: vec![own, admin] };
        let may = |rights: &Rights, topic| rights.may_publish(&Topic::new(topic).unwrap());
        let device = access.rights(None, "d1");
        assert!(may(&device, "dev/d1/x") && !may(&device, "dev/d2/x") && !may(&device, "x"));
        assert!(device.may_subscribe(&filter("#")) && !device.may_subscribe(&filter("secret/a")));
        assert!(!device.may_receive(&Topic::new("secret/a").unwrap()));
        let admin = access.rights(Some("admin"), "+");
        assert!(may(&admin, "x") && !may(&admin, "audit"));
        assert!(!may(&access.rights(Some("eve"), "a/b"), "dev/a/b"));
        assert!(may(&Access::default().rights(None, "x"), "anything"));
    }
}
