//! What the gateway itself hands to browsers: the loader, the service worker, and the page of a first visit.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384};

use crate::access::Rules;
use crate::config::{Config, Mode};
use crate::delivery::{self, Delivery};
use crate::html::Loader;
use crate::runtime;

/// Where the protocol is, and below it the gateway's own files.
pub(crate) const PREFIX: &str = "/.well-known/bulla";

/// Where the manifest is.
pub(crate) const MANIFEST: &str = "/.well-known/bulla/gateway/manifest";

const LOADER: &str = include_str!("../../dist/loader.js");
const WORKER: &str = include_str!("../../dist/sw.js");
const WASM: &[u8] = include_bytes!("../../dist/bulla_web_bg.wasm");
const FIRST_VISIT: &str = include_str!("../../page/first-visit.html");
const NOT_SENT: &str = include_str!("../../page/not-sent.html");
const STYLE: &str = include_str!("../../page/style.css");

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// They never change under the same path.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The gateway's own files.
pub(crate) struct Files {
    by_path: Vec<(String, File)>,
    first_visit: File,
    not_sent: File,
}

#[derive(Clone)]
struct File {
    content: Bytes,
    fields: Vec<(HeaderName, HeaderValue)>,
    status: StatusCode,
}

impl Files {
    /// For pages of this origin, whose service worker pins this identity. Beside them, what goes into pages.
    pub(crate) fn new(
        origin: &str,
        identity: &str,
        rules: &Rules,
        delivery: Option<&Delivery>,
        config: &Config,
    ) -> (Self, Loader) {
        let watch = config.runtime.watch;
        let version = version();
        let folder = format!("{PREFIX}/gateway");
        let (script, worker) = (
            format!("{folder}/{version}/loader.js"),
            format!("{folder}/sw.js"),
        );
        let wasm = format!("{folder}/{version}/bulla_web_bg.wasm");
        let integrity = format!("sha384-{}", STANDARD.encode(Sha384::digest(LOADER)));
        let loader = Loader {
            script,
            integrity,
            worker,
            origin: origin.to_owned(),
            watch,
        };
        let own = [&loader.script, &loader.worker, wasm.as_str(), MANIFEST];
        let mut settings = settings(&wasm, identity, rules, &own);
        settings["watch"] = watch.into();
        if let Some(delivery) = delivery {
            settings["manifest"] = MANIFEST.into();
            settings["learns"] = delivery.learns().is_some().into();
            settings["monitored"] = (config.mode == Mode::Monitor).into();
        }
        let mut sw = File::new(SCRIPT, worker_script(&settings), "no-cache");
        sw.set("service-worker-allowed", "/");
        // It is the worker's own policy, too.
        sw.set(
            CONTENT_SECURITY_POLICY.as_str(),
            "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'",
        );
        let mut by_path = vec![
            (loader.script.clone(), File::new(SCRIPT, LOADER, FOR_EVER)),
            (loader.worker.clone(), sw),
            (wasm, File::new("application/wasm", WASM, FOR_EVER)),
        ];
        if let Some(delivery) = delivery {
            let file = File::new(delivery::TYPE, delivery.text.clone(), "no-cache");
            by_path.push((MANIFEST.to_owned(), file));
        }
        let files = Self {
            by_path,
            first_visit: File::page(FIRST_VISIT, StatusCode::UNAUTHORIZED, &loader),
            not_sent: File::page(NOT_SENT, StatusCode::FORBIDDEN, &loader),
        };
        (files, loader)
    }

    /// The file that a request asks for, if it asks for one.
    pub(crate) fn answer(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let path = request.uri().path();
        let (_, file) = self.by_path.iter().find(|(known, _)| known == path)?;
        Some(match *request.method() {
            Method::GET | Method::HEAD if file.is_known_to(request.headers()) => file.unchanged(),
            Method::GET | Method::HEAD => file.response(),
            _ => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        })
    }

    /// The page that has the browser get a session, and go on to where it was going. The same for every path.
    pub(crate) fn first_visit(&self) -> Response<Body> {
        self.first_visit.response()
    }

    /// The page that says that a form was not sent: the worker did not see it, or another site has sent it.
    pub(crate) fn not_sent(&self) -> Response<Body> {
        self.not_sent.response()
    }
}

impl File {
    fn new(kind: &'static str, content: impl Into<Bytes>, caching: &'static str) -> Self {
        let content = content.into();
        let tag = format!("\"{}\"", name_of(&content));
        let mut file = Self {
            content,
            fields: Vec::new(),
            status: StatusCode::OK,
        };
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            file.fields.push((ETAG, tag));
        }
        file.set(CONTENT_TYPE.as_str(), kind);
        file.set(CACHE_CONTROL.as_str(), caching);
        file.set(X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff");
        file.set("cross-origin-resource-policy", "same-origin");
        file
    }

    fn page(template: &str, status: StatusCode, loader: &Loader) -> Self {
        let html = template
            .replace("{style}", STYLE)
            .replace("{script}", &loader.script)
            .replace("{integrity}", &loader.integrity)
            .replace("{worker}", &loader.worker);
        let style = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; script-src {origin}{script}; style-src 'sha256-{style}'; img-src data:; \
             worker-src {origin}{worker}; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; \
             require-trusted-types-for 'script'; trusted-types bulla-gateway",
            origin = loader.origin,
            script = loader.script,
            worker = loader.worker,
        );
        let mut file = Self::new(HTML, html, "no-store");
        file.status = status;
        file.set(REFERRER_POLICY.as_str(), "no-referrer");
        if status == StatusCode::UNAUTHORIZED {
            file.set(WWW_AUTHENTICATE.as_str(), "Bulla error=\"proof_missing\"");
        }
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            file.fields.push((CONTENT_SECURITY_POLICY, policy));
        }
        file
    }

    /// Whether the browser has it already (RFC 9110 section 13.1.2).
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let known = headers.get(IF_NONE_MATCH);
        let tag = self.fields.iter().find(|(name, _)| name == ETAG);
        tag.is_some_and(|(_, tag)| known == Some(tag))
    }

    fn unchanged(&self) -> Response<Body> {
        let mut response = self.response();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response
    }

    fn set(&mut self, name: &'static str, value: &'static str) {
        let field = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        self.fields.push(field);
    }

    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.content.clone()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.fields.iter().cloned());
        response
    }
}

/// Names all that browsers keep for ever.
fn version() -> String {
    name_of(&[&Sha256::digest(LOADER)[..], &Sha256::digest(WASM)].concat())
}

/// A name for this content and no other.
fn name_of(content: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(content)[..12])
}

/// What the service worker is set up for.
fn settings(wasm: &str, identity: &str, rules: &Rules, own: &[&str]) -> Value {
    let (mut paths, mut except) = rules.scope();
    // Reports have to come from a session, also where all else is public.
    paths.push(runtime::PATH);
    let protocol = ["session", "sealed"].map(|name| format!("{PREFIX}/{name}"));
    except.extend(protocol.iter().map(String::as_str));
    except.extend(own);
    json!({ "identity": identity, "paths": paths, "except": except, "wasm": wasm })
}

/// The script of the service worker, with its settings.
fn worker_script(settings: &Value) -> String {
    // JSON within a string: nothing of it has a backslash or a line break of its own.
    WORKER.replace("{settings}", &settings.to_string().replace('"', "\\\""))
}
