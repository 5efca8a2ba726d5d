//! The reference in `docs` has every key.

use crate::cases::{backends, folder, load};
use wasi_pubsub::config::Problem;

/// The keys that the table at the end of a text may have: those that are
/// offered in place of one that nobody knows.
fn keys(text: &str) -> Vec<&'static str> {
    let errors = load("keys.toml", format!("{text}\nzzzzzzzz = 1\n").as_bytes()).unwrap_err();
    let mut known = errors.iter().filter_map(|error| match &error.problem {
        Problem::UnknownKey { known, .. } => Some(known.clone()),
        _ => None,
    });
    let keys = known.next().unwrap();
    assert!(known.next().is_none(), "one key was unknown:\n{errors}");
    keys
}

const BINDING: &str = "[[capability]]\nname = \"pubsub.mqtt\"\n[[capability.config]]\n";

const DISK: &str = "[[capability]]\nname = \"pubsub.disk\"\n[[capability.config]]\npath = \"x\"\n";

#[test]
fn every_key_is_in_the_reference() {
    let text = std::fs::read_to_string(folder().join("../../docs/configuration.md")).unwrap();
    for table in [
        "",
        "[[capability]]",
        BINDING,
        DISK,
        &format!("{BINDING}[capability.config.retry]"),
        &format!("{BINDING}[capability.config.retention]"),
        &format!("{BINDING}qos = 2\ntopic = \"a\"\n[capability.config.dedupe]"),
        &format!("{DISK}listen = [\"mqtt://127.0.0.1\"]\n[capability.config.listen_limits]"),
        &format!(
            "{DISK}listen = [\"mqtt://127.0.0.1\"]\n[[capability.config.access]]\npublish = []"
        ),
        "[[component]]",
        "[[component]]\n[[component.dirs]]",
    ] {
        let keys = keys(table);
        assert!(!keys.is_empty());
        for key in keys {
            assert!(
                text.contains(&format!("| `{key}` |")),
                "the reference lacks `{key}` of {table}"
            );
        }
    }
    for backend in wasi_pubsub::backends::backends().present {
        assert!(text.contains(&format!("`{}`", backend.name())), "{}", backend.name());
    }
}

#[test]
fn a_backend_asks_for_the_keys_that_it_says_it_has() {
    let common = keys("[[capability]]\nname = \"pubsub.memory\"\n[[capability.config]]");
    let backends = backends();
    for (name, binding) in [("pubsub.mqtt", BINDING), ("pubsub.disk", DISK)] {
        let known = keys(binding);
        let own: Vec<_> = backends.find(name).unwrap().keys().iter().map(|k| k.name).collect();
        for key in &own {
            assert!(known.contains(key), "nothing asks for {key}");
        }
        for key in known.iter().filter(|key| !common.contains(key)) {
            assert!(own.contains(key), "{key} is asked for, and not in the list of keys");
        }
    }
}
