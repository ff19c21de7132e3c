// `XMLHttpRequest` through a session (XMLHttpRequest standard).

import { lengthOf } from "./later/progress.js";
import { joined } from "./platform.js";

const UNSENT = 0;
const OPENED = 1;
const HEADERS_RECEIVED = 2;
const LOADING = 3;
const DONE = 4;

/**
 * A class that does what `Below` does, and does it through the session where a URL is covered. Each object is one of
 * `Below` all the same: that one checks what is said before it is sent, and calls the listeners.
 */
export function through(session, covered, isItsOwn, Below) {
  class XMLHttpRequest extends Below {
    static name = "XMLHttpRequest";
    /** @type {Call | undefined} What goes through the session, from one `open` to the next. */
    #call;
    #mime;
    /** Whoever has looked there hears of the upload. Nobody else does: with it the reply comes as a whole. */
    #isWatched = false;

    open(method, url, ...rest) {
      const target = covered(url);
      if (target && rest.length > 0 && !rest[0]) {
        throw new DOMException("what is synchronous cannot be signed", "InvalidAccessError");
      }
      const before = this.#call;
      this.#call = target && new Call(this, method, target, this.#mime);
      try {
        super.open(...arguments);
      } catch (error) {
        this.#call = before;
        throw error;
      }
      // By `Below` it has been open all the time.
      const wasOpened = before?.state === OPENED;
      before?.stop();
      if (before && !wasOpened) this.dispatchEvent(new Event("readystatechange"));
    }

    setRequestHeader(name, value) {
      this.#call?.checkOpened();
      super.setRequestHeader(...arguments);
      this.#call?.fields.append(name, value);
    }

    send(body = null) {
      this.#call?.checkOpened();
      if (this.#call && !isItsOwn(this.#call.fields)) return this.#call.send(session, body, this.#isWatched && super.upload);
      this.#call = undefined;
      super.send(body);
    }

    abort() {
      if (this.#call) this.#call.abort();
      else super.abort();
    }

    overrideMimeType(mime) {
      this.#call?.checkNotLoading();
      super.overrideMimeType(...arguments);
      this.#mime = String(mime);
      if (this.#call) this.#call.mime = this.#mime;
    }

    getResponseHeader(name) {
      if (!this.#call) return super.getResponseHeader(name);
      return new Map(this.#call.headers).get(`${name}`.toLowerCase()) ?? null;
    }

    getAllResponseHeaders() {
      if (!this.#call) return super.getAllResponseHeaders();
      return Array.from(this.#call.headers, ([name, value]) => `${name}: ${value}\r\n`).join("");
    }

    get readyState() {
      return this.#call ? this.#call.state : super.readyState;
    }

    get status() {
      return this.#call ? (this.#call.response?.status ?? 0) : super.status;
    }

    get statusText() {
      return this.#call ? (this.#call.response?.statusText ?? "") : super.statusText;
    }

    get responseURL() {
      return this.#call ? (this.#call.response?.url ?? "") : super.responseURL;
    }

    get upload() {
      this.#isWatched = true;
      return super.upload;
    }

    get timeout() {
      return super.timeout;
    }

    set timeout(milliseconds) {
      super.timeout = milliseconds;
      this.#call?.watchTime();
    }

    get withCredentials() {
      return super.withCredentials;
    }

    set withCredentials(value) {
      this.#call?.checkNotSent();
      super.withCredentials = value;
    }

    get responseType() {
      return super.responseType;
    }

    set responseType(type) {
      this.#call?.checkNotLoading();
      super.responseType = type;
    }

    get response() {
      if (!this.#call) return super.response;
      return this.#call.isText ? this.#call.text : this.#call.value(super.responseType);
    }

    get responseText() {
      if (!this.#call) return super.responseText;
      check(this.#call.isText);
      return this.#call.text;
    }

    get responseXML() {
      if (!this.#call) return super.responseXML;
      check(super.responseType === "" || super.responseType === "document");
      return this.#call.value("document");
    }
  }
  // The platform's can be listed.
  const { constructor, ...members } = Object.getOwnPropertyDescriptors(XMLHttpRequest.prototype);
  for (const name in members) Object.defineProperty(XMLHttpRequest.prototype, name, { enumerable: true });
  return XMLHttpRequest;
}

/** One request, from `open` on, as its object shows it. */
class Call {
  state = OPENED;
  fields = new Headers();
  /** @type {Response | undefined} */
  response;
  text = "";
  /** What `overrideMimeType` has said. */
  mime;
  #xhr;
  #method;
  #url;
  #control = new AbortController();
  #isSending = false;
  #began = 0;
  #timer;
  /** Who hears of the upload, and how long it is. */
  #upload;
  #total = 0;
  #isUploaded = false;
  #loaded = 0;
  #decoder;
  #pieces = [];
  #value;

  constructor(xhr, method, url, mime) {
    this.#xhr = xhr;
    this.#method = String(method);
    this.#url = url;
    this.mime = mime;
  }

  checkOpened() {
    check(this.state === OPENED && !this.#isSending);
  }

  checkNotSent() {
    check(this.state <= OPENED && !this.#isSending);
  }

  checkNotLoading() {
    check(this.state < LOADING);
  }

  get headers() {
    return this.response?.headers ?? new Headers();
  }

  /** Whether the response is text, for all that the application has said. */
  get isText() {
    return ["", "text"].includes(this.#xhr.responseType);
  }

  /** The response as something else than text, once it is whole. */
  value(type) {
    if (this.state !== DONE || !this.response) return null;
    return (this.#value ??= this.#made(type));
  }

  send(session, body, upload) {
    const content = /^(get|head)$/i.test(this.#method) ? null : contentOf(body, this.fields);
    if (content !== null && upload) {
      this.#upload = upload;
      // How long a form is will be told.
      this.#total = content instanceof FormData ? 0 : new Blob([content]).size;
    }
    this.#isSending = true;
    this.#began = performance.now();
    this.#tell("loadstart");
    this.#tellUpload("loadstart", 0, this.#total);
    // Unless a listener has given it up.
    if (!this.#isSending) return;
    this.watchTime();
    this.#run(session, content);
  }

  abort() {
    if (this.#isSending) this.#fail("abort");
    if (this.state === DONE) this.stop();
  }

  /** Nobody hears of it any more. */
  stop() {
    this.#end();
    this.#forget();
    this.state = UNSENT;
  }

  /** The time counts from the beginning, whenever it is set. */
  watchTime() {
    clearTimeout(this.#timer);
    const { timeout } = this.#xhr;
    if (!timeout || !this.#isSending) return;
    this.#timer = setTimeout(() => this.#fail("timeout"), this.#began + timeout - performance.now());
  }

  async #run(session, content) {
    try {
      const response = await session.fetch(this.#url.href, {
        method: this.#method,
        headers: this.fields,
        body: content,
        credentials: this.#xhr.withCredentials ? "include" : "same-origin",
        signal: this.#control.signal,
        onUploadProgress: this.#upload && (({ loaded, total }) => this.#uploaded(loaded, total)),
      });
      // Where nobody says how far it is, it has come this far.
      this.#uploaded(this.#total, this.#total);
      if (!this.#isSending) return;
      this.response = response;
      this.#enter(HEADERS_RECEIVED);
      const reader = response.body?.getReader();
      for (let piece; reader && !(piece = await reader.read()).done; ) this.#take(piece.value);
      this.#finish();
    } catch (error) {
      if (!this.#isSending) return;
      const { code } = /** @type {any} */ (error) ?? {};
      console.warn(`bulla: a request for ${this.#url.pathname} has failed: ${code ?? error}`);
      this.#fail("error");
    }
  }

  #uploaded(loaded, total) {
    if (!this.#isSending || this.#isUploaded) return;
    this.#total = total;
    this.#isUploaded = loaded === total;
    for (const type of this.#isUploaded ? ["progress", "load", "loadend"] : ["progress"]) {
      this.#tellUpload(type, loaded, total);
    }
  }

  #take(piece) {
    if (!this.#isSending || piece.length === 0) return;
    this.#loaded += piece.length;
    const { responseType } = this.#xhr;
    if (["arraybuffer", "blob"].includes(responseType)) this.#pieces.push(piece);
    else {
      this.#decoder ??= decoderOf(responseType === "json" ? "utf-8" : this.#charset);
      this.text += this.#decoder.decode(piece, { stream: true });
    }
    this.#enter(LOADING);
    this.#tell("progress", this.#loaded, this.#length);
  }

  #finish() {
    if (!this.#isSending) return;
    this.text += this.#decoder?.decode() ?? "";
    this.#end();
    const length = this.#length;
    this.#enter(DONE);
    this.#tell("load", this.#loaded, length);
    this.#tell("loadend", this.#loaded, length);
  }

  #fail(type) {
    this.#end();
    this.#forget();
    this.#enter(DONE);
    if (!this.#isUploaded) {
      this.#tellUpload(type);
      this.#tellUpload("loadend");
    }
    this.#tell(type);
    this.#tell("loadend");
  }

  #end() {
    clearTimeout(this.#timer);
    this.#isSending = false;
    this.#control.abort();
  }

  #forget() {
    this.response = undefined;
    this.text = "";
    this.#pieces = [];
  }

  #enter(state) {
    this.state = state;
    this.#dispatch(this.#xhr, new Event("readystatechange"));
  }

  #tell(type, loaded = 0, total = 0, target = this.#xhr) {
    this.#dispatch(target, new ProgressEvent(type, { lengthComputable: total > 0, loaded, total }));
  }

  #tellUpload(type, loaded, total) {
    if (this.#upload) this.#tell(type, loaded, total, this.#upload);
  }

  #dispatch(target, event) {
    // A listener may have aborted it, or opened another.
    if (this.#isSending || this.state === DONE) target.dispatchEvent(event);
  }

  get #length() {
    return this.response?.body ? lengthOf(this.headers) : 0;
  }

  get #sentKind() {
    return this.headers.get("content-type") ?? "";
  }

  get #kind() {
    if (this.mime === undefined) return essenceOf(this.#sentKind) ?? "text/xml";
    return essenceOf(this.mime) ?? "application/octet-stream";
  }

  get #charset() {
    return charsetOf(this.mime ?? "") ?? charsetOf(this.#sentKind);
  }

  #made(type) {
    switch (type) {
      case "arraybuffer":
        return joined([new Uint8Array(), ...this.#pieces]).buffer;
      case "blob":
        return new Blob(this.#pieces, { type: this.#kind });
      case "json":
        try {
          return JSON.parse(this.text);
        } catch {
          return null;
        }
      default:
        return documentOf(this.text, this.#kind, this.#xhr.responseType === "document");
    }
  }
}

function check(isAllowed) {
  if (!isAllowed) throw new DOMException("not in this state", "InvalidStateError");
}

/** What `fetch` can send of it. */
function contentOf(body, fields) {
  let type = fields.get("content-type");
  if (body?.nodeType === 9) {
    body = new XMLSerializer().serializeToString(body);
    type ??= "application/xml;charset=UTF-8";
  }
  // Text is UTF-8, whatever the application says.
  const charset = /(;\s*charset\s*=\s*)(?!"?utf-8\b)("[^"]*"|[^;]*)/i;
  if (typeof body === "string" && type) fields.set("content-type", type.replace(charset, "$1UTF-8"));
  return body;
}

const essenceOf = (kind) => /^[^\s;/]+\/[^\s;]+/.exec(kind)?.[0].toLowerCase();
const charsetOf = (kind) => /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(kind)?.[1];

function decoderOf(charset) {
  try {
    return new TextDecoder(charset);
  } catch {
    return new TextDecoder();
  }
}

function documentOf(text, kind, takesHtml) {
  // Workers have none.
  if (!globalThis.DOMParser) return null;
  const isXml = /^(text|application)\/xml$|\+xml$/.test(kind);
  if (!isXml && !(takesHtml && kind === "text/html")) return null;
  // Of other kinds of XML the parser has not heard.
  const known = /** @type {DOMParserSupportedType} */ (kind.replace(/^(?!image\/svg|application\/xhtml).*\+/, "text/"));
  const found = new DOMParser().parseFromString(text, known);
  return isXml && found.querySelector("parsererror") ? null : found;
}
