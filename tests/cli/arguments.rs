//! Help, completions, and arguments that are none.

use crate::support::Scene;
use crate::{call, call_with_input, done, failed};
use std::io::Write;
use std::process::{Command, Stdio};

const COMMANDS: [&str; 8] =
    ["run", "check", "publish", "subscribe", "inspect", "test", "dead", "completions"];
const DEAD_COMMANDS: [&str; 4] = ["list", "show", "redrive", "drop"];

#[tokio::test]
async fn the_help_of_every_command_has_examples() {
    let scene = Scene::memory();
    let whole = done(&scene, &["--help"]).await;
    for command in COMMANDS {
        assert!(whole.contains(&format!("\n  {command} ")), "{command} in {whole}");
        let help = done(&scene, &[command, "--help"]).await;
        let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{help}"));
        assert!(examples.starts_with(&format!("  wasi-pubsub {command}")), "{help}");
        assert!(help.contains("Usage: wasi-pubsub "), "{help}");
        for line in help.lines() {
            assert!(line.len() <= 110, "too long for a terminal: {line}");
        }
    }
    assert!(whole.contains("\nExamples:\n") && whole.contains("Exit codes: "), "{whole}");
}

/// Each example of a help text names options that are there.
#[tokio::test]
async fn the_options_of_the_examples_exist() {
    let scene = Scene::memory();
    for command in COMMANDS {
        let help = done(&scene, &[command, "--help"]).await;
        let (options, examples) = help.split_once("\nExamples:\n").unwrap();
        // Those of the commands below it are its own.
        let mut options = options.to_owned();
        for below in DEAD_COMMANDS.iter().filter(|_| command == "dead") {
            let help = done(&scene, &[command, below, "--help"]).await;
            options.push_str(help.split_once("\nExamples:\n").unwrap().0);
        }
        let lines = examples.lines().filter(|line| line.contains("wasi-pubsub "));
        for word in lines.flat_map(str::split_whitespace).filter(|word| word.starts_with('-')) {
            assert!(options.contains(word), "{word} of the examples is no option: {help}");
        }
    }
}

#[tokio::test]
async fn the_version_is_said() {
    let text = done(&Scene::memory(), &["--version"]).await;
    assert_eq!(text, format!("wasi-pubsub {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn short_names_stand_for_publish_and_subscribe() {
    let scene = Scene::memory();
    for (short, long) in [("pub", "publish"), ("sub", "subscribe")] {
        let texts = [done(&scene, &[short, "--help"]).await, done(&scene, &[long, "--help"]).await];
        assert_eq!(texts[0], texts[1]);
    }
}

#[tokio::test]
async fn completions_are_scripts_that_a_shell_understands() {
    let scene = Scene::memory();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = done(&scene, &["completions", shell]).await;
        for command in COMMANDS {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let script = done(&scene, &["completions", "bash"]).await;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success(), "bash cannot parse {script}");
}

#[tokio::test]
async fn wrong_arguments_end_with_exit_code_2_and_a_hint() {
    let scene = Scene::memory();
    for (arguments, parts) in [
        (&["rum"][..], &["unrecognized subcommand 'rum'", "'run'"][..]),
        (&["run", "--confg", "x"], &["unexpected argument '--confg'", "'--config'"]),
        (&["publish"], &["<TOPIC>", "Usage: wasi-pubsub publish"]),
        (&["publish", "a"], &["--message <DATA>", "--lines"]),
        (&["publish", "a", "-m", "x", "-l"], &["cannot be used with", "--lines"]),
        (&["publish", "a", "-m", "x", "-q", "3"], &["'3' for '--qos", "expected 0, 1 or 2"]),
        (&["publish", "a", "-m", "x", "-a", "name"], &["expected NAME=VALUE"]),
        (&["publish", "a", "-m", "x", "--timeout", "soon"], &["expected a number of seconds"]),
        (&["subscribe", "a", "-n", "few"], &["'few' for '--count"]),
        (&["completions", "cmd"], &["'cmd'", "bash"]),
    ] {
        let text = failed(&scene, arguments, 2).await;
        assert!(text.starts_with("error: "), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: {part} in {text}");
        }
    }
}

#[tokio::test]
async fn without_arguments_it_shows_how_to_begin() {
    let outcome = call(&Scene::memory(), &[]).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""));
    assert!(outcome.err.contains("Usage: wasi-pubsub ") && outcome.err.contains("publish"));
}

#[tokio::test]
async fn nothing_to_run_is_said() {
    let scene = Scene::memory();
    for command in ["run", "check"] {
        let text = failed(&scene, &[command], 2).await;
        assert_eq!(
            text,
            "error: there is nothing to run: no component is named, and there is no capabilities.toml \
             here\n  help: wasi-pubsub run COMPONENT..., or --config FILE\n"
        );
    }
    let text = failed(&scene, &["run", "-c", "plant.toml"], 2).await;
    assert_eq!(text, "error: plant.toml: No such file or directory (os error 2)\n");
}

#[tokio::test]
async fn a_wrong_log_filter_is_said() {
    let text = failed(&Scene::memory(), &["--log", "loud=very", "check"], 2).await;
    assert!(text.contains("loud=very") && text.starts_with("error: "), "{text}");
}

#[tokio::test]
async fn colours_are_for_terminals() {
    let scene = Scene::memory();
    scene.write("specversion = 2\n");
    let plain = failed(&scene, &["check"], 2).await;
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let outcome = call_with_input(&scene, &["check", "--color", "always"], "").await;
    assert!(outcome.err.contains("\x1b["), "{:?}", outcome.err);
}
