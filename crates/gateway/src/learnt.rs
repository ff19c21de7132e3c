//! Which cookies look like sessions and are not bound yet.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use cookie::Cookie;
use http::HeaderMap;
use http::header::SET_COOKIE;

/// As many names are remembered: an application that makes up names must not fill the memory.
const MOST: usize = 100;

/// Names of cookies that the application hides from script and that the configuration does not bind, in their order.
#[derive(Debug, Default)]
pub(crate) struct Learnt(Mutex<BTreeSet<String>>);

impl Learnt {
    /// Looks at what a reply sets. Each name is told once.
    pub(crate) fn look(&self, fields: &HeaderMap, bound: &[String]) {
        for line in fields.get_all(SET_COOKIE) {
            let cookie = line.to_str().ok().and_then(|line| Cookie::parse(line).ok());
            let Some(cookie) = cookie.filter(|cookie| cookie.http_only() == Some(true)) else {
                continue;
            };
            let name = cookie.name();
            if !bound.iter().any(|known| known == name) && self.is_new(name) {
                tracing::warn!(
                    target: "bulla_gateway::cookies",
                    name,
                    "the application keeps a cookie from script that bound_cookies does not name: if it is a session, whoever copies it has it"
                );
            }
        }
    }

    /// All of them.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().cloned().collect()
    }

    fn is_new(&self, name: &str) -> bool {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.len() < MOST && !names.contains(name) && names.insert(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(lines: &[&'static str]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| (SET_COOKIE, HeaderValue::from_static(line)));
        lines.collect()
    }

    #[test]
    fn what_script_cannot_read_is_learnt_unless_it_is_bound() {
        let learnt = Learnt::default();
        let lines = [
            "sid=1; HttpOnly",
            "sid=2; HttpOnly; Path=/",
            "bound=1; HttpOnly",
            "theme=dark",
            "=",
            "auth=1; httponly",
        ];
        learnt.look(&fields(&lines), &["bound".to_owned()]);
        assert_eq!(learnt.names(), ["auth", "sid"]);
    }

    #[test]
    fn an_application_that_makes_up_names_fills_nothing() {
        let learnt = Learnt::default();
        for number in 0..MOST * 2 {
            learnt.is_new(&number.to_string());
        }
        assert_eq!(learnt.names().len(), MOST);
    }
}
