//! What bindings that name one store have to agree on.

use super::join::Join;
use crate::config::{Error, Problem};

/// Checks each binding against the first that means the same broker.
pub(super) fn shared(join: &Join<'_>, errors: &mut Vec<Error>) {
    for bound in &join.bindings {
        let first = join.bindings.iter().find(|other| other.broker == bound.broker);
        let connection = &bound.binding.connection;
        let Some(first) = first.map(|first| first.binding) else { continue };
        if first.connection.store_bounds() != connection.store_bounds() {
            let line = join.config.source.line(first.place.span.start);
            let problem = Problem::StoreDiffers { line };
            let place = Some(bound.binding.place.clone());
            errors.push(Error { place, problem });
        }
    }
}
