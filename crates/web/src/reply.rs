//! A sealed reply, opened as it comes.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::limits::{BULK_RECORD_SIZE, Limits, MAX_RECORDS_IN_FLIGHT};
use bulla_protocol::message::{Control, Event, Reader};
use bulla_protocol::seal::{Header, Joiner, Record};
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use web_sys::{
    AbortSignal, ReadableStream, ReadableStreamDefaultController, ReadableStreamDefaultReader,
};

use crate::crypto::{ContentKey, SessionKeys};
use crate::error::Failure;
use crate::platform::{ignore, object, read, reason};

const TRUNCATED: Error = Code::ReplyTruncated.because("the reply ends before its final record");
const BROKEN: Error = Code::SealBroken.because("a record of the reply cannot be opened");
const INVALID: Error = Code::ReplyInvalid.because("the sealed reply is not valid");

/// The status and the fields of a reply.
pub(crate) struct ReplyHead {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

/// The content of a sealed reply, opened record by record.
pub(crate) struct Unsealer {
    source: ReadableStreamDefaultReader,
    signal: AbortSignal,
    key: ContentKey,
    joiner: Joiner,
    message: Reader,
    /// Cipher texts, in order.
    waiting: VecDeque<Record>,
    /// Plain texts that WebCrypto is working at, in order.
    in_flight: VecDeque<Promise>,
    events: VecDeque<Event>,
    /// The source is at its end.
    drained: bool,
}

impl Unsealer {
    /// Reads up to the end of the inner head.
    pub(crate) async fn start(
        source: ReadableStreamDefaultReader,
        signal: AbortSignal,
        keys: &SessionKeys,
    ) -> Result<(ReplyHead, Self), Failure> {
        let mut bytes = Vec::new();
        let (header, rest) = loop {
            let Some(chunk) = pull(&source, &signal).await? else {
                return Err(TRUNCATED.into());
            };
            bytes.extend_from_slice(&chunk);
            if let Some((header, rest)) = Header::parse(&bytes)? {
                break (header, rest.to_vec());
            }
        };
        if !header.keyid.is_empty() {
            return Err(INVALID.into());
        }
        let mut unsealer = Self {
            source,
            signal,
            key: keys.response(&header.salt).await?,
            joiner: Joiner::new(header.record_size),
            message: Reader::new(Limits::default()),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            events: VecDeque::new(),
            drained: false,
        };
        unsealer.waiting.extend(unsealer.joiner.push(&rest)?);
        match unsealer.next_event().await? {
            Some(Event::Head(head)) => {
                let Control::Response(status) = head.control else {
                    return Err(INVALID.into());
                };
                let fields = head.fields;
                Ok((ReplyHead { status, fields }, unsealer))
            }
            _ => Err(INVALID.into()),
        }
    }

    /// The next piece of content; `None` when the final record has been seen and nothing is missing.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(event) = self.next_event().await? else {
            return Ok(None);
        };
        let mut content = content_of(event)?;
        // Small records that came together go on together: each piece costs a turn of the stream.
        while content.len() < BULK_RECORD_SIZE as usize {
            match self.events.pop_front() {
                Some(event) => content.extend_from_slice(&content_of(event)?),
                None if self.open_next().await? => {}
                None => break,
            }
        }
        Ok(Some(content))
    }

    /// The whole content, if it is no longer than this; else what has been read, and more to come.
    pub(crate) async fn collect(&mut self, limit: usize) -> Result<(Vec<u8>, bool), Failure> {
        let mut content = Vec::new();
        while content.len() <= limit {
            let Some(more) = self.next().await? else {
                return Ok((content, true));
            };
            content.extend_from_slice(&more);
        }
        Ok((content, false))
    }

    /// Hands what `collect` has read back.
    pub(crate) fn unread(&mut self, content: Vec<u8>) {
        if !content.is_empty() {
            self.events.push_front(Event::Content(content));
        }
    }

    /// Stops the reply.
    pub(crate) fn cancel(&self) {
        ignore(self.source.cancel());
    }

    /// A stream of the content. It ends in an error if the seal is broken or the final record is
    /// missing.
    pub(crate) fn into_stream(self) -> Result<ReadableStream, Failure> {
        let source = self.source.clone();
        let unsealer = Rc::new(RefCell::new(Some(self)));
        let pull = Closure::<dyn FnMut(ReadableStreamDefaultController) -> Promise>::new(
            move |controller: ReadableStreamDefaultController| {
                let unsealer = unsealer.clone();
                future_to_promise(async move {
                    // The platform asks for one piece at a time, and for none after an end.
                    let Some(mut taken) = unsealer.take() else {
                        return Ok(JsValue::UNDEFINED);
                    };
                    match taken.next().await {
                        Ok(Some(content)) => {
                            unsealer.replace(Some(taken));
                            let content = Uint8Array::from(content.as_slice());
                            controller.enqueue_with_chunk(&content)?;
                        }
                        Ok(None) => controller.close()?,
                        Err(failure) => {
                            taken.cancel();
                            controller.error_with_e(&failure.into());
                        }
                    }
                    Ok(JsValue::UNDEFINED)
                })
            },
        );
        let cancel = Closure::<dyn FnMut(JsValue) -> Promise>::new(move |reason: JsValue| {
            source.cancel_with_reason(&reason)
        });
        let underlying = object([
            ("pull", pull.into_js_value()),
            ("cancel", cancel.into_js_value()),
        ]);
        ReadableStream::new_with_underlying_source(&underlying).map_err(Failure::Platform)
    }

    async fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.open_next().await? {
                continue;
            }
            if !self.drained {
                self.take_more().await?;
            } else if self.joiner.is_complete() {
                self.message.finish().map_err(|_| INVALID)?;
                return Ok(None);
            } else {
                return Err(TRUNCATED.into());
            }
        }
    }

    /// Opens the next record of those that are here. Returns whether there was one.
    async fn open_next(&mut self) -> Result<bool, Failure> {
        while self.in_flight.len() < MAX_RECORDS_IN_FLIGHT
            && let Some(record) = self.waiting.pop_front()
        {
            self.in_flight
                .push_back(self.key.open(&record).map_err(|_| BROKEN)?);
        }
        let Some(opening) = self.in_flight.pop_front() else {
            return Ok(false);
        };
        self.take_opened(opening).await?;
        Ok(true)
    }

    async fn take_opened(&mut self, opening: Promise) -> Result<(), Failure> {
        let plain = JsFuture::from(opening).await.map_err(|_| BROKEN)?;
        let mut plain = Uint8Array::new(&plain).to_vec();
        let is_last = self.drained && self.in_flight.is_empty() && self.waiting.is_empty();
        self.joiner.opened(&mut plain).map_err(|error| {
            // A short record that is not the final one is what is left of a longer message.
            if is_last { TRUNCATED } else { error }
        })?;
        let events = self.message.push(plain).map_err(|_| INVALID)?;
        self.events.extend(events);
        Ok(())
    }

    async fn take_more(&mut self) -> Result<(), Failure> {
        if let Some(chunk) = pull(&self.source, &self.signal).await? {
            self.waiting.extend(self.joiner.push(&chunk)?);
            return Ok(());
        }
        self.drained = true;
        // Less than a tag is left: the last record was cut.
        let last = self.joiner.finish().map_err(|_| TRUNCATED)?;
        self.waiting.extend(last);
        Ok(())
    }
}

fn content_of(event: Event) -> Result<Vec<u8>, Error> {
    match event {
        Event::Content(content) => Ok(content),
        Event::Head(_) => Err(INVALID),
    }
}

async fn pull(
    source: &ReadableStreamDefaultReader,
    signal: &AbortSignal,
) -> Result<Option<Vec<u8>>, Failure> {
    read(source).await.map_err(|_| {
        if signal.aborted() {
            Failure::Platform(reason(signal))
        } else {
            TRUNCATED.into()
        }
    })
}
