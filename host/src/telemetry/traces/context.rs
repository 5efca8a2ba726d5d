//! The trace context of an event: W3C Trace Context in the attributes of
//! CloudEvents' extension for distributed tracing.

use crate::broker::{Event, Limits};

pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` that goes on, in bytes: what the recommendation asks
/// everybody to keep.
const TRACESTATE_BYTES_MAX: usize = 512;
/// `version-traceid-parentid-flags`, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// The attributes `traceparent` and `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceContext {
    pub(super) parent: String,
    pub(super) state: Option<String>,
}

impl TraceContext {
    /// The context of an event. `None` where it has none, or one that is malformed
    /// and must not go on.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let parent = event.attribute(TRACEPARENT).filter(|parent| is_valid(parent))?;
        let printable = |state: &&str| state.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
        let state = event
            .attribute(TRACESTATE)
            .filter(|state| !state.is_empty() && state.len() <= TRACESTATE_BYTES_MAX)
            .filter(printable);
        Some(Self { parent: parent.to_owned(), state: state.map(str::to_owned) })
    }

    /// Gives it to an event, in place of what is there. An event that would break a
    /// limit by it goes without: tracing makes no publish fail.
    pub(super) fn put(&self, event: &mut Event, limits: &Limits) {
        event.attributes.retain(|(name, _)| name != TRACEPARENT && name != TRACESTATE);
        let state = self.state.as_ref().map(|state| (TRACESTATE, state));
        for (name, value) in [Some((TRACEPARENT, &self.parent)), state].into_iter().flatten() {
            let fits = event.attributes.len() < limits.attributes_max
                && event.size() + name.len() + value.len() <= limits.event_bytes_max
                && value.len() <= limits.attribute_value_bytes_max;
            if !fits {
                return;
            }
            event.attributes.push((name.to_owned(), value.clone()));
        }
    }
}

/// Whether a `traceparent` is one: of version 00, or of a later one that begins as
/// that does.
fn is_valid(parent: &str) -> bool {
    let bytes = parent.as_bytes();
    let (Some(head), rest) = (bytes.get(..TRACEPARENT_BYTES), bytes.get(TRACEPARENT_BYTES)) else {
        return false;
    };
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let parts = [&head[..2], &head[3..35], &head[36..52], &head[53..]];
    let ends = if parts[0] == b"00" { rest.is_none() } else { rest.is_none_or(|b| *b == b'-') };
    [head[2], head[35], head[52]] == *b"---"
        && parts.iter().all(|part| is_hex(part))
        && parts[0] != b"ff"
        && !is_zero(parts[1])
        && !is_zero(parts[2])
        && ends
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn event(attributes: &[(&str, &str)]) -> Event {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Event { attributes: attributes.iter().map(owned).collect(), ..Event::default() }
    }

    fn context(state: Option<&str>) -> TraceContext {
        TraceContext { parent: PARENT.into(), state: state.map(str::to_owned) }
    }

    #[test]
    fn what_is_malformed_does_not_go_on() {
        for valid in [
            PARENT.to_owned(),
            PARENT.replacen("00", "01", 1),
            format!("{}-more", PARENT.replacen("00", "cc", 1)),
        ] {
            assert!(is_valid(&valid), "{valid}");
        }
        for malformed in [
            "".to_owned(),
            PARENT[..54].to_owned(),
            format!("{PARENT}-more"),
            format!("{PARENT}0"),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            PARENT.replacen("00", "ff", 1),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("{}ü", &PARENT[..53]),
            format!("{}more", PARENT.replacen("00", "cc", 1)),
        ] {
            assert!(!is_valid(&malformed), "{malformed}");
            assert_eq!(TraceContext::of(&event(&[(TRACEPARENT, &malformed)])), None);
        }
    }

    #[test]
    fn a_state_goes_on_with_its_parent_alone() {
        assert_eq!(TraceContext::of(&event(&[(TRACESTATE, "a=1")])), None);
        let of = |state| TraceContext::of(&event(&[(TRACEPARENT, PARENT), (TRACESTATE, state)]));
        assert_eq!(of("a=1"), Some(context(Some("a=1"))));
        let longest = "x".repeat(TRACESTATE_BYTES_MAX);
        assert_eq!(of(&longest), Some(context(Some(&longest))));
        for unfit in ["", "a=\u{1}", "a=ü", &format!("{longest}x")] {
            assert_eq!(of(unfit), Some(context(None)), "{unfit}");
        }
    }

    #[test]
    fn what_is_there_is_replaced() {
        let mut event = event(&[(TRACESTATE, "old"), ("region", "eu"), (TRACEPARENT, "old")]);
        context(Some("a=1")).put(&mut event, &Limits::default());
        let expected = [("region", "eu"), (TRACEPARENT, PARENT), (TRACESTATE, "a=1")];
        assert_eq!(event.attributes, self::event(&expected).attributes);
    }

    #[test]
    fn an_event_at_its_limits_goes_without() {
        let own = event(&[("a", "1"), ("b", "2")]);
        let put = |limits: Limits| {
            let mut event = own.clone();
            context(Some("a=1")).put(&mut event, &limits);
            assert_eq!(limits.check(&event), Ok(()));
            event.attributes.len() - own.attributes.len()
        };
        let parent_size = TRACEPARENT.len() + PARENT.len();
        let state_size = TRACESTATE.len() + 3;
        let bytes = |event_bytes_max| Limits { event_bytes_max, ..Limits::default() };
        let count = |attributes_max| Limits { attributes_max, ..Limits::default() };
        assert_eq!(put(bytes(own.size() + parent_size + state_size)), 2);
        assert_eq!(put(bytes(own.size() + parent_size + state_size - 1)), 1);
        assert_eq!(put(bytes(own.size() + parent_size - 1)), 0);
        assert_eq!([put(count(2)), put(count(3)), put(count(4))], [0, 1, 2]);
    }
}
