//! What a page's policy has to let through beside what it lets through already: the loader, the service worker, and
//! the name under which the loader vouches for the worker's address.
//!
//! Content Security Policy Level 3 and Trusted Types. Policies are added to, never replaced: what is not added to stays
//! byte for byte, and nothing that a policy allows or refuses changes but for these three.

use std::ops::Range;

use crate::html::Loader;

/// The loader's name among Trusted Types policies.
const TRUSTED: &str = "bulla-gateway";

const NONE: &str = "'none'";

/// What every policy has to let through.
pub(crate) struct Needs {
    /// The public origin.
    origin: String,
    /// The address of the loader.
    script: String,
    /// The hash of the loader, as a source: `'sha384-…'`.
    hash: String,
    /// The address of the service worker's script.
    worker: String,
}

impl Needs {
    pub(crate) fn of(loader: &Loader) -> Self {
        let Loader {
            script,
            integrity,
            worker,
            origin,
            ..
        } = loader;
        Self {
            script: format!("{origin}{script}"),
            hash: format!("'{integrity}'"),
            worker: format!("{origin}{worker}"),
            origin: origin.clone(),
        }
    }
}

/// A change of a policy: what stands instead of a range of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) at: Range<usize>,
    pub(crate) text: String,
}

/// A field's value with what its policies lack, if they lack anything. It is a list: each policy counts by itself.
pub(crate) fn merged(field: &[u8], needs: &Needs) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut start = 0;
    for policy in field.split(|&byte| byte == b',') {
        let shifted = edits(policy, needs).into_iter().map(|edit| Edit {
            at: edit.at.start + start..edit.at.end + start,
            text: edit.text,
        });
        all.extend(shifted);
        start += policy.len() + 1;
    }
    (!all.is_empty()).then(|| applied(field, &all))
}

/// What `edits`, in their order, make of `bytes`.
pub(crate) fn applied(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes.len() + 256);
    let mut done = 0;
    for Edit { at, text } in edits {
        made.extend_from_slice(bytes.get(done..at.start).unwrap_or_default());
        made.extend_from_slice(text.as_bytes());
        done = at.end;
    }
    made.extend_from_slice(bytes.get(done..).unwrap_or_default());
    made
}

/// Whether one of a field's policies puts the page into a sandbox in which the loader cannot work: without scripts, or
/// without the origin whose service worker it is about.
pub(crate) fn is_sandboxed(field: &[u8]) -> bool {
    field.split(|&byte| byte == b',').any(|policy| {
        let all = directives(policy);
        let sandbox = effective(&all, &["sandbox"]);
        sandbox.is_some_and(|flags| !flags.has("allow-scripts") || !flags.has("allow-same-origin"))
    })
}

/// What a single policy lacks, in the order of its bytes.
pub(crate) fn edits(policy: &[u8], needs: &Needs) -> Vec<Edit> {
    let all = directives(policy);
    let mut edits = Vec::new();

    // A script element's request: CSP3, section 6.8.1 and the fallbacks of section 6.8.3.
    let scripts = effective(&all, &["script-src-elem", "script-src", "default-src"]);
    if let Some(scripts) = scripts
        && let Some(source) = script_source(scripts, needs)
    {
        edits.push(if scripts.is("default-src") {
            scripts.copied("script-src", source)
        } else {
            scripts.with(source)
        });
    }

    let names = ["worker-src", "child-src", "script-src", "default-src"];
    if let Some(workers) = effective(&all, &names)
        && let Some(source) = worker_source(workers, needs)
    {
        edits.push(if workers.is("worker-src") {
            workers.with(source)
        } else {
            workers.copied("worker-src", source)
        });
    }

    // It is about names also where this policy asks for no trusted types.
    if let Some(names) = effective(&all, &["trusted-types"])
        && !names.has("*")
        && !names.has_exactly(TRUSTED)
    {
        edits.push(names.with(TRUSTED));
    }

    edits.sort_by_key(|edit| edit.at.start);
    edits
}

/// What the list for script elements lacks for the loader, which has its integrity in its tag and no nonce.
fn script_source<'a>(list: &Directive<'_>, needs: &'a Needs) -> Option<&'a str> {
    let has_hash = list.has_exactly(&needs.hash);
    if list.has("'strict-dynamic'") {
        // Addresses and 'self' count for nothing.
        return (!has_hash).then_some(&needs.hash);
    }
    if has_hash || list.has_address(&needs.script, needs) {
        return None;
    }
    // A hash would switch 'unsafe-inline' off, unless something like it has done so.
    let is_strict = list.sources().any(is_nonce_or_hash);
    Some(if is_strict {
        &needs.hash
    } else {
        &needs.script
    })
}

/// What the list for workers lacks for the service worker. Requests for workers have neither nonce nor integrity.
fn worker_source<'a>(list: &Directive<'_>, needs: &'a Needs) -> Option<&'a str> {
    // A script that was let through has asked for it: CSP3, section 6.7.1.1. Engines do the same by `default-src`.
    let is_for_scripts = list.is("script-src") || list.is("default-src");
    let is_trusted = is_for_scripts && list.has("'strict-dynamic'");
    (!is_trusted && !list.has_address(&needs.worker, needs)).then_some(&needs.worker)
}

fn is_nonce_or_hash(source: &str) -> bool {
    ["'nonce-", "'sha256-", "'sha384-", "'sha512-"]
        .iter()
        .any(|kind| {
            let start = source.get(..kind.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
        })
}

/// A directive of a policy: a name, and what stands after it.
struct Directive<'p> {
    name: &'p str,
    /// Where the name ends in the policy.
    end: usize,
    /// The tokens of its value, and where they begin.
    tokens: Vec<(usize, &'p str)>,
}

impl Directive<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Its sources, without `'none'`, which is none.
    fn sources(&self) -> impl Iterator<Item = &str> {
        let tokens = self.tokens.iter().map(|&(_, token)| token);
        tokens.filter(|token| !token.eq_ignore_ascii_case(NONE))
    }

    /// Keywords are the same in capitals.
    fn has(&self, keyword: &str) -> bool {
        self.sources()
            .any(|token| token.eq_ignore_ascii_case(keyword))
    }

    fn has_exactly(&self, wanted: &str) -> bool {
        self.sources().any(|token| token == wanted)
    }

    /// Whether it is plain that an address of the public origin is in the list. Where it is not plain, adding it
    /// does no harm.
    fn has_address(&self, address: &str, needs: &Needs) -> bool {
        let scheme = needs.origin.split_inclusive(':').next().unwrap_or_default();
        ["'self'", "*", scheme, &needs.origin, address]
            .iter()
            .any(|source| self.has(source))
    }

    /// The directive with one source more. It comes first: a comma, which some take for the end of a policy, cannot
    /// be meant to stand behind it.
    fn with(&self, source: &str) -> Edit {
        match self.tokens.as_slice() {
            [(start, none)] if none.eq_ignore_ascii_case(NONE) => Edit {
                at: *start..start + none.len(),
                text: source.to_owned(),
            },
            _ => Edit {
                at: self.end..self.end,
                text: format!(" {source}"),
            },
        }
    }

    /// A directive of its own, before all others, with the same sources and one more.
    fn copied(&self, name: &str, source: &str) -> Edit {
        let mut text = format!("{name} {source}");
        for source in self.sources() {
            text.push(' ');
            text.push_str(source);
        }
        text.push_str("; ");
        Edit { at: 0..0, text }
    }
}

/// The directive that counts, by the first name that a policy has.
fn effective<'a, 'p>(all: &'a [Directive<'p>], names: &[&str]) -> Option<&'a Directive<'p>> {
    let of = |name: &&str| all.iter().find(|directive| directive.is(name));
    names.iter().find_map(of)
}

/// The directives of a policy: CSP3, section 2.2.1. Of several with one name the first counts, and none does that has
/// other than ASCII characters.
fn directives(policy: &[u8]) -> Vec<Directive<'_>> {
    let mut all: Vec<Directive<'_>> = Vec::new();
    let mut start = 0;
    for part in policy.split(|&byte| byte == b';') {
        let text = str::from_utf8(part).ok().filter(|text| text.is_ascii());
        let mut tokens = text.map(|text| tokens(text, start)).unwrap_or_default();
        start += part.len() + 1;
        if tokens.is_empty() {
            continue;
        }
        let (at, name) = tokens.remove(0);
        if !all.iter().any(|directive| directive.is(name)) {
            all.push(Directive {
                name,
                end: at + name.len(),
                tokens,
            });
        }
    }
    all
}

/// What white space parts, and where it begins, counted from `start`.
fn tokens(text: &str, mut start: usize) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for token in text.split(|c: char| c.is_ascii_whitespace()) {
        if !token.is_empty() {
            tokens.push((start, token));
        }
        start += token.len() + 1;
    }
    tokens
}

#[cfg(test)]
mod tests;
