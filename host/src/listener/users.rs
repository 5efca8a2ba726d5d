//! Users and their passwords, as a file of hashes.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

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
    checks: Semaphore,
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
            checks: Semaphore::new(CHECKS_MAX),
            key: std::array::from_fn(|_| fastrand::u8(..)),
            remembered: Mutex::default(),
        })
    }

    /// Whether it is the user's password.
    pub async fn check(&self, user: &str, password: &[u8]) -> bool {
        let known = self.hashes.get(user);
        let hash = known.unwrap_or(&self.nobody).clone();
        let mut digest = Sha256::new().chain_update(self.key).chain_update(hash.as_bytes());
        digest.update(password);
        let digest: [u8; 32] = digest.finalize().into();
        if known.is_some() && self.remembered.lock().contains_key(&digest) {
            return true;
        }
        let Ok(_permit) = self.checks.acquire().await else { return false };
        let password = password.to_vec();
        let checked = tokio::task::spawn_blocking(move || {
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
            assert!(users.check("ann", b"secret").await);
            assert!(!users.check("ann", b"Secret").await);
            assert!(!users.check("bob", b"").await);
        }
        assert_eq!(users.remembered.lock().len(), 1);
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
