//! What is asked for at which paths.

use std::convert::Infallible;

use axum::body::Body;
use bulla_protocol::target::{Target, plain};
use bulla_server::Require;
use http::{Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::config::{Access, Config, PathRule};

/// What is asked for, by the beginnings of paths.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    default: Access,
    /// The longest beginnings first.
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    prefix: String,
    /// The same, as a lenient application may read it.
    plain: String,
    access: Access,
}

/// Why rules cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No path ever comes that begins so.
    #[error(
        "{0:?} is no beginning of a path: it starts with a slash, and has no query, no dot segments and no encoded slashes"
    )]
    Path(String),
    /// Service workers take what they are to leave out by its beginning.
    #[error(
        "{0:?} is protected and lies below {1:?}, which is public: let the default be public, or name what is public more narrowly"
    )]
    BelowPublic(String, String),
}

impl Rules {
    /// # Errors
    ///
    /// [`RuleError`].
    pub(crate) fn new(config: &Config) -> Result<Self, RuleError> {
        let rule = |PathRule { prefix, access }: &PathRule| Rule {
            prefix: prefix.clone(),
            plain: plain(prefix).into_owned(),
            access: *access,
        };
        let mut rules: Vec<_> = config.paths.iter().map(rule).collect();
        for Rule { prefix, .. } in &rules {
            if !is_beginning(prefix) {
                return Err(RuleError::Path(prefix.clone()));
            }
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        for Rule {
            prefix,
            plain,
            access,
        } in &rules
        {
            let above =
                |other: &&Rule| other.access == Access::Public && is_under(plain, &other.plain);
            if let Some(other) = rules.iter().find(above)
                && *access != Access::Public
            {
                return Err(RuleError::BelowPublic(prefix.clone(), other.prefix.clone()));
            }
        }
        Ok(Self {
            default: config.access,
            rules,
        })
    }

    /// What is asked for at a path. What asks for least is for the path as it came; what asks for more also sees
    /// through what a lenient application would take for the same path.
    pub(crate) fn at(&self, path: &str) -> Access {
        let plain = plain(path);
        let as_it_came = self.rules.iter().find(|rule| is_under(path, &rule.prefix));
        let as_it_is_read = self.rules.iter().find(|rule| is_under(&plain, &rule.plain));
        let access = |rule: Option<&Rule>| rule.map_or(self.default, |rule| rule.access);
        access(as_it_came).max(access(as_it_is_read))
    }

    /// The beginnings of the paths that the service worker takes, and of those below them that it leaves out.
    pub(crate) fn scope(&self) -> (Vec<&str>, Vec<&str>) {
        let of = |wanted: fn(Access) -> bool| {
            let rules = self.rules.iter().filter(move |rule| wanted(rule.access));
            rules.map(|rule| rule.prefix.as_str()).collect()
        };
        let public = of(|access| access == Access::Public);
        match self.default {
            Access::Public => (of(|access| access != Access::Public), public),
            _ => (vec!["/"], public),
        }
    }

    /// The beginnings of the paths that anybody may ask for.
    pub(crate) fn public(&self) -> Vec<&str> {
        match self.default {
            Access::Public => vec!["/"],
            _ => self.scope().1,
        }
    }
}

/// Has a request that the verifier let through answered, if it is what its path asks for.
pub(crate) async fn behind<F>(
    access: Access,
    request: Request<bulla_server::Body>,
    mut answer: impl FnMut(Request<bulla_server::Body>) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Some(require) = required(access) else {
        return answer(request).await;
    };
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let Ok(response) = require.layer(service).oneshot(request).await;
    response.map(Body::new)
}

/// What a path asks for of a session, if it asks for one.
fn required(access: Access) -> Option<Require> {
    match access {
        Access::Public => None,
        Access::Signed => Some(Require::session()),
        Access::Sealed => Some(Require::session().sealed()),
        Access::Concealed => Some(Require::session().concealed()),
    }
}

/// Whether paths can begin so.
pub(crate) fn is_beginning(prefix: &str) -> bool {
    let is_path = Target::parse(prefix).is_ok_and(|target| target.query.is_none());
    is_path && !prefix.contains(';') && !prefix.contains("//")
}

/// Whether a path is this one, or is below it: as the service worker has it.
pub(crate) fn is_under(path: &str, prefix: &str) -> bool {
    let below = prefix.strip_suffix('/').unwrap_or(prefix);
    let rest = path.strip_prefix(below);
    path == prefix || rest.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(default: Access, paths: &[(&str, Access)]) -> Result<Rules, RuleError> {
        let mut config = Config::for_upstream("http://127.0.0.1:8000".parse().unwrap());
        config.access = default;
        config.paths = paths
            .iter()
            .map(|&(prefix, access)| PathRule {
                prefix: prefix.to_owned(),
                access,
            })
            .collect();
        Rules::new(&config)
    }

    #[test]
    fn the_longest_beginning_counts_by_segments() {
        let rules = rules(
            Access::Sealed,
            &[
                ("/static/", Access::Public),
                ("/hook", Access::Public),
                ("/secret/", Access::Concealed),
                ("/secret/logo.svg", Access::Public),
            ],
        )
        .unwrap();
        for (path, access) in [
            ("/", Access::Sealed),
            ("/static/a.css", Access::Public),
            ("/static", Access::Sealed),
            ("/hook", Access::Public),
            ("/hook/1", Access::Public),
            ("/hooks", Access::Sealed),
            ("/secret/a", Access::Concealed),
            ("/secret/logo.svg", Access::Public),
            ("/secret/logo.svgz", Access::Concealed),
        ] {
            assert_eq!(rules.at(path), access, "{path}");
        }
        assert_eq!(rules.scope().0, ["/"]);
    }

    #[test]
    fn other_spellings_get_nobody_more() {
        let rules = rules(
            Access::Sealed,
            &[
                ("/static/", Access::Public),
                ("/secret/", Access::Concealed),
            ],
        )
        .unwrap();
        for (path, access) in [
            ("//static/a", Access::Sealed),
            ("/%73tatic/a", Access::Sealed),
            ("/static;x/a", Access::Sealed),
            ("//secret/a", Access::Concealed),
            ("/%73ecret/a", Access::Concealed),
            ("/secret;x/a", Access::Concealed),
            // An application that takes off parameters reads this as what is public.
            ("/static/;x/a", Access::Public),
        ] {
            assert_eq!(rules.at(path), access, "{path}");
        }
    }

    #[test]
    fn what_is_protected_is_not_below_what_is_public_unless_all_is() {
        let below = [("/a/", Access::Public), ("/a/b/", Access::Sealed)];
        let error = RuleError::BelowPublic("/a/b/".to_owned(), "/a/".to_owned());
        assert_eq!(rules(Access::Sealed, &below).unwrap_err(), error);
        let rules = rules(
            Access::Public,
            &[
                ("/account/", Access::Sealed),
                ("/account/logo", Access::Public),
            ],
        )
        .unwrap();
        assert_eq!(rules.at("/"), Access::Public);
        assert_eq!(rules.at("/account/x"), Access::Sealed);
        assert_eq!(rules.at("/account/logo"), Access::Public);
        assert_eq!(rules.scope(), (vec!["/account/"], vec!["/account/logo"]));
        assert_eq!(rules.public(), ["/"]);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a", "/a?b", "/a/../b", "/a%2fb", "/a;b", "//a", "/ü"] {
            let refused = rules(Access::Sealed, &[(path, Access::Public)]);
            assert_eq!(refused.unwrap_err(), RuleError::Path(path.to_owned()));
        }
    }
}
