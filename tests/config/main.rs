//! Configuration files, right and wrong, with what exactly comes of them.
//!
//! `valid/NAME.toml` has its plan in `NAME.plan`, `invalid/NAME.toml` its message
//! in `NAME.expected`. What is known of components is in `NAME.components`, one a
//! line: the name, and after a colon what it imports and exports. Without that
//! file, `invalid` files are only read. `BLESS=1` writes what is found instead of
//! comparing it.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod cases;
mod facts;
mod reference;
mod summary;

use cases::{Case, cases, folder, load};
use std::collections::BTreeSet;
use wasi_pubsub::config::{Config, Errors, Plan, Problem, built_in, resolve};

/// Lists every kind of problem once, and fails to compile where one is left out.
macro_rules! kinds {
    ($($kind:ident)*) => {
        const KINDS: &[&str] = &[$(stringify!($kind)),*];

        fn kind(problem: &Problem) -> &'static str {
            match problem {
                $(Problem::$kind { .. } => stringify!($kind),)*
            }
        }
    };
}

kinds! {
    NotUtf8 Syntax MissingKey UnknownKey WrongType NotAllowed OutOfRange BadDuration BadSize
    BadTopic BadName BadValue BadFilter BadVariable UnsetVariable BadFile UnknownBackend BackendNotBuilt
    BackendLater DuplicateId DuplicateComponent Conflict Requires GroupWithTopic
    DeadLetterLoop NothingAfterAttempts OtherCapability QosTooHigh NoQueues NoOrderedQueues
    NoReplay NoGroupLimits NoListener ListensTwice SharedOrderedQueue QueueDiffers StoreDiffers
    SubscriptionNameTaken NameOfSeveral
    UnknownComponent
    BadComponent ForeignImport NothingToRun NeverPushed NotServed NoHandler NotAHandler NotAPuller
    AmbiguousPublish DuplicateSubscription
}

fn read(case: &Case) -> Result<Config, Errors> {
    match case.text.is_empty() && case.name.starts_with("without-file") {
        true => built_in(cases::backends()),
        false => load(&case.name, &case.text),
    }
}

/// Reads a case and joins it with its components, as the command line does.
fn run(case: &Case) -> Result<Option<Plan>, Errors> {
    let mut config = read(case)?;
    let Some(components) = &case.components else { return Ok(None) };
    let mut errors: Option<Errors> = None;
    let mut add = |more: Errors| match &mut errors {
        Some(errors) => errors.extend(more),
        none => *none = Some(more),
    };
    let mut facts = Vec::new();
    for component in components {
        if !config.components.iter().any(|known| known.name == component.facts.name)
            || component.twice
        {
            config.add_component(component.facts.path.clone()).unwrap_or_else(&mut add);
        }
        match &component.broken {
            Some(reason) => {
                add(config.component_error(&component.facts.name, reason, Some("build it anew")));
            }
            None => facts.push(component.facts.clone()),
        }
    }
    match (resolve(&config, &facts), errors) {
        (Ok(plan), None) => Ok(Some(plan)),
        (Err(errors), None) | (Ok(_), Some(errors)) => Err(errors),
        (Err(more), Some(mut errors)) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

#[test]
fn each_invalid_file_has_its_message() {
    let mut seen = BTreeSet::new();
    let mut failures = Vec::new();
    for case in cases("invalid") {
        match run(&case) {
            Ok(_) => failures.push(format!("{}: nothing was found wrong", case.name)),
            Err(errors) => {
                seen.extend(errors.iter().map(|error| kind(&error.problem)));
                let text = cases::portable(&errors.to_string());
                assert!(!text.contains("geheim"), "a secret is shown:\n{text}");
                failures.extend(case.compare("expected", &text));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(*kind)).collect();
    assert!(missing.is_empty(), "no file in tests/config/invalid shows {missing:?}");
}

#[test]
fn each_valid_file_has_its_plan() {
    let mut failures = Vec::new();
    for case in cases("valid") {
        match run(&case) {
            Ok(Some(plan)) => failures.extend(case.compare("plan", &summary::of(&plan))),
            Ok(None) => failures.push(format!("{}.components is missing", case.name)),
            Err(errors) => failures.push(format!("{}:\n{errors}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What a broker knows a topic subscription by, and everything else about it.
fn known(plan: &Plan) -> BTreeSet<String> {
    let topics = plan.subscriptions.iter().filter(|s| s.settings.group.is_none());
    let known = topics.map(|subscription| {
        let members: Vec<_> =
            subscription.members.iter().map(|&index| &plan.components[index].name).collect();
        let broker = plan.brokers[subscription.broker].connection.describe();
        let (name, filter) = (subscription.settings.known_as(), &subscription.settings.filter);
        format!("{name}: {filter} at {broker} {:?} by {members:?}", subscription.delivery)
    });
    known.collect()
}

/// Brokers keep backlogs by that name.
#[test]
fn taking_a_binding_away_renames_no_topic_subscription() {
    let mut compared = 0;
    for case in cases("valid") {
        let Some(components) = &case.components else { continue };
        let facts: Vec<_> = components.iter().map(|component| component.facts.clone()).collect();
        let whole = run(&case).unwrap().unwrap();
        for left_out in 0.. {
            let mut config = read(&case).unwrap();
            let mut at = left_out;
            let with_it = config.capabilities.iter_mut().find(|capability| {
                let found = at < capability.bindings.len();
                at -= if found { 0 } else { capability.bindings.len() };
                found
            });
            let Some(capability) = with_it else { break };
            capability.bindings.remove(at);
            // Some component may have nothing to do any more.
            let Ok(plan) = resolve(&config, &facts) else { continue };
            let (before, after) = (known(&whole), known(&plan));
            let new: Vec<_> = after.difference(&before).collect();
            assert!(new.is_empty(), "{} without binding {left_out}: {new:?}", case.name);
            compared += after.len();
        }
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn every_expectation_has_its_file() {
    for sort in ["valid", "invalid"] {
        let names: BTreeSet<String> = cases(sort).into_iter().map(|case| case.name).collect();
        for entry in std::fs::read_dir(folder().join(sort)).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().unwrap_or_default();
            if ["expected", "plan", "components"].iter().any(|known| extension == *known) {
                let name = path.with_extension("toml").file_name().unwrap().to_owned();
                assert!(
                    names.contains(name.to_str().unwrap()),
                    "{} is about nothing",
                    path.display()
                );
            }
        }
    }
}

/// The beginnings of every file, as when it is being written: whatever is wrong
/// is an error and no panic, and secrets stay hidden.
#[test]
fn a_file_that_breaks_off_is_read_like_any_other() {
    let mut loaded = (0, 0);
    for case in cases("valid").into_iter().chain(cases("invalid")) {
        for end in (0..case.text.len()).step_by(3) {
            match load(&case.name, &case.text[..end]) {
                Ok(_) => loaded.0 += 1,
                Err(errors) => {
                    loaded.1 += 1;
                    let text = errors.render(false);
                    assert!(!text.is_empty());
                    assert!(!text.contains("geheim"), "a secret is shown:\n{text}");
                }
            }
        }
    }
    assert!(loaded.0 > 100 && loaded.1 > 1000, "{loaded:?}");
}

#[test]
fn colours_change_nothing_but_colours() {
    let case = cases("invalid").into_iter().find(|case| case.name == "not-allowed.toml").unwrap();
    let errors = run(&case).unwrap_err();
    let coloured = errors.render(true);
    assert!(coloured.contains("\x1b["));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    assert_eq!(plain + rest, errors.render(false));
}
