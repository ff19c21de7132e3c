//! The one error type of this crate.

use core::fmt;

use bulla_keys::{KeyError, RandomError};
use bulla_protocol::error::Code;

/// Any error of what lies below.
pub type BoxError = Box<dyn core::error::Error + Send + Sync>;

/// Why something did not come about: a refusal by the server, or what this client found wrong.
#[derive(Debug)]
#[non_exhaustive]
pub struct Error {
    /// What programs go by. The same codes as the server's and the browser's.
    pub code: Code,
    /// What people read. Not stable, and never anything from a message.
    pub detail: &'static str,
    source: Option<BoxError>,
}

impl Error {
    /// Whether the code is one that a server sends, not one that only clients use. Whether it was
    /// really the server that sent it is not said: without a seal, anyone on the path can.
    pub fn is_refusal(&self) -> bool {
        self.code.status() != 0
    }

    pub(crate) fn network(source: impl Into<BoxError>) -> Self {
        Self {
            source: Some(source.into()),
            ..Code::Network
                .because("the server could not be reached")
                .into()
        }
    }

    /// For a sealed reply that does not open.
    pub(crate) fn unsealing(error: bulla_protocol::error::Error) -> Self {
        match error.code {
            Code::ReplyTruncated | Code::ReplyBroken => error.into(),
            _ => Code::ReplyInvalid.because(error.detail).into(),
        }
    }

    /// For a reply whose connection breaks.
    pub(crate) fn cut(source: BoxError, is_sealed: bool) -> Self {
        let code = if is_sealed {
            Code::ReplyTruncated
        } else {
            Code::Network
        };
        Self {
            source: Some(source),
            ..code.because("the reply was cut off").into()
        }
    }

    /// For the rules that the application's request breaks.
    pub(crate) fn request(error: bulla_protocol::error::Error) -> Self {
        Code::RequestInvalid.because(error.detail).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<bulla_protocol::error::Error> for Error {
    fn from(error: bulla_protocol::error::Error) -> Self {
        Self {
            code: error.code,
            detail: error.detail,
            source: None,
        }
    }
}

impl From<RandomError> for Error {
    fn from(error: RandomError) -> Self {
        Self {
            source: Some(error.into()),
            ..Code::Unsupported
                .because("no random bytes could be had")
                .into()
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self {
            source: Some(error.into()),
            ..Code::Unsupported
                .because("a key could not be made or used")
                .into()
        }
    }
}
