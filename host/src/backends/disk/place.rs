//! Which file a path means.

use std::path::{Component, Path, PathBuf};

/// The path of a file without links and detours, so that one file has one name. What
/// is not there yet has no links.
pub(super) fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for known in absolute.ancestors() {
        let Ok(real) = known.canonicalize() else { continue };
        let missing = absolute.strip_prefix(known).unwrap_or(Path::new(""));
        let mut file = real;
        for part in missing.components() {
            match part {
                Component::ParentDir => drop(file.pop()),
                part => file.push(part),
            }
        }
        return file;
    }
    absolute
}

/// As it is written, where that is its one name but for the working folder; otherwise
/// the [real](real) one.
pub(super) fn plain(path: PathBuf) -> PathBuf {
    let real = real(&path);
    if std::path::absolute(&path).is_ok_and(|absolute| absolute == real) { path } else { real }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn one_file_has_one_name() {
        let folder = tempfile::TempDir::new().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let file = folder.join("events.db");
        symlink(&folder, folder.join("link")).unwrap();
        symlink(&file, folder.join("other.db")).unwrap();
        let spelled = ["events.db", "./events.db", "link/events.db", "link/link/events.db"];
        for path in spelled.map(|path| folder.join(path)) {
            assert_eq!(real(&path), file, "{}", path.display());
        }
        // A link to what is not there has no other name yet.
        assert_eq!(real(&folder.join("other.db")), folder.join("other.db"));
        std::fs::write(&file, "").unwrap();
        assert_eq!(real(&folder.join("other.db")), file);
        assert_eq!(real(&folder.join("none/../link/a/b.db")), folder.join("link/a/b.db"));
        assert_eq!(real(&folder.join("link/a/b.db")), folder.join("a/b.db"));
    }

    #[test]
    fn what_is_plain_stays_as_it_is_written() {
        assert_eq!(plain("data/events.db".into()), Path::new("data/events.db"));
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(plain("data/../events.db".into()), here.join("events.db"));
    }
}
