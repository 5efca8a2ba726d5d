//! Files that are no component, or none for this host.

use crate::support::Scene;
use crate::{call, failed};
use std::fs;

/// A command that does nothing, and ends well.
pub(crate) const COMMAND: &str = r#"(component
  (core module $m (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#;

/// A command that uses `publish` as if it took a number.
const MISFIT: &str = r#"(component
  (import "wasi:pubsub-data/basic@0.2.0-draft"
    (instance $basic (export "publish" (func (param "x" u32)))))
  (core func $publish (canon lower (func $basic "publish")))
  (core module $m
    (import "host" "publish" (func (param i32)))
    (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m (with "host" (instance (export "publish" (func $publish))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#;

/// What each command says to a file, which is the same for all of them.
async fn refused(scene: &Scene, name: &str, content: impl AsRef<[u8]>) -> String {
    fs::write(scene.folder().join(name), content).unwrap();
    let run = failed(scene, &["run", name], 2).await;
    assert_eq!(run, failed(scene, &["check", name], 2).await);
    assert!(!run.contains("panicked") && !run.contains("RUST_BACKTRACE"), "{run}");
    run
}

#[tokio::test]
async fn a_component_in_text_form_runs() {
    let scene = Scene::memory();
    fs::write(scene.folder().join("tiny.wat"), COMMAND).unwrap();
    let outcome = call(&scene, &["run", "tiny.wat"]).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""), "{}", outcome.err);

    let failing = COMMAND.replace("i32.const 0", "i32.const 1");
    fs::write(scene.folder().join("failing.wat"), failing).unwrap();
    let outcome = call(&scene, &["run", "tiny.wat", "failing.wat"]).await;
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.ends_with("error: failed: failing\n"), "{}", outcome.err);
}

#[tokio::test]
async fn a_file_that_is_not_there() {
    let scene = Scene::memory();
    let text = failed(&scene, &["run", "nowhere.wasm"], 2).await;
    assert_eq!(
        text,
        "component `nowhere` cannot be used: nowhere.wasm: the file cannot be read: No such file or \
         directory (os error 2)\n"
    );
    let folder = scene.folder().join("folder.wasm");
    fs::create_dir(folder).unwrap();
    let text = failed(&scene, &["run", "folder.wasm"], 2).await;
    assert!(text.contains("folder.wasm: ") && text.contains("directory"), "{text}");
}

#[tokio::test]
async fn a_file_that_is_no_webassembly() {
    let scene = Scene::memory();
    let text = refused(&scene, "script.wasm", "#!/bin/sh\necho no\n").await;
    assert_eq!(
        text,
        "component `script` cannot be used: script.wasm: this is no WebAssembly file: it begins with \
         `#!/bin/s`\n  help: build a component with `cargo build --target wasm32-wasip2` and name the \
         .wasm file\n"
    );
    let text = refused(&scene, "empty.wasm", "").await;
    assert!(text.contains("it is empty"), "{text}");
    let text = refused(&scene, "binary.wasm", [0xff, 0x00, 0x1b, b'[']).await;
    assert!(text.contains(r"`\xff\x00\x1b[`"), "no control characters: {text:?}");
}

#[tokio::test]
async fn a_core_module() {
    let scene = Scene::memory();
    let text = refused(&scene, "core.wasm", b"\0asm\x01\0\0\0").await;
    assert_eq!(
        text,
        "component `core` cannot be used: core.wasm: this is a core WebAssembly module, not a \
         component\n  help: build for the target wasm32-wasip2, or make it a component with \
         `wasm-tools component new`\n"
    );
}

#[tokio::test]
async fn a_component_that_is_damaged() {
    let scene = Scene::memory();
    let whole = fs::read(crate::support::guests().join("receiver.wasm")).unwrap();
    for length in [9, 100, whole.len() / 2] {
        let text = refused(&scene, "half.wasm", &whole[..length]).await;
        assert!(text.starts_with("component `half` cannot be used: half.wasm: "), "{text}");
    }
    let mut damaged = whole.clone();
    damaged[whole.len() / 2..].fill(0xff);
    let text = refused(&scene, "damaged.wasm", damaged).await;
    assert!(text.contains("damaged.wasm: it is not valid: "), "{text}");
    let text = refused(&scene, "text.wat", "(component (core module").await;
    assert!(text.contains("text.wat: it is not valid: "), "{text}");
}

#[tokio::test]
async fn a_component_with_nothing_to_run() {
    let scene = Scene::memory();
    let text = refused(&scene, "none.wat", "(component)").await;
    assert!(
        text.contains("wasi:pubsub-data/on-message") && text.contains("wasi:cli/run"),
        "{text}"
    );
    assert!(text.contains("#[pubsub::on_message]"), "what to do: {text}");
}

#[tokio::test]
async fn a_component_for_another_host() {
    let scene = Scene::memory();
    for (import, help) in [
        ("wasi:keyvalue/store@0.2.0-draft", "wasi:pubsub-data"),
        ("wasi:pubsub-data/basic@0.9.0", "0.2.0-draft"),
        ("wasi:pubsub-data/basics@0.2.0-draft", "`basic`"),
        ("wasi:pubsub/basic@0.2.0-draft", "wasi:pubsub-data"),
    ] {
        let import_it = format!("(component (import \"{import}\" (instance))");
        let text =
            refused(&scene, "foreign.wat", COMMAND.replacen("(component", &import_it, 1)).await;
        assert!(text.starts_with("component `foreign` imports"), "{text}");
        assert!(text.contains(&format!("`{import}`")), "{text}");
        let (_, given) = text.split_once("help: ").unwrap_or_else(|| panic!("no help: {text}"));
        assert!(given.contains(help), "{help} in {given}");
    }
}

#[tokio::test]
async fn a_component_that_uses_an_interface_in_another_way() {
    let scene = Scene::memory();
    let text = refused(&scene, "misfit.wat", MISFIT).await;
    assert!(text.contains("does not fit the host's interfaces"), "{text}");
    assert!(
        text.contains("wasi:pubsub-data/basic@0.2.0-draft") && text.contains("publish"),
        "{text}"
    );

    let export = COMMAND.replace("wasi:cli/run@0.2.0", "wasi:pubsub-data/on-message@0.2.0-draft");
    let text = refused(&scene, "handler.wat", export).await;
    assert!(text.contains("on-message"), "{text}");
}

#[tokio::test]
async fn two_components_of_one_name() {
    let scene = Scene::memory();
    fs::create_dir(scene.folder().join("other")).unwrap();
    for name in ["tiny.wat", "other/tiny.wat"] {
        fs::write(scene.folder().join(name), COMMAND).unwrap();
    }
    let text = failed(&scene, &["run", "tiny.wat", "other/tiny.wat"], 2).await;
    assert!(text.contains(" have the name `tiny`"), "{text}");
    assert!(text.contains("\n  help: give each a `name` of its own"), "{text}");
    let outcome = call(&scene, &["run", "tiny.wat", "./tiny.wat"]).await;
    assert_eq!(outcome.code, Some(0), "one file twice is one component: {}", outcome.err);
}
