// How far an upload or a download has come.

/** @typedef {{ tell: (progress: any) => void, loaded: number, total: number }} Upload Content, over all sendings. */

/**
 * The platform's `fetch`, by the one way that tells how far an upload has come. The reply comes as a whole.
 * @param {string} url
 * @param {RequestInit & { upload: Upload, signal: AbortSignal }} init
 */
export async function upload(url, init) {
  const { upload, signal, credentials, keepalive, referrerPolicy } = init;
  const isDone = upload.loaded === upload.total;
  if (isDone || !globalThis.XMLHttpRequest || credentials === "omit" || keepalive || referrerPolicy) {
    // It cannot do that. With the reply it is known that all has arrived.
    const response = await fetch(url, init);
    advance(upload, upload.total);
    return response;
  }
  // This script has been loaded meanwhile.
  signal.throwIfAborted();
  const xhr = new XMLHttpRequest();
  const abort = () => xhr.abort();
  signal.addEventListener("abort", abort);
  try {
    await sent(xhr, url, init);
  } finally {
    signal.removeEventListener("abort", abort);
  }
  return xhr.responseURL === url ? responseOf(xhr) : followed();
}

/**
 * @param {XMLHttpRequest} xhr
 * @param {string} url
 * @param {any} init
 */
function sent(xhr, url, { method, headers, body, credentials, upload }) {
  return new Promise((resolve, reject) => {
    xhr.open(method, url);
    for (const [name, value] of headers) xhr.setRequestHeader(name, value);
    xhr.responseType = "arraybuffer";
    xhr.withCredentials = credentials === "include";
    // What goes out is longer than the content: it is sealed and padded.
    xhr.upload.onprogress = ({ loaded, total }) => advance(upload, (loaded / total) * upload.total);
    xhr.upload.onload = () => advance(upload, upload.total);
    xhr.onload = resolve;
    xhr.onerror = xhr.onabort = () => reject(new TypeError("the request has failed"));
    xhr.send(body);
  });
}

function responseOf(xhr) {
  const { status, statusText, response } = xhr;
  const headers = Array.from(xhr.getAllResponseHeaders().matchAll(/^([^\s:]+): ?(.*)$/gm), ([, ...field]) => field);
  const hasNoBody = [204, 205, 304].includes(status);
  return new Response(hasNoBody ? null : response, { status, statusText, headers });
}

/** An `XMLHttpRequest` follows every redirect. What came of it is no answer to what was asked. */
const followed = () => Object.defineProperty(Response.error(), "type", { value: "opaqueredirect" });

/** A request that is sent again begins anew; what is told of it does not. */
function advance(upload, sent) {
  // WebKit counts on where a redirect is followed.
  const loaded = Math.min(Math.floor(sent), upload.total);
  if (loaded <= upload.loaded) return;
  upload.loaded = loaded;
  report(upload.tell, loaded, upload.total);
}

/** The same response, of which is told how much has been handed on. */
export function watched(response, tell) {
  if (!response.body) return response;
  const total = lengthOf(response.headers);
  let loaded = 0;
  const count = new TransformStream({
    transform(piece, controller) {
      loaded += piece.length;
      report(tell, loaded, total);
      controller.enqueue(piece);
    },
  });
  return new Response(response.body.pipeThrough(count), response);
}

/** How long the content is, if that is known, else 0: where it was encoded, the field tells another length. */
export function lengthOf(headers) {
  return headers.has("content-encoding") ? 0 : Number(headers.get("content-length")) || 0;
}

/** What the application throws is its own, as in a listener of an event, and does not stop the request. */
function report(tell, loaded, total) {
  queueMicrotask(() => tell({ loaded, total, lengthComputable: total > 0 }));
}
