//! What stands behind a `Session` object: the device, the current session and how to come by one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bulla_protocol::error::{Code, Error, Problem};
use bulla_protocol::field::Fields;
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::limits::{MAX_OPENING_LEN, MAX_PROBLEM_LEN, VERSION};
use bulla_protocol::opening::{
    Open, Opening, SentOpening, SessionId, Ticket, UnverifiedOpened, session_path,
};
use bulla_protocol::retry::is_over;
use bulla_protocol::target::Origin;
use js_sys::{Function, Object, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{BroadcastChannel, Response};

use crate::crypto::{self, AgreementKey, DeviceKey};
use crate::error::Failure;
use crate::lock::Lock;
use crate::platform::{self, fetch, global, object, read_at_most, settle};
use crate::session::Live;
use crate::storage::{Change, Kind, Storage};

/// How the application wants it.
pub(crate) struct Settings {
    pub(crate) origin: Origin,
    pub(crate) prefix: String,
    pub(crate) pin: Option<Thumbprint>,
    pub(crate) seal: bool,
}

/// One device's standing with one server.
pub(crate) struct Client {
    pub(crate) settings: Settings,
    pub(crate) device: DeviceKey,
    pub(crate) storage: Storage,
    pin: Cell<Option<Thumbprint>>,
    live: RefCell<Option<Rc<Live>>>,
    closed: Cell<bool>,
    /// Another tab has put a newer session into the store.
    outdated: Rc<Cell<bool>>,
    news: Option<News>,
}

impl Client {
    /// Loads or makes the device key, and takes a session from the store or opens one.
    pub(crate) async fn start(settings: Settings) -> Result<Self, Failure> {
        let origin = settings.origin.as_str();
        let (storage, device, stored_pin) = {
            let _lock = Lock::acquire(&lock_name(origin)).await;
            let (storage, device) = load_device(origin).await?;
            let pin = storage.get(Kind::Identity, origin).await;
            let pin = pin.ok().and_then(|pin| pin.as_string()?.parse().ok());
            (storage, device, pin)
        };
        let outdated = Rc::new(Cell::new(false));
        let client = Self {
            pin: Cell::new(settings.pin.or(stored_pin)),
            news: (storage == Storage::IndexedDb)
                .then(|| News::listen(origin, outdated.clone()))
                .flatten(),
            settings,
            device,
            storage,
            live: RefCell::default(),
            closed: Cell::new(false),
            outdated,
        };
        client.session().await?;
        Ok(client)
    }

    /// The session as it stands, if there is one.
    pub(crate) fn current(&self) -> Option<Rc<Live>> {
        self.live.borrow().clone()
    }

    /// The pinned identity.
    pub(crate) fn identity(&self) -> Option<Thumbprint> {
        self.pin.get()
    }

    /// The session to be used now: the current one, a newer one from the store, or one opened anew.
    pub(crate) async fn session(&self) -> Result<Rc<Live>, Failure> {
        if self.closed.get() {
            return Err(Code::SessionClosed.because("the session is closed").into());
        }
        if let Some(live) = self.current()
            && !self.outdated.get()
            && !live.seems_over()
        {
            return Ok(live);
        }
        self.other_than(None).await
    }

    /// A session in the place of one that the server refuses: a newer one from the store, or one
    /// opened anew.
    pub(crate) async fn other_than(&self, refused: Option<SessionId>) -> Result<Rc<Live>, Failure> {
        let _lock = Lock::acquire(&lock_name(self.origin())).await;
        if self.closed.get() {
            return Err(Code::SessionClosed.because("the session is closed").into());
        }
        self.read_pin().await;
        if let Some(live) = self.current()
            && refused.is_some_and(|refused| refused != live.id)
        {
            return Ok(live);
        }
        let found = match self.stored().await {
            Some(live) => Some(self.adopt(live)),
            None => self.current(),
        };
        let Some(live) = found.filter(|live| Some(live.id) != refused) else {
            return self.open(None).await;
        };
        self.outdated.set(false);
        if !live.seems_over() {
            return Ok(live);
        }
        let ticket = live.ticket.borrow().clone();
        match self.open(Some(ticket)).await {
            Err(failure) if failure.code().is_some_and(is_over) => self.open(None).await,
            opened => opened,
        }
    }

    /// Opens a session with a carry-over ticket, which is good for one opening.
    pub(crate) async fn carry_over(&self, ticket: Ticket) -> Result<(), Failure> {
        let _lock = Lock::acquire(&lock_name(self.origin())).await;
        let opened = self.open(Some(ticket)).await;
        if opened.is_err() {
            // The server has ended the old session already.
            self.live.replace(None);
        }
        opened.map(drop)
    }

    /// Writes what the server has handed out for this session, unless another session is stored.
    pub(crate) async fn save(&self, live: &Live) {
        let id = live.id;
        let saved = self.storage.change(Kind::Session, self.origin(), |stored| {
            if Live::is_stored(id, stored) {
                Change::Put(live.to_stored())
            } else {
                Change::Keep
            }
        });
        // The next page will have to ask the server once more; nothing else is lost.
        let _ = saved.await;
    }

    /// Lets go of a session that the server has ended.
    pub(crate) async fn drop_session(&self, id: SessionId) {
        self.live.borrow_mut().take_if(|live| live.id == id);
        let removed = self.storage.change(Kind::Session, self.origin(), |stored| {
            if Live::is_stored(id, stored) {
                Change::Delete
            } else {
                Change::Keep
            }
        });
        // If it stays, the server refuses it.
        let _ = removed.await;
    }

    /// From now on nothing is sent.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        if let Some(news) = &self.news {
            news.close();
        }
    }

    /// Removes the device key, so that the next opening is another device's.
    pub(crate) async fn forget_device(&self) -> Result<(), Failure> {
        let deleted = self.storage.delete(Kind::Device, self.origin()).await;
        deleted.map_err(|_| {
            Code::Unsupported
                .because("the device key could not be deleted")
                .into()
        })
    }

    /// Takes the identity that another tab has pinned since this one started. The caller holds the
    /// lock.
    async fn read_pin(&self) {
        if self.pin.get().is_none() {
            let pin = self.storage.get(Kind::Identity, self.origin()).await;
            self.pin
                .set(pin.ok().and_then(|pin| pin.as_string()?.parse().ok()));
        }
    }

    fn origin(&self) -> &str {
        self.settings.origin.as_str()
    }

    /// The session in the store, if it is one between this device and this identity.
    async fn stored(&self) -> Option<Live> {
        let stored = self.storage.get(Kind::Session, self.origin()).await.ok()?;
        let live = Live::from_stored(&stored)?;
        let is_ours = live.device == self.device.public().thumbprint()
            && Some(live.identity) == self.pin.get();
        is_ours.then_some(live)
    }

    fn adopt(&self, live: Live) -> Rc<Live> {
        let live = Rc::new(live);
        self.live.replace(Some(live.clone()));
        live
    }

    /// Opens a session. The caller holds the lock.
    async fn open(&self, ticket: Option<Ticket>) -> Result<Rc<Live>, Failure> {
        let agreement = AgreementKey::generate().await?;
        let open = Open {
            version: VERSION,
            device: self.device.public(),
            agreement: agreement.public(),
            identity: self.pin.get(),
            random: platform::random()?,
            ticket,
        };
        let authority = self.settings.origin.authority();
        let created = platform::unix_seconds();
        let opening = Opening::new(open, authority, &self.settings.prefix, created)?;
        let signature = self.device.sign(opening.base().as_bytes()).await?;
        let unverified = self.exchange(&opening.signed(&signature)).await?;
        let verified = unverified
            .verify(async |key, base, signature| crypto::verify(key, base, signature).await)
            .await?;
        let keys = agreement
            .agree(&verified.opened.agreement, &verified.transcript)
            .await?;
        let device = self.device.public().thumbprint();
        let live = self.adopt(Live::new(verified, keys, device));
        self.outdated.set(false);
        self.store_opened(&live).await;
        Ok(live)
    }

    /// Sends an opening and reads the answer.
    async fn exchange(&self, sent: &SentOpening) -> Result<UnverifiedOpened, Failure> {
        let init = object([
            ("method", Opening::METHOD.into()),
            ("headers", headers(sent.fields()).into()),
            ("body", Uint8Array::from(sent.body()).into()),
            ("redirect", "error".into()),
            ("cache", "no-store".into()),
        ]);
        let url = format!("{}{}", self.origin(), session_path(&self.settings.prefix));
        let response: Response = settle(fetch(&url, &init))
            .await
            .map_err(|_| UNREACHABLE)?
            .unchecked_into();
        let status = response.status();
        let fields = platform::fields(&response.headers());
        let body = read_at_most(&response, MAX_OPENING_LEN.max(MAX_PROBLEM_LEN)).await;
        let body = body.ok_or(Code::ReplyInvalid.because("the answer is cut off or too long"))?;
        if let Some(refusal) = refusal(status, &fields, &body) {
            return Err(match refusal.code {
                // What the client expects is the pin.
                Code::IdentityMismatch => Code::IdentityChanged
                    .because("the server says that its identity is not the pinned one"),
                _ => refusal,
            }
            .into());
        }
        sent.read(status, &fields, &body).map_err(|error| {
            match error.code {
                Code::IdentityChanged => error,
                _ => Code::ReplyInvalid.because(error.detail),
            }
            .into()
        })
    }

    /// Stores a new session and tells the other tabs. What cannot be stored lives as long as this
    /// page.
    async fn store_opened(&self, live: &Live) {
        let pin = live.identity;
        if self.pin.replace(Some(pin)) != Some(pin) || self.settings.pin.is_some() {
            let pin = pin.to_string().into();
            let _ = self.storage.put(Kind::Identity, self.origin(), pin).await;
        }
        let stored = live.to_stored();
        let stored = self.storage.put(Kind::Session, self.origin(), stored).await;
        if let Some(news) = &self.news
            && stored.is_ok()
        {
            news.tell(self.origin());
        }
    }
}

pub(crate) const UNREACHABLE: Error = Code::Network.because("the server could not be reached");

/// The refusal that a reply is, if it is one of ours. Codes that only clients use are not.
pub(crate) fn refusal(status: u16, fields: &dyn Fields, body: &[u8]) -> Option<Error> {
    is_problem(status, fields)
        .then(|| Problem::parse(body))
        .flatten()
        .and_then(|code| {
            let is_servers = code.status() != 0;
            is_servers.then(|| code.because(code.title()))
        })
}

/// Whether a reply may be a refusal.
pub(crate) fn is_problem(status: u16, fields: &dyn Fields) -> bool {
    let media_type = fields
        .line("content-type")
        .ok()
        .flatten()
        .unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim_end();
    status >= 400 && media_type.eq_ignore_ascii_case(Problem::MEDIA_TYPE)
}

/// Fields as an object for `fetch`.
pub(crate) fn headers(fields: &[(String, String)]) -> Object {
    let headers = Object::new();
    for (name, value) in fields {
        platform::set(&headers, name, &value.as_str().into());
    }
    headers
}

async fn load_device(origin: &str) -> Result<(Storage, DeviceKey), Failure> {
    let storage = Storage::find().await;
    let Ok(stored) = storage.get(Kind::Device, origin).await else {
        return Ok((Storage::Memory, device_in_memory(origin).await?));
    };
    if let Some(device) = DeviceKey::from_stored(&stored) {
        return Ok((storage, device));
    }
    let device = DeviceKey::generate().await?;
    if storage
        .put(Kind::Device, origin, device.to_stored())
        .await
        .is_ok()
    {
        return Ok((storage, device));
    }
    // Some private modes open a database and refuse to keep keys in it.
    Ok((Storage::Memory, device_in_memory(origin).await?))
}

async fn device_in_memory(origin: &str) -> Result<DeviceKey, Failure> {
    let stored = Storage::Memory.get(Kind::Device, origin).await;
    if let Some(device) = stored.ok().as_ref().and_then(DeviceKey::from_stored) {
        return Ok(device);
    }
    let device = DeviceKey::generate().await?;
    let stored = device.to_stored();
    // Memory takes everything.
    let _ = Storage::Memory.put(Kind::Device, origin, stored).await;
    Ok(device)
}

fn lock_name(origin: &str) -> String {
    format!("bulla {origin}")
}

/// How tabs tell each other that there is a newer session in the store.
struct News {
    channel: BroadcastChannel,
    _listener: Closure<dyn FnMut(web_sys::MessageEvent)>,
}

impl News {
    /// `None` where there are no channels.
    fn listen(origin: &str, outdated: Rc<Cell<bool>>) -> Option<Self> {
        if !global("BroadcastChannel").is_function() {
            return None;
        }
        let channel = BroadcastChannel::new("bulla").ok()?;
        let origin = origin.to_owned();
        let listener = Closure::new(move |message: web_sys::MessageEvent| {
            if message.data().as_string().as_deref() == Some(&origin) {
                outdated.set(true);
            }
        });
        channel.set_onmessage(Some(listener.as_ref().unchecked_ref::<Function>()));
        Some(Self {
            channel,
            _listener: listener,
        })
    }

    fn tell(&self, origin: &str) {
        // A tab that does not hear it finds out by being refused.
        let _ = self.channel.post_message(&origin.into());
    }

    fn close(&self) {
        self.channel.close();
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.channel.set_onmessage(None);
        self.channel.close();
    }
}

/// Runs something to its end even if nobody waits for it any more.
pub(crate) async fn to_the_end(
    work: impl Future<Output = Result<(), Failure>> + 'static,
) -> Result<(), Failure> {
    let promise: Promise = wasm_bindgen_futures::future_to_promise(async {
        work.await?;
        Ok(JsValue::UNDEFINED)
    });
    JsFuture::from(promise)
        .await
        .map(drop)
        .map_err(Failure::Platform)
}
