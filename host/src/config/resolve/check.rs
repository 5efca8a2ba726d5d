//! What components and bindings need from each other.

use super::join::{Join, takes};
use super::plan::ComponentFacts;
use crate::config::suggest::nearest;
use crate::config::{Delivery, Error, Located, Problem, Publish};

/// Checks that one binding of a broker says where it listens.
pub(super) fn listeners(join: &Join<'_>, errors: &mut Vec<Error>) {
    for bound in &join.bindings {
        let first = join.brokers[bound.broker].listen.as_ref();
        if let (Some(own), Some(first)) = (&bound.binding.listen, first)
            && own.settings != first.settings
        {
            let line = join.config.source.line(first.places.listen.span.start);
            let place = Some(own.places.listen.clone());
            errors.push(Error { place, problem: Problem::ListensTwice { line } });
        }
    }
}

/// Checks each binding: the names in its scope, and who takes its events.
pub(super) fn scopes(join: &Join<'_>, errors: &mut Vec<Error>) {
    let known: Vec<String> = join.config.components.iter().map(|c| c.name.clone()).collect();
    for bound in &join.bindings {
        let named = bound.binding.components.as_deref();
        for name in named.unwrap_or_default() {
            if known.contains(&name.value) || facts(join, &name.value).is_some() {
                errors.extend(unfit(join, name, bound.delivery()));
                continue;
            }
            let nearest = nearest(&name.value, known.iter().map(String::as_str));
            let problem = Problem::UnknownComponent {
                name: name.value.clone(),
                nearest: nearest.map(str::to_owned),
                known: known.clone(),
            };
            errors.push(Error { place: Some(name.place.clone()), problem });
        }
        // With names, what is wrong with each was said above.
        let everybody = named.is_none_or(<[_]>::is_empty);
        if everybody
            && !join.config.is_built_in
            && !join.components.is_empty()
            && !has_unknown(join)
            && let Some(subscription) = &bound.binding.subscription
            && subscription.delivery == Delivery::Push
            && !join.components.iter().any(|c| bound.serves(c) && c.exports_handler)
        {
            errors.push(Error {
                place: Some(subscription.place.clone()),
                problem: Problem::NoHandler,
            });
        }
    }
}

/// The error that a component that was named cannot take what is delivered.
fn unfit(join: &Join<'_>, name: &Located<String>, delivery: Option<Delivery>) -> Option<Error> {
    let (facts, delivery) = (facts(join, &name.value)?, delivery?);
    if takes(facts, delivery) {
        return None;
    }
    let component = name.value.clone();
    let problem = match delivery {
        Delivery::Push => Problem::NotAHandler { component },
        Delivery::Pull => Problem::NotAPuller { component },
    };
    Some(Error { place: Some(name.place.clone()), problem })
}

/// Checks each component: what it needs, and whether it would ever run.
pub(super) fn components(join: &Join<'_>, errors: &mut Vec<Error>) {
    for facts in join.components {
        let component = || facts.name.clone();
        for import in &facts.foreign_imports {
            let problem = Problem::ForeignImport { component: component(), import: import.clone() };
            errors.push(join.about(facts, problem));
        }
        if !facts.is_command && !facts.exports_handler {
            errors.push(join.about(facts, Problem::NothingToRun { component: component() }));
        } else if !facts.is_command && !is_served(join, facts, Delivery::Push) {
            errors.push(join.about(facts, Problem::NeverPushed { component: component() }));
        }
        let excused = imports_whole_interface(join, facts);
        for function in not_served(join, facts) {
            if !(excused && BASIC.contains(&function)) {
                let problem = Problem::NotServed { component: component(), function };
                errors.push(join.about(facts, problem));
            }
        }
    }
}

/// What is no error, and may surprise all the same.
pub(super) fn notes(join: &Join<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for facts in join.components.iter().filter(|facts| imports_whole_interface(join, facts)) {
        let functions: Vec<&str> =
            not_served(join, facts).into_iter().filter(|f| BASIC.contains(f)).collect();
        if !functions.is_empty() {
            notes.push(format!(
                "component `{}` imports `{}`, which no binding serves: a call would fail",
                facts.name,
                functions.join("` and `")
            ));
        }
    }
    notes
}

/// The functions of the interface `basic`.
const BASIC: [&str; 3] = ["publish", "receive", "stream"];

/// Whether the component imports all of `basic`, as toolchains that do not look
/// at what the code calls make it, and gets something of what it may need: then
/// nothing is known of the rest.
fn imports_whole_interface(join: &Join<'_>, facts: &ComponentFacts) -> bool {
    facts.imports_publish
        && facts.imports_receive
        && facts.imports_stream
        && (may_publish(join, facts)
            || is_served(join, facts, Delivery::Pull)
            || facts.exports_handler && is_served(join, facts, Delivery::Push))
}

/// The functions that the component imports and no binding serves.
fn not_served(join: &Join<'_>, facts: &ComponentFacts) -> Vec<&'static str> {
    let pulled = is_served(join, facts, Delivery::Pull);
    let functions = [
        (facts.imports_publish, may_publish(join, facts), "publish"),
        (facts.imports_receive, pulled, "receive"),
        (facts.imports_stream, pulled, "stream"),
        (facts.imports_pull, pulled, "pull"),
    ];
    functions
        .into_iter()
        .filter(|(imported, served, _)| *imported && !served)
        .map(|(_, _, function)| function)
        .collect()
}

fn is_served(join: &Join<'_>, facts: &ComponentFacts, delivery: Delivery) -> bool {
    join.bindings.iter().any(|bound| bound.serves(facts) && bound.delivery() == Some(delivery))
}

fn may_publish(join: &Join<'_>, facts: &ComponentFacts) -> bool {
    join.bindings.iter().filter(|bound| bound.serves(facts)).any(|bound| {
        match &bound.binding.publish {
            Publish::Anything => true,
            Publish::Only(grants) => !grants.is_empty(),
        }
    })
}

fn facts<'a>(join: &Join<'a>, name: &str) -> Option<&'a ComponentFacts> {
    join.components.iter().find(|component| component.name == name)
}

/// Whether there is a component of which nothing is known.
fn has_unknown(join: &Join<'_>) -> bool {
    join.config.components.iter().any(|component| facts(join, &component.name).is_none())
}
