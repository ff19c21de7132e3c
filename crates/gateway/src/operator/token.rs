//! The operator's token.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulla_server::{Random, SystemRandom};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What an operator shows to log in. It is not kept, but a hash by which it is known.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the operator's token cannot be read from {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// The file cannot be made.
    #[error("the operator's token cannot be written to {0}: {1}")]
    Write(PathBuf, #[source] io::Error),
    /// What is there is too easy to guess, or cannot be typed.
    #[error("the operator's token in {0} has to be 32 to 512 visible ASCII characters")]
    Form(PathBuf),
}

impl Token {
    /// Takes a token that was read or made elsewhere: 32 to 512 visible ASCII characters. `None` for anything else.
    pub fn new(text: &str) -> Option<Self> {
        let is_form =
            (32..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        is_form.then(|| Self(Sha256::digest(text).into()))
    }

    /// Reads the token from a file, but for white space around it.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| TokenError::Read(path.to_owned(), error))?;
        let text = Zeroizing::new(text);
        Self::new(text.trim()).ok_or_else(|| TokenError::Form(path.to_owned()))
    }

    /// The same; if there is no file, makes one for its owner only, with a token of 256 random bits.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        match Self::create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(TokenError::Write(path.to_owned(), error)),
            Ok(token) => Ok(token),
        }
    }

    /// Whether this is the token. How long that takes tells nothing of it.
    pub(super) fn is(&self, shown: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown.trim()).into();
        self.0.ct_eq(&shown).into()
    }

    fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom.fill(&mut *bytes).map_err(io::Error::other)?;
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(Self(Sha256::digest(&*text).into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_is_made_for_its_owner_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/operator.token");
        let made = Token::load_or_create(&path).unwrap();
        let permissions = fs::metadata(&path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 43);
        assert!(made.is(&text));
        let again = Token::load_or_create(&path).unwrap();
        assert!(again.is(&text));
        assert!(!again.is(&text.to_uppercase()));
        assert!(!again.is(""));
        assert!(!format!("{again:?}").contains(text.trim()));
    }

    #[test]
    fn what_is_easy_to_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(matches!(Token::load(&path), Err(TokenError::Read(..))));
        for text in ["", "hunter2", "a b c d e f g h i j k l m n o p q r s t"] {
            fs::write(&path, text).unwrap();
            let refused = Token::load_or_create(&path).unwrap_err();
            assert!(matches!(refused, TokenError::Form(_)), "{text}");
        }
        fs::write(&path, " abcdefghijklmnopqrstuvwxyz012345\n").unwrap();
        let token = Token::load(&path).unwrap();
        assert!(token.is("abcdefghijklmnopqrstuvwxyz012345"));
    }
}
