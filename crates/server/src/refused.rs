//! Refusals as responses.

use bulla_protocol::error::{Error, Problem};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Extensions, HeaderValue, Response, StatusCode};

use crate::body::{self, Body};
use crate::codes::has_a_time;
use crate::policy::Monitored;

/// A refusal that a handler can return: `Result<_, Refused>` takes every [`Error`] by `?`.
///
/// As a response it is Problem Details (RFC 9457), with a `WWW-Authenticate` challenge or a `Retry-After`
/// where one is due. The [`Error`] stands in the response's extensions too; by that the verifier finds it on the way out,
/// and reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub Error);

impl Refused {
    /// Refuses a request with these extensions, unless its path is only [monitored](crate::Builder::monitor): there it is
    /// reported as one that would have been refused, and passes.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn unless_monitored(error: Error, of: &Extensions) -> Result<(), Self> {
        let monitored: &Monitored = of.get().ok_or(Self(error))?;
        monitored.pass(error);
        Ok(())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Refused> for Response<Body> {
    fn from(Refused(error): Refused) -> Self {
        let mut response = Response::new(body::full(Problem::from(error).to_json()));
        *response.status_mut() =
            StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(error);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if error.code.status() == 401
            && let Ok(challenge) = format!("Bulla error=\"{}\"", error.code).try_into()
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if has_a_time(error.code) {
            headers.insert(RETRY_AFTER, error.retry_after.max(1).into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use bulla_protocol::error::Code;

    use super::*;

    #[test]
    fn it_says_what_to_do_about_it() {
        for code in Code::ALL.iter().filter(|code| code.status() != 0) {
            let response = Response::from(Refused(code.because("")));
            assert_eq!(response.status().as_u16(), code.status());
            let has = |name| response.headers().contains_key(name);
            assert_eq!(has(WWW_AUTHENTICATE), code.status() == 401, "{code}");
            assert_eq!(
                has(RETRY_AFTER),
                [429, 503].contains(&code.status()),
                "{code}"
            );
        }
    }
}
