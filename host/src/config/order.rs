//! Reading `order` and `order_by`.

use super::Problem;
use super::section::Section;
use super::source::{Located, Place};
use crate::broker::{Order, OrderBy};
use std::str::FromStr;

/// The order of a binding, and where it is asked for.
pub(super) fn read(section: &mut Section<'_>) -> (Order, Option<Place>) {
    let words =
        [("none", Order::None), ("key", Order::Key(OrderBy::EventKey)), ("all", Order::All)];
    let order = section.choice("order", &words);
    let by = read_by(section);
    let by_key = order.as_ref().is_some_and(|o| matches!(o.value, Order::Key(_)));
    // Where `order` itself is wrong, nobody knows what it would have been; and
    // that there is no subscription is said of every key alike.
    let order_is_known = order.is_some() || !section.has("order");
    let has_subscription = section.has("topic") || section.has("queue");
    if let Some(place) = section.place_of("order_by")
        && order_is_known
        && has_subscription
        && !by_key
    {
        let (other, reason) = ("`order = \"key\"`", "it says where the key of an event is");
        section.report(&place, Problem::Requires { other, reason });
    }
    match (order, by) {
        (Some(Located { value: Order::Key(_), place }), Some(by)) => (Order::Key(by), Some(place)),
        (Some(order), _) => {
            let place = (order.value != Order::None).then_some(order.place);
            (order.value, place)
        }
        (None, _) => (Order::None, None),
    }
}

fn read_by(section: &mut Section<'_>) -> Option<OrderBy> {
    let text = section.string("order_by")?;
    match OrderBy::from_str(&text.value) {
        Ok(by) => Some(by),
        Err(error) => {
            section.invalid(&text.place, error.to_string());
            None
        }
    }
}
