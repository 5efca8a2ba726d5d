//! Compiled components on disk.
//!
//! Loading compiled code is trusting it: the engine runs what the file says. So
//! the host loads only what it wrote itself. The folder belongs to the user who
//! runs it and nobody else may write there; a file is named after the hash of
//! the component and of the engine's settings and version; it is written whole
//! or not at all; and it ends with a hash of its contents, so that a damaged
//! one is compiled again.

use sha2::{Digest, Sha256};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::component::Component;
use wasmtime::{Engine, Result};

/// The most files that are kept; the ones that were not used longest go first.
const FILES_MAX: usize = 256;
const HASH_BYTES: usize = 32;

/// A folder with compiled components.
#[derive(Clone, Debug)]
pub struct CodeCache {
    folder: PathBuf,
}

impl CodeCache {
    /// Uses a folder, and makes it where it is not there.
    ///
    /// # Errors
    /// It cannot be made, or others may write to it: then nothing in it can be
    /// trusted.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        make_private(folder)?;
        check_private(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The component of these bytes: from the cache, or compiled now and kept.
    /// A cache that cannot be written to only costs time.
    ///
    /// # Errors
    /// The bytes are no valid component.
    pub fn load(&self, engine: &Engine, bytes: &[u8]) -> Result<Component> {
        let path = self.folder.join(key(engine, bytes));
        if let Some(component) = read(engine, &path) {
            return Ok(component);
        }
        let compiled = engine.precompile_component(bytes)?;
        if let Err(error) = self.store(&path, &compiled) {
            tracing::debug!(path = %path.display(), %error, "compiled component not kept");
        }
        deserialize(engine, &compiled)
    }

    fn store(&self, path: &Path, compiled: &[u8]) -> std::io::Result<()> {
        self.prune()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(compiled)?;
        file.write_all(&Sha256::digest(compiled))?;
        file.persist(path)?;
        Ok(())
    }

    fn prune(&self) -> std::io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
        for (_, path) in files.into_iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn key(engine: &Engine, bytes: &[u8]) -> String {
    let mut compatibility = HashInto(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    let mut hash = compatibility.0;
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(bytes);
    let mut name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    name.push_str(".cwasm");
    name
}

/// Feeds a standard `Hash` to SHA-256.
struct HashInto(Sha256);

impl Hasher for HashInto {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let file = fs::read(path).ok()?;
    let (compiled, hash) = file.split_at_checked(file.len().checked_sub(HASH_BYTES)?)?;
    if Sha256::digest(compiled).as_slice() != hash {
        tracing::warn!(path = %path.display(), "damaged file in the cache, compiled again");
        return None;
    }
    let component = deserialize(engine, compiled).ok()?;
    // For pruning: it was used now. Not worth failing over.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Some(component)
}

#[allow(unsafe_code, reason = "the only way to load compiled code; see the module's text")]
fn deserialize(engine: &Engine, compiled: &[u8]) -> Result<Component> {
    // SAFETY: the bytes come from `precompile_component` of this engine's
    // version and settings, either just now or from a file that only this user
    // could write and whose hash is right.
    unsafe { Component::deserialize(engine, compiled) }
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(unix)]
fn check_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let folder_data = fs::metadata(folder)?;
    // The owner of a file that this process makes is who runs it.
    let probe = tempfile::NamedTempFile::new_in(folder)?;
    let own = probe.as_file().metadata()?.uid();
    if folder_data.uid() != own || folder_data.mode() & 0o022 != 0 {
        return Err(std::io::Error::new(
            std::io::ErrorKind::PermissionDenied,
            format!("others may write to {}: make it yours alone (mode 0700)", folder.display()),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"(component)";

    fn file_of(cache: &CodeCache) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(&cache.folder).unwrap().collect();
        assert_eq!(files.len(), 1);
        files.remove(0).unwrap().path()
    }

    #[test]
    fn a_damaged_file_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&folder.path().join("code")).unwrap();
        let engine = Engine::default();
        cache.load(&engine, COMPONENT).unwrap();
        let path = file_of(&cache);
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], &whole[..10], b""] {
            fs::write(&path, damaged).unwrap();
            assert!(read(&engine, &path).is_none());
            cache.load(&engine, COMPONENT).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn another_engine_has_its_own_file() {
        let mut config = wasmtime::Config::new();
        config.consume_fuel(true);
        let other = Engine::new(&config).unwrap();
        assert_ne!(key(&Engine::default(), COMPONENT), key(&other, COMPONENT));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = CodeCache::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
