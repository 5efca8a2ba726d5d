//! The project's own rules, checked on its files: layers, bans, the length of
//! files, a test for each guest, and documents that keep up.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure here is the failure of a test"
)]

mod code;
mod documents;
mod layers;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder, and all folders, sorted.
fn walk(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path.clone());
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    folders.sort();
    (files, folders)
}

/// The names of the folders in a folder, without those that a build makes.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut names: Vec<_> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.retain(|name| name != "target" && !name.starts_with(['.', '_']));
    names.sort();
    names
}

/// A path below a folder, with `/` on every system.
fn relative(path: &Path, folder: &Path) -> String {
    let parts = path.strip_prefix(folder).unwrap().iter();
    parts.map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("/")
}

/// The texts of all test programs below a folder.
fn rust_texts(folder: &Path) -> String {
    let (files, _) = walk(folder);
    files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|p| read(p))
        .collect()
}

fn demand(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn the_host_keeps_its_layers() {
    let folder = root().join("host/src");
    let (files, _) = walk(&folder);
    let sources: Vec<_> =
        files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    assert!(sources.len() > 50, "only {} sources in {}", sources.len(), folder.display());
    let check = |path: &&PathBuf| layers::check(&relative(path, &folder), &read(path));
    demand(&sources.iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn every_example_runs_in_a_test() {
    let examples = names_in(&root().join("guest-examples"));
    assert!(examples.len() >= 9, "{examples:?}");
    demand(&documents::guests_without_test(&examples, &rust_texts(&root().join("tests/e2e"))));
}

#[test]
fn every_guest_of_the_tests_is_used() {
    let folder = root().join("tests");
    let guests = names_in(&folder.join("guests"));
    let suites = names_in(&folder).into_iter().filter(|name| name != "guests" && name != "tidy");
    let mut texts: String = suites.map(|name| rust_texts(&folder.join(name))).collect();
    texts.push_str(&rust_texts(&root().join("host")));
    demand(&documents::guests_without_test(&guests, &texts));
}

#[test]
fn the_map_names_every_folder() {
    let folder = root().join("host/src");
    let (_, folders) = walk(&folder);
    let names: Vec<_> = folders.iter().map(|path| relative(path, &folder)).collect();
    assert!(names.iter().any(|name| name == "backends/mqtt"), "{names:?}");
    demand(&documents::missing_in_map(&names, &read(&root().join("ARCHITECTURE.md"))));
}

#[test]
fn the_readme_begins_with_its_commands() {
    let blocks = documents::code_blocks(&read(&root().join("README.md")));
    assert_eq!(blocks.first().map(String::as_str), Some("cargo xtask demo"));
    assert_eq!(blocks.get(1).map(String::as_str), Some("cargo xtask test"));
}
