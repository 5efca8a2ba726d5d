//! Users and their passwords, as a file of hashes.

use super::crowd::neighbourhood;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// How many passwords are checked at once: each check takes some milliseconds of a
/// core, and 19 MiB.
const CHECKS_MAX: usize = 2;
/// How many checks that went well are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Users, each with the hash of a password.
pub struct Users {
    hashes: HashMap<String, Arc<str>>,
    /// What is compared with where there is no such user, so that it takes as long.
    nobody: Arc<str>,
    checks: Arc<Semaphore>,
    lines: Lines,
    /// Makes what is remembered useless elsewhere.
    key: [u8; 16],
    remembered: Mutex<HashMap<[u8; 32], ()>>,
}

/// What is wrong with a line of a file of passwords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct UsersError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub text: &'static str,
}

impl Users {
    /// Reads lines of `user:hash`; empty ones and those with `#` first say nothing.
    ///
    /// # Errors
    /// A line is of another form, or names a user again.
    pub fn read(text: &str) -> Result<Self, UsersError> {
        let mut hashes = HashMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let error = |text| Err(UsersError { line, text });
            let Some((user, hash)) = text.split_once(':') else {
                return error("no `:` between the user and the hash of the password");
            };
            if user.is_empty() {
                return error("no user before the `:`");
            }
            if PasswordHash::new(hash).is_err() {
                return error("what is behind the `:` is no hash that `wasi-pubsub passwd` makes");
            }
            if hashes.insert(user.to_owned(), Arc::from(hash)).is_some() {
                return error("the user is there already");
            }
        }
        let nobody = hash(b"", [0; 16]).unwrap_or_default();
        Ok(Self {
            hashes,
            nobody: nobody.into(),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            lines: Lines::default(),
            key: std::array::from_fn(|_| fastrand::u8(..)),
            remembered: Mutex::default(),
        })
    }

    /// Whether it is the user's password. Of those that are asked for `from` one
    /// address, one at a time takes a turn: many from one place do not hold up others.
    pub async fn check(&self, user: &str, password: &[u8], from: Option<IpAddr>) -> bool {
        let known = self.hashes.get(user);
        let hash = known.unwrap_or(&self.nobody).clone();
        let mut digest = Sha256::new().chain_update(self.key).chain_update(hash.as_bytes());
        digest.update(password);
        let digest: [u8; 32] = digest.finalize().into();
        if known.is_some() && self.remembered.lock().contains_key(&digest) {
            return true;
        }
        let _turn = self.lines.turn(from.map(neighbourhood)).await;
        let Ok(permit) = self.checks.clone().acquire_owned().await else { return false };
        let password = password.to_vec();
        let checked = tokio::task::spawn_blocking(move || {
            // Also where nobody waits for the answer any more.
            let _permit = permit;
            let hash = PasswordHash::new(&hash);
            hash.is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        });
        let is_right = checked.await.unwrap_or(false) && known.is_some();
        if is_right {
            let mut remembered = self.remembered.lock();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(digest, ());
        }
        is_right
    }
}

/// Who waits for a check, by address.
#[derive(Default)]
struct Lines(Mutex<HashMap<Option<IpAddr>, Line>>);

type Line = Arc<tokio::sync::Mutex<()>>;

/// A place in the line of an address, until it is dropped.
struct InLine<'a> {
    lines: &'a Lines,
    from: Option<IpAddr>,
    line: Line,
}

/// The turn of an address.
struct Turn<'a> {
    _turn: OwnedMutexGuard<()>,
    _place: InLine<'a>,
}

impl Lines {
    async fn turn(&self, from: Option<IpAddr>) -> Turn<'_> {
        let line = self.0.lock().entry(from).or_default().clone();
        let place = InLine { lines: self, from, line };
        Turn { _turn: place.line.clone().lock_owned().await, _place: place }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        // Its own, and that of the map.
        if Arc::strong_count(&self.line) <= 2 {
            lines.remove(&self.from);
        }
    }
}

/// The hash of a password, for a file of [`Users`]. The salt is to be random.
///
/// # Errors
/// The password is longer than 4 GiB.
pub fn hash(password: &[u8], salt: [u8; 16]) -> Result<String, argon2::password_hash::Error> {
    let salt = SaltString::encode_b64(&salt)?;
    Ok(Argon2::default().hash_password(password, &salt)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_checked_against_its_hash() {
        let text = format!("# users\n\nann:{}\n", hash(b"secret", [7; 16]).unwrap());
        let users = Users::read(&text).unwrap();
        for _ in 0..2 {
            assert!(users.check("ann", b"secret", None).await);
            assert!(!users.check("ann", b"Secret", None).await);
            assert!(!users.check("bob", b"", None).await);
        }
        assert_eq!(users.remembered.lock().len(), 1);
    }

    #[tokio::test]
    async fn many_wrong_passwords_from_one_address_do_not_hold_up_another() {
        let text = format!("ann:{}\n", hash(b"secret", [7; 16]).unwrap());
        let users = Arc::new(Users::read(&text).unwrap());
        let from = |text: &str| Some(text.parse().unwrap());
        let flood: Vec<_> = (0..200)
            .map(|number| {
                let (users, from) = (users.clone(), from("10.0.0.1"));
                tokio::spawn(async move {
                    users.check("ann", format!("wrong {number}").as_bytes(), from).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(users.check("ann", b"secret", from("10.0.0.2")).await);
        let done = flood.iter().filter(|attempt| attempt.is_finished()).count();
        assert!(done < 10, "{done} came before");
        assert_eq!(users.lines.0.lock().len(), 1);
        flood.iter().for_each(tokio::task::JoinHandle::abort);
        for attempt in flood {
            assert!(!attempt.await.unwrap_or(false));
        }
        assert!(users.lines.0.lock().is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn a_line_that_is_wrong_is_named() {
        let hash = hash(b"x", [1; 16]).unwrap();
        let error = |text: &str| Users::read(text).err().map(|error| error.to_string());
        assert!(error("a\n").unwrap().starts_with("line 1: no `:`"));
        assert!(error("\na:b\n").unwrap().starts_with("line 2: what is behind"));
        assert!(error(&format!(":{hash}")).unwrap().contains("no user"));
        assert!(error(&format!("a:{hash}\na:{hash}")).unwrap().contains("there already"));
        assert_eq!(error(&format!("a:{hash}")), None);
    }
}
