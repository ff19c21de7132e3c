//! A page as it passes.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use encoding_rs::WINDOWS_1252;
use http_body::Frame;
use lol_html::errors::RewritingError;
use lol_html::html_content::{BailOut, ContentType};
use lol_html::send::{Element, HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, HandlerResult, MemorySettings, OutputSink, element};

use crate::html::{Held, meta};
use crate::policy::Needs;
use crate::rewritten;

/// What is kept of a page at most, in bytes: a start tag that has not ended yet.
const MEMORY: usize = 1 << 20;

/// The elements that leave a page's head a head: HTML, section 13.2.6.4.4. What a `template` holds is not in the head,
/// nor does it end it.
const OF_THE_HEAD: [&str; 12] = [
    "html", "head", "base", "basefont", "bgsound", "link", "meta", "noframes", "noscript",
    "script", "style", "title",
];

/// What is put into a page.
pub(super) struct Added {
    /// The loader.
    pub(super) element: String,
    /// What its policies have to let through.
    pub(super) needs: Arc<Needs>,
    /// What its code is held to, if there is anything.
    pub(super) held: Option<Held>,
}

/// The body of a page, with the loader in it.
pub(super) struct Page {
    body: Body,
    state: State,
    /// What comes after the content.
    trailers: Option<Frame<Bytes>>,
}

enum State {
    /// Too few bytes to tell its encoding.
    Start(Vec<u8>, Box<Added>),
    /// In its head, or in all of it that is read.
    Head(Box<Head>),
    /// What passes as it is.
    Rest,
    /// Over.
    End,
}

impl Page {
    pub(super) fn new(body: Body, added: Added) -> Self {
        Self {
            body,
            state: State::Start(Vec::new(), Box::new(added)),
            trailers: None,
        }
    }

    fn write(&mut self, data: Bytes) -> io::Result<Bytes> {
        match std::mem::replace(&mut self.state, State::End) {
            State::Start(mut start, what) => {
                start.extend_from_slice(&data);
                if start.len() < 2 {
                    self.state = State::Start(start, what);
                    return Ok(Bytes::new());
                }
                if is_utf_16(&start) {
                    tracing::warn!(
                        "a page is in UTF-16, which nothing is put into: it has no loader"
                    );
                    self.state = State::Rest;
                    return Ok(start.into());
                }
                self.read(Box::new(Head::new(*what)), &start)
            }
            State::Head(head) => self.read(head, &data),
            rest @ (State::Rest | State::End) => {
                self.state = rest;
                Ok(data)
            }
        }
    }

    fn read(&mut self, mut head: Box<Head>, data: &[u8]) -> io::Result<Bytes> {
        let is_over = head.write(data)?;
        let made = head.made();
        self.state = if is_over {
            State::Rest
        } else {
            State::Head(head)
        };
        Ok(made)
    }

    fn end(&mut self) -> io::Result<Bytes> {
        match std::mem::replace(&mut self.state, State::End) {
            // A single byte, or none: the answer to HEAD, for one.
            State::Start(start, _) => Ok(start.into()),
            State::Head(head) => head.end(),
            State::Rest | State::End => Ok(Bytes::new()),
        }
    }
}

impl http_body::Body for Page {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let page = &mut *self;
        loop {
            if matches!(page.state, State::End) {
                return Poll::Ready(page.trailers.take().map(Ok));
            }
            let made = match ready!(Pin::new(&mut page.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => page.write(data),
                    Err(mut trailers) => {
                        if let Some(fields) = trailers.trailers_mut() {
                            rewritten::take_off(fields);
                        }
                        page.trailers = Some(trailers);
                        page.end()
                    }
                },
                Some(Err(error)) => {
                    page.state = State::End;
                    return Poll::Ready(Some(Err(error)));
                }
                None => page.end(),
            };
            match made {
                Ok(made) if made.is_empty() => {}
                Ok(made) => return Poll::Ready(Some(Ok(Frame::data(made)))),
                Err(error) => {
                    page.state = State::End;
                    return Poll::Ready(Some(Err(axum::Error::new(error))));
                }
            }
        }
    }
}

/// Whether a page begins as UTF-16 does: by its mark, or by a tag in it. Browsers go by that before all else.
fn is_utf_16(start: &[u8]) -> bool {
    let marks: [&[u8]; 4] = [b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<"];
    marks.iter().any(|mark| start.starts_with(mark))
}

/// A page while its head is read.
struct Head {
    rewriter: HtmlRewriter<'static, Sink>,
    element: Arc<str>,
    is_placed: Arc<AtomicBool>,
    made: Made,
}

/// What has been made of what was written.
type Made = Arc<Mutex<Vec<u8>>>;

struct Sink(Made);

impl OutputSink for Sink {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.extend_from_slice(chunk);
    }
}

impl Head {
    fn new(added: Added) -> Self {
        let element: Arc<str> = added.element.into();
        let is_placed = Arc::new(AtomicBool::new(false));
        let made = Made::default();
        let reader = Reader {
            element: element.clone(),
            is_placed: is_placed.clone(),
            needs: added.needs,
            held: added.held,
            has_templates: false,
            is_in_head: true,
        };
        let rewriter = HtmlRewriter::new(settings(reader), Sink(made.clone()));
        Self {
            rewriter,
            element,
            is_placed,
            made,
        }
    }

    /// Reads on, and tells whether the head is over. Then everything has been passed on.
    ///
    /// # Errors
    ///
    /// If it is not known where the loader belongs.
    fn write(&mut self, data: &[u8]) -> io::Result<bool> {
        match self.rewriter.write(data) {
            Ok(()) => Ok(false),
            Err(_) if self.is_placed.load(Ordering::Relaxed) => Ok(true),
            Err(error) => Err(lost(&error)),
        }
    }

    fn end(self) -> io::Result<Bytes> {
        let ended = self.rewriter.end();
        let mut made = taken(&self.made);
        if !self.is_placed.load(Ordering::Relaxed) {
            ended.map_err(|error| lost(&error))?;
            // No element at all: text, which is a page all the same.
            made.extend_from_slice(self.element.as_bytes());
        }
        Ok(made.into())
    }

    fn made(&self) -> Bytes {
        taken(&self.made).into()
    }
}

fn taken(made: &Made) -> Vec<u8> {
    std::mem::take(&mut *made.lock().unwrap_or_else(PoisonError::into_inner))
}

fn lost(error: &RewritingError) -> io::Error {
    tracing::error!(%error, "a page has no place for the loader, and was broken off");
    io::Error::other("the page has no place for the loader")
}

/// The head is over: whoever reads it may stop.
#[derive(Debug, thiserror::Error)]
#[error("the head is over")]
struct Over;

/// What is done at each start tag of a head.
struct Reader {
    element: Arc<str>,
    is_placed: Arc<AtomicBool>,
    needs: Arc<Needs>,
    held: Option<Held>,
    has_templates: bool,
    is_in_head: bool,
}

impl Reader {
    fn read(&mut self, found: &mut Element<'_, '_>) -> HandlerResult {
        let name = found.tag_name();
        if self.is_in_head {
            self.read_in_head(&name, found)?;
        }
        // What addresses lead to is then another matter.
        if name == "base" && found.has_attribute("href") {
            self.held = None;
        }
        if let Some(held) = &self.held {
            held.hold(found);
        }
        Ok(())
    }

    fn read_in_head(&mut self, name: &str, found: &mut Element<'_, '_>) -> HandlerResult {
        let is_of_head = OF_THE_HEAD.contains(&name);
        self.has_templates |= name == "template";
        self.is_in_head = is_of_head || self.has_templates;
        if !self.is_in_head && self.held.is_none() {
            // The loader comes first, if it is not there yet: see `settings`.
            return Err(Over.into());
        }
        if name != "html" && !self.is_placed.swap(true, Ordering::Relaxed) {
            if name == "head" {
                found.prepend(&self.element, ContentType::Html);
            } else {
                found.before(&self.element, ContentType::Html);
            }
        }
        if name == "meta" {
            meta::merge(found, &self.needs);
        }
        Ok(())
    }
}

fn settings(mut reader: Reader) -> Settings<'static, 'static> {
    let (element, is_placed) = (reader.element.clone(), reader.is_placed.clone());
    let memory = MemorySettings::new()
        .with_max_allowed_memory_usage(MEMORY)
        .with_graceful_bail_out_on_memory_limit_exceeded(true);
    // Every byte is a character of this one, and every character a byte.
    let encoding = AsciiCompatibleEncoding::new(WINDOWS_1252);
    Settings::new_send()
        .with_encoding(encoding.unwrap_or_else(AsciiCompatibleEncoding::utf_8))
        .with_memory_settings(memory)
        // Doubts come after a `select` or a `frameset`, when the loader stands.
        .with_strict(false)
        .with_graceful_bail_out_on_content_handler_error(true)
        .append_element_content_handler(element!("*", move |found| reader.read(found)))
        .append_bail_out_handler(move |error: &RewritingError, rest: &mut BailOut<'_>| {
            let is_over = matches!(error, RewritingError::ContentHandlerError(_));
            if is_over && !is_placed.swap(true, Ordering::Relaxed) {
                rest.append(&element, ContentType::Html);
            }
        })
}
