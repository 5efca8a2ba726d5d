//! The folders and files of the user who runs the host.

use super::ConfigArgs;
use super::failure::Failure;
use crate::config::ConnectionSettings;
use crate::runtime::CodeCache;
use std::path::{Path, PathBuf};

/// The name of the configuration file that is taken without being named.
const CONFIG_FILE: &str = "capabilities.toml";

/// How much of a text its readable name shows, in characters.
const READABLE_CHARS_MAX: usize = 40;

/// The configuration to use: the one that is named, or the one of this folder.
pub(super) fn config_file(args: &ConfigArgs) -> Option<PathBuf> {
    match &args.config {
        Some(path) => Some(path.clone()),
        None => Path::new(CONFIG_FILE).exists().then(|| CONFIG_FILE.into()),
    }
}

/// Where the configuration is, if there is one.
pub(super) fn config_path(args: &ConfigArgs) -> PathBuf {
    args.config.clone().unwrap_or_else(|| CONFIG_FILE.into())
}

/// Where compiled components are kept; `None` where that is not possible, which
/// is logged and only costs time.
pub(super) fn code_cache() -> Option<CodeCache> {
    let folder = directories::ProjectDirs::from("", "", "wasi-pubsub")?.cache_dir().join("code");
    CodeCache::open(&folder)
        .inspect_err(|error| tracing::warn!("compiled components are not kept: {error}"))
        .ok()
}

/// Where this user's programs keep what is to outlive them.
pub(super) fn state_folder() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "wasi-pubsub")?;
    Some(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned())
}

/// The beginning of the client ids that brokers see, made once for this user
/// and configuration file and kept in the state folder: a restart finds the
/// sessions that the broker has kept.
pub(super) fn client_id_base(config: Option<&Path>) -> Result<String, Failure> {
    let Some(folder) = state_folder() else { return Ok(random_client_id()) };
    let folder = folder.join("client-ids");
    let path = folder.join(config_key(config));
    if let Ok(id) = std::fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let id = random_client_id();
    let stored = std::fs::create_dir_all(&folder).and_then(|()| {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        writeln!(file, "{id}")?;
        file.persist(&path)?;
        Ok(())
    });
    if let Err(error) = stored {
        tracing::warn!(
            "the client id cannot be kept in {}: {error}; after a restart, sessions begin anew \
             unless `client_id` is configured",
            folder.display()
        );
    }
    Ok(id)
}

/// Where commands of this user reach a broker that `run` has put on the network.
pub(super) fn listener_socket(
    config: Option<&Path>,
    broker: &dyn ConnectionSettings,
) -> Option<PathBuf> {
    let key = short_hash(&format!("{}\n{}", config_key(config), broker.describe()));
    Some(state_folder()?.join("listeners").join(format!("{key}.sock")))
}

fn config_key(config: Option<&Path>) -> String {
    let path = config.map(|path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
    let text = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    short_hash(&text)
}

/// A name for a text: the same one at all times, on every machine.
pub(super) fn short_hash(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A name for a text that can still be read, and is a file's name and a client
/// id on every system.
pub(super) fn readable_name(text: &str, of: &str) -> String {
    let readable: String = text
        .chars()
        .take(READABLE_CHARS_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    format!("{readable}-{}", short_hash(of))
}

/// A client id that nobody else has.
pub(super) fn random_client_id() -> String {
    format!("wasi-pubsub-{:08x}", fastrand::u32(..))
}
