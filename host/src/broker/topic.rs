//! Topics, and filters with wildcards: MQTT 5.0, section 4.7.

use std::fmt;
use std::sync::Arc;

/// The longest topic or filter, in bytes of UTF-8 (MQTT 5.0, section 4.7.3).
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// The name that an event is published to: levels with `/` between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// A topic in which `+` stands for one level and a last `#` for any number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

/// Why a text is no topic, or no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is no text at all.
    #[error("it is empty")]
    Empty,
    /// It is longer than [`TOPIC_BYTES_MAX`].
    #[error("it is longer than 65535 bytes")]
    TooLong,
    /// U+0000 may not occur.
    #[error("it contains the character U+0000")]
    Nul,
    /// A topic to publish to has no wildcards.
    #[error("it contains a wildcard, `+` or `#`: events are published to one topic")]
    Wildcard,
    /// `+` fills a level alone.
    #[error("`+` must fill a whole level, as in `a/+/b`")]
    PlusNotAlone,
    /// `#` is the whole last level.
    #[error("`#` must be the whole last level, as in `a/#`")]
    HashNotLast,
    /// The prefix that MQTT keeps for shared subscriptions.
    #[error("it begins with `$share/`: use `queue` and `group` instead")]
    Share,
}

fn check_text(text: &str) -> Result<(), TopicError> {
    match text {
        "" => Err(TopicError::Empty),
        _ if text.len() > TOPIC_BYTES_MAX => Err(TopicError::TooLong),
        _ if text.contains('\0') => Err(TopicError::Nul),
        _ if text.starts_with("$share/") => Err(TopicError::Share),
        _ => Ok(()),
    }
}

impl Topic {
    /// Checks a text and takes it as a topic.
    ///
    /// # Errors
    /// Where it breaks a rule of MQTT 5.0, section 4.7: see [`TopicError`].
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TopicFilter {
    /// Checks a text and takes it as a filter. Every topic is one.
    ///
    /// # Errors
    /// Where it breaks a rule of MQTT 5.0, section 4.7.1: see [`TopicError`].
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::HashNotLast);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::PlusNotAlone);
            }
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the filter has a wildcard.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether a topic is one that the filter asks for.
    ///
    /// A wildcard in the first level does not match a topic that begins with
    /// `$` (MQTT 5.0, section 4.7.2).
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let (filter, topic) = (self.as_str(), topic.as_str());
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut wanted = filter.split('/');
        let mut found = topic.split('/');
        loop {
            match (wanted.next(), found.next()) {
                (Some("#"), _) => return true,
                (Some("+"), Some(_)) => {}
                (Some(w), Some(f)) if w == f => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// Whether some topic matches both filters.
    #[must_use]
    pub fn overlaps(&self, other: &TopicFilter) -> bool {
        fn levels_overlap<'a>(
            mut a: impl Iterator<Item = &'a str>,
            mut b: impl Iterator<Item = &'a str>,
        ) -> bool {
            loop {
                match (a.next(), b.next()) {
                    (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                    (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
                    (Some(x), Some(y)) if x == y => {}
                    _ => return false,
                }
            }
        }
        let (a, b) = (self.as_str(), other.as_str());
        let dollar_only_once = a.starts_with('$') && b.starts_with(['+', '#'])
            || b.starts_with('$') && a.starts_with(['+', '#']);
        !dollar_only_once && levels_overlap(a.split('/'), b.split('/'))
    }
}

impl From<&Topic> for TopicFilter {
    fn from(topic: &Topic) -> Self {
        Self(topic.0.clone())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::new(filter).unwrap().matches(&Topic::new(topic).unwrap())
    }

    fn overlaps(a: &str, b: &str) -> bool {
        let (a, b) = (TopicFilter::new(a).unwrap(), TopicFilter::new(b).unwrap());
        assert_eq!(a.overlaps(&b), b.overlaps(&a));
        a.overlaps(&b)
    }

    #[test]
    fn wildcards_match_as_mqtt_4_7_says() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "sport/tennis"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+/tennis/#", "sport/tennis"),
            ("é/+", "é/x"),
            ("$SYS/#", "$SYS/broker/load"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a//b", "a//b"),
        ] {
            assert!(matches(filter, topic), "{filter} should match {topic}");
        }
        for (filter, topic) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/broker"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("a/b", "a/b/"),
            ("a/b", "A/b"),
        ] {
            assert!(!matches(filter, topic), "{filter} should not match {topic}");
        }
    }

    #[test]
    fn malformed_texts_are_refused_with_their_reason() {
        assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::new("a/#/b"), Err(TopicError::HashNotLast));
        assert_eq!(TopicFilter::new("a#"), Err(TopicError::HashNotLast));
        assert_eq!(TopicFilter::new("a+/b"), Err(TopicError::PlusNotAlone));
        assert_eq!(TopicFilter::new("$share/g/a"), Err(TopicError::Share));
        assert_eq!(Topic::new("a/+"), Err(TopicError::Wildcard));
        assert_eq!(Topic::new("a\0"), Err(TopicError::Nul));
        assert_eq!(Topic::new(&"a".repeat(65_536)), Err(TopicError::TooLong));
    }

    #[test]
    fn filters_overlap_where_one_topic_matches_both() {
        assert!(overlaps("a/+", "+/b"));
        assert!(overlaps("a/#", "a"));
        assert!(overlaps("#", "x/y"));
        assert!(!overlaps("a/+", "b/+"));
        assert!(!overlaps("a", "a/b"));
        assert!(!overlaps("#", "$SYS/x"));
    }
}
