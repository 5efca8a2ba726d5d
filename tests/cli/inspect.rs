//! `inspect`

use crate::support::{Scene, guests};
use crate::{done, failed};
use serde_json::{Value, json};
use std::fs;

fn guest(name: &str) -> String {
    guests().join(name).display().to_string()
}

#[tokio::test]
async fn a_handler_in_words() {
    let path = guest("pipeline.wasm");
    let text = done(&Scene::memory(), &["inspect", &path]).await;
    for part in [
        "imports:\n",
        "  wasi:pubsub-data/basic@0.2.0-draft\n",
        "exports:\n  wasi:pubsub-data/on-message@0.2.0-draft\n",
        "needs:\n  a binding with `topic` or `queue` and `delivery = \"push\"` for its handler",
        "a binding that lets it publish",
        &format!("try:\n  wasi-pubsub run {path}\n"),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("pull"), "{text}");
}

#[tokio::test]
async fn a_command_in_words() {
    let text = done(&Scene::memory(), &["inspect", &guest("worker.wasm")]).await;
    for part in [
        "  wasi:pubsub-data/pull@0.2.0-draft\n",
        "exports:\n  wasi:cli/run@0.2.",
        "a binding with `topic` or `queue` and `delivery = \"pull\"` for `pull`",
        "`main`, which runs once",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

async fn as_json(name: &str) -> Value {
    let text = done(&Scene::memory(), &["inspect", "--json", &guest(name)]).await;
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text} is no JSON: {e}"))
}

#[tokio::test]
async fn components_as_json() {
    for (name, handlers, functions, command) in [
        ("publisher.wasm", json!([]), json!(["publish"]), true),
        ("receiver.wasm", json!(["0.2.0-draft"]), json!([]), false),
        ("pipeline.wasm", json!(["0.2.0-draft"]), json!(["publish"]), false),
        ("concurrent.wasm", json!(["0.3.0-draft"]), json!([]), false),
        ("puller.wasm", json!([]), json!(["receive"]), true),
        ("streamer.wasm", json!([]), json!(["stream"]), true),
        ("worker.wasm", json!([]), json!(["pull"]), true),
        ("both.wasm", json!(["0.2.0-draft", "0.3.0-draft"]), json!([]), false),
    ] {
        let found = as_json(name).await;
        assert_eq!(found["handlers"], handlers, "{name}: {found:#}");
        assert_eq!(found["functions"], functions, "{name}: {found:#}");
        assert_eq!(found["command"], command, "{name}: {found:#}");
        assert_eq!((&found["runs"], &found["problem"]), (&json!(true), &Value::Null), "{name}");
        assert!(found["imports"].is_array() && found["exports"].is_array(), "{name}");
    }
}

#[tokio::test]
async fn a_component_for_another_host_is_described_too() {
    let scene = Scene::memory();
    let text = r#"(component (import "wasi:keyvalue/store@0.2.0-draft" (instance)))"#;
    fs::write(scene.folder().join("foreign.wat"), text).unwrap();
    let words = done(&scene, &["inspect", "foreign.wat"]).await;
    assert!(words.contains("imports:\n  wasi:keyvalue/store@0.2.0-draft\n"), "{words}");
    assert!(words.contains("exports:\n  nothing\n"), "{words}");
    assert!(words.contains("this host cannot run it:\n"), "{words}");
    let json = done(&scene, &["inspect", "foreign.wat", "--json"]).await;
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["runs"], false);
    assert!(found["problem"].as_str().unwrap().contains("wasi:keyvalue/store@0.2.0-draft"));
}

#[tokio::test]
async fn what_is_no_component_is_an_error() {
    let scene = Scene::memory();
    fs::write(scene.folder().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let text = failed(&scene, &["inspect", "core.wasm"], 2).await;
    assert!(text.starts_with("error: core.wasm: this is a core WebAssembly module"), "{text}");
    assert!(text.contains("\n  help: "), "{text}");
    let text = failed(&scene, &["inspect", "nowhere.wasm"], 2).await;
    assert_eq!(
        text,
        "error: nowhere.wasm: the file cannot be read: No such file or directory (os error 2)\n"
    );
}
