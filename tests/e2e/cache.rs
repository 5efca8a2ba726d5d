//! Compiled components on disk.

use crate::support::{Scene, guests, printed};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use testkit::Host;
use testkit::Stream::Err;

/// Runs a command to its end, with a cache of the scene's own.
async fn run(scene: &Scene) -> Host {
    let component = guests().join("publisher.wasm").display().to_string();
    let command = scene.command(&["run", &component]);
    let mut host = command.env("XDG_CACHE_HOME", scene.folder().join("cache")).start();
    host.expect_exit(0).await;
    assert_eq!(printed(&host), ["publisher | published 3 to orders/new"]);
    host
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn the_second_start_loads_what_the_first_has_compiled() {
    let scene = Scene::memory();
    run(&scene).await;
    let cache = scene.folder().join("cache");
    let files = files_below(&cache);
    let [file] = files.as_slice() else { panic!("one component, one file: {files:?}") };
    let folder = file.parent().unwrap().metadata().unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700, "only its user may write there");
    let first = file.metadata().unwrap().ino();

    run(&scene).await;
    assert_eq!(files_below(&cache), files);
    assert_eq!(file.metadata().unwrap().ino(), first, "it was not written again");
}

#[tokio::test]
async fn a_damaged_file_is_compiled_again() {
    let scene = Scene::memory();
    run(&scene).await;
    let file = files_below(&scene.folder().join("cache")).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&file, &damaged).unwrap();

    let host = run(&scene).await;
    assert!(host.lines().contain(Err, "damaged"), "{}", host.lines().dump());
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    let host = run(&scene).await;
    assert!(!host.lines().contain(Err, "damaged"), "{}", host.lines().dump());
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_not_used() {
    let scene = Scene::memory();
    run(&scene).await;
    let file = files_below(&scene.folder().join("cache")).remove(0);
    let folder = file.parent().unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();

    let host = run(&scene).await;
    assert!(host.lines().contain(Err, "others may write to"), "{}", host.lines().dump());
    assert_eq!(files_below(folder), Vec::<PathBuf>::new());
}
