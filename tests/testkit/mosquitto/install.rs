//! Where mosquitto's programs are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The path of mosquitto.
///
/// # Panics
/// When it is not installed; the message says how to install it.
#[must_use]
pub fn mosquitto_binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| find("mosquitto", "mosquitto"));
    &BINARY
}

fn find(program: &str, package: &str) -> PathBuf {
    // Debian keeps servers in a folder that an ordinary user's PATH lacks.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from));
    folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "this test needs `{program}`, which is neither on PATH nor in /usr/sbin. Install it: \
             `apt-get install {package}` on Debian and Ubuntu, `brew install {package}` on macOS"
        )
    })
}

/// Writes the file `passwords` that lets one user in.
pub(super) fn write_password_file(folder: &Path, user: &str, password: &str) {
    let file = folder.join("passwords");
    let status = Command::new(find("mosquitto_passwd", "mosquitto"))
        .args(["-c", "-b"])
        .arg(&file)
        .args([user, password])
        .stderr(Stdio::null())
        .status()
        .expect("mosquitto_passwd can be started");
    assert!(status.success(), "mosquitto_passwd failed: {status}");
}
