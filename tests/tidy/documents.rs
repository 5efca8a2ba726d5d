//! Documents that keep up with the sources.

use crate::code::is_name;

/// The guests that no test runs, one line each. A test has the name of its guest,
/// or names it as a text or as a file; there it may have `_` for `-`, as cargo
/// names files.
pub(crate) fn guests_without_test(guests: &[String], tests: &str) -> Vec<String> {
    let is_run = |guest: &str| {
        [guest.to_owned(), guest.replace('-', "_")].iter().any(|name| {
            [format!("fn {name}("), format!("\"{name}\""), format!("{name}.wasm")].iter().any(
                |usage| {
                    let at = tests.match_indices(usage.as_str()).map(|(at, _)| at);
                    // `pulling.wasm` is not in `un-pulling.wasm`.
                    at.into_iter().any(|at| !tests[..at].ends_with(is_part))
                },
            )
        })
    };
    let missing = guests.iter().filter(|guest| !is_run(guest));
    missing.map(|guest| format!("the guest `{guest}` runs in no test")).collect()
}

fn is_part(c: char) -> bool {
    is_name(c) || c == '-'
}

/// The folders that a map does not name as `` `FOLDER/` ``, one line each.
pub(crate) fn missing_in_map(folders: &[String], map: &str) -> Vec<String> {
    let missing = folders.iter().filter(|folder| !map.contains(&format!("`{folder}/`")));
    missing.map(|folder| format!("ARCHITECTURE.md does not name `{folder}/`")).collect()
}

/// The contents of the fenced blocks of a document.
pub(crate) fn code_blocks(document: &str) -> Vec<String> {
    let parts = document.split("```").skip(1).step_by(2);
    // The first line has the language.
    parts.filter_map(|block| Some(block.split_once('\n')?.1.trim_end().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_guest_needs_a_test_of_its_own() {
        let guests = names(&["pulling", "pulling-async", "raw"]);
        let missing = |tests| guests_without_test(&guests, tests);
        assert_eq!(missing("fn raw() {} run(\"pulling\"); run(\"a/pulling_async.wasm\")"), [""; 0]);
        assert_eq!(
            missing("run(\"pulling-async\"); \"raw\""),
            ["the guest `pulling` runs in no test"]
        );
        assert_eq!(missing("pulling async, un-pulling.wasm, pulling-async.was, // raw").len(), 3);
    }

    #[test]
    fn a_map_names_folders_whole() {
        let folders = names(&["broker", "broker/delivery"]);
        assert_eq!(missing_in_map(&folders, "`broker/` and `broker/delivery/`"), [""; 0]);
        assert_eq!(
            missing_in_map(&folders, "`broker/delivery/`"),
            ["ARCHITECTURE.md does not name `broker/`"]
        );
    }

    #[test]
    fn blocks_are_what_fences_hold() {
        assert_eq!(code_blocks("a\n```sh\nb\nc\n```\nd\n```\ne\n```\n"), ["b\nc", "e"]);
    }
}
