//! `wasi-pubsub passwd`

use super::failure::Failure;
use crate::listener::{Users, hash};
use clap::Args;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// The longest password, in bytes.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// Add a user to a password file of `listen`, or change or delete one
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub passwd users.txt ann               asks for the password
  pass show mqtt/ann | wasi-pubsub passwd users.txt ann
  wasi-pubsub passwd users.txt ann --delete

The file has a line `user:hash` for each user, with a hash of Argon2id. It is made
where there is none. A host that runs reads it again on SIGHUP.")]
pub(super) struct PasswdArgs {
    /// The file that `password_file` names
    file: PathBuf,
    /// The user
    user: String,
    /// Take the user out
    #[arg(long)]
    delete: bool,
}

pub(super) fn passwd(args: &PasswdArgs) -> Result<(), Failure> {
    if args.user.is_empty() || args.user.contains([':', '#', '\n', '\r']) || is_padded(&args.user) {
        return Err(Failure::input(
            "a user has no `:`, `#` or line break, and no space before or after it",
        ));
    }
    let text = read(&args.file)?;
    let own = format!("{}:", args.user);
    let is_own = |line: &str| line.trim_start().starts_with(&own);
    if args.delete && !text.lines().any(is_own) {
        let file = args.file.display();
        return Err(Failure::input(format!("{file} has no user `{}`", args.user)));
    }
    let mut lines: Vec<String> =
        text.lines().filter(|line| !is_own(line)).map(str::to_owned).collect();
    if !args.delete {
        let password = password()?;
        let hash = hash(&password, std::array::from_fn(|_| fastrand::u8(..)))
            .map_err(|error| Failure::run(error.to_string()))?;
        lines.push(format!("{own}{hash}"));
    }
    write(&args.file, &lines)
}

fn is_padded(user: &str) -> bool {
    user.trim() != user
}

/// What is in the file, which has to be one of passwords.
fn read(file: &Path) -> Result<String, Failure> {
    let failure =
        |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", file.display()));
    match std::fs::read_to_string(file) {
        Ok(text) => match Users::read(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(failure(&error)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(failure(&error)),
    }
}

/// Asks for it where somebody is there; otherwise it is the first line of the input.
fn password() -> Result<Vec<u8>, Failure> {
    let mut text = String::new();
    if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        let ask = |what: &str| {
            write!(std::io::stderr(), "{what}: ")?;
            terminal.read_secure_line()
        };
        text = ask("Password")?;
        if ask("Again")? != text {
            return Err(Failure::input("the two are not the same"));
        }
    } else {
        std::io::stdin().take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text)?;
    }
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() as u64 > PASSWORD_BYTES_MAX {
        let text = format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(Failure::input(text));
    }
    Ok(line.as_bytes().to_vec())
}

/// Puts the file in place as a whole. Only its owner may read a new one.
fn write(file: &Path, lines: &[String]) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    for line in lines {
        writeln!(new, "{line}")?;
    }
    if let Ok(before) = std::fs::metadata(file) {
        new.as_file().set_permissions(before.permissions())?;
    }
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| Failure::run(error.to_string()))?;
    Ok(())
}
