//! What one event may be at most.

use super::{BrokerError, Event};

/// The largest event that is published, part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload and text of all attributes together, in bytes.
    pub event_bytes_max: usize,
    /// The number of attributes.
    pub attributes_max: usize,
    /// The name of an attribute, in bytes of UTF-8.
    pub attribute_name_bytes_max: usize,
    /// The value of an attribute, in bytes of UTF-8. `id`, `source`, `type`,
    /// the content type and the ordering key are bounded by it as well.
    pub attribute_value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes_max: 10 * 1024 * 1024,
            attributes_max: 100,
            attribute_name_bytes_max: 256,
            attribute_value_bytes_max: 1024,
        }
    }
}

impl Limits {
    /// Checks an event.
    ///
    /// # Errors
    /// `TooLarge` for the event as a whole; `Unsupported`, which says what is
    /// too long or too many, for its attributes.
    pub fn check(&self, event: &Event) -> Result<(), BrokerError> {
        if event.size() > self.event_bytes_max {
            return Err(BrokerError::TooLarge { limit: self.event_bytes_max as u64 });
        }
        if event.attributes.len() > self.attributes_max {
            return Err(BrokerError::Unsupported(format!(
                "the event has {} attributes; at most {} are allowed",
                event.attributes.len(),
                self.attributes_max
            )));
        }
        for (name, value) in &event.attributes {
            if name.len() > self.attribute_name_bytes_max {
                return Err(too_long(
                    "the name of an attribute",
                    name.len(),
                    self.attribute_name_bytes_max,
                ));
            }
            self.check_value(name, value)?;
        }
        self.check_value("id", &event.id)?;
        self.check_value("source", &event.source)?;
        self.check_value("type", &event.kind)?;
        self.check_value("content type", event.content_type.as_deref().unwrap_or_default())?;
        self.check_value("ordering key", event.ordering_key.as_deref().unwrap_or_default())
    }

    fn check_value(&self, name: &str, value: &str) -> Result<(), BrokerError> {
        if value.len() <= self.attribute_value_bytes_max {
            return Ok(());
        }
        Err(too_long(&format!("attribute `{name}`"), value.len(), self.attribute_value_bytes_max))
    }
}

#[cold]
fn too_long(what: &str, bytes: usize, bytes_max: usize) -> BrokerError {
    BrokerError::Unsupported(format!("{what} has {bytes} bytes; at most {bytes_max} are allowed"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(attributes: Vec<(String, String)>) -> Event {
        Event {
            id: "1".into(),
            source: "s".into(),
            kind: "k".into(),
            attributes,
            ..Event::default()
        }
    }

    #[test]
    fn the_limits_themselves_are_allowed_and_one_more_is_not() {
        let limits = Limits {
            event_bytes_max: 1000,
            attributes_max: 2,
            attribute_name_bytes_max: 3,
            attribute_value_bytes_max: 4,
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        limits.check(&event(vec![pair("abc", "wxyz"), pair("b", "")])).unwrap();

        let text = |event: &Event| limits.check(event).unwrap_err().to_string();
        let three = event(vec![pair("a", "1"), pair("b", "2"), pair("c", "3")]);
        assert!(text(&three).contains("3 attributes; at most 2"));
        assert!(text(&event(vec![pair("abcd", "")])).contains("has 4 bytes; at most 3"));
        assert!(text(&event(vec![pair("abc", "vwxyz")])).contains("`abc` has 5 bytes; at most 4"));
        assert!(text(&Event { id: "12345".into(), ..event(vec![]) }).contains("`id`"));

        let mut whole = Event { data: vec![0; 997].into(), ..event(vec![]) };
        limits.check(&whole).unwrap();
        whole.data = vec![0; 998].into();
        assert_eq!(limits.check(&whole), Err(BrokerError::TooLarge { limit: 1000 }));
    }
}
