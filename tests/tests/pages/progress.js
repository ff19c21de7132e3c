// Uploads and downloads that go no further than what is told of them. A script of the page, as xhr.js: its own `fetch`
// is the platform's.

const say = (path, number) =>
  fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: `${number}` });

/** Sends so many bytes, by `session.fetch` or by `XMLHttpRequest`. The server reads on when it hears how many have gone. */
window.uploading = async (by, length, givesUp) => {
  const events = [];
  const told = [];
  const stop = {};
  const tell = ({ loaded, total, lengthComputable }) => {
    // WebKit tells of every few kilobytes.
    if (loaded === total || loaded >> 20 > (events.at(-1)?.[0] ?? -1) >> 20) told.push(say("/allow", loaded));
    events.push([loaded, total, lengthComputable]);
    if (givesUp && events.length === 1) stop.now();
  };
  const content = new Uint8Array(length);
  let outcome;
  if (by === "fetch") {
    const control = new AbortController();
    stop.now = () => control.abort("enough");
    outcome = await session
      .fetch("/api/upload", { method: "POST", body: content, signal: control.signal, onUploadProgress: tell })
      .then((reply) => reply.text(), (reason) => reason);
  } else {
    const { install } = await import("/npm/install.js");
    const uninstall = install(session, { paths: ["/api/"] });
    const xhr = new XMLHttpRequest();
    stop.now = () => xhr.abort();
    const ends = [];
    for (const type of ["abort", "error", "load"]) xhr.upload.addEventListener(type, () => ends.push(type));
    xhr.upload.onprogress = tell;
    xhr.open("POST", "/api/upload");
    await new Promise((resolve) => {
      xhr.onloadend = resolve;
      xhr.send(content);
    });
    uninstall();
    outcome = `${ends} ${xhr.responseText}`;
  }
  await Promise.all(told);
  return { events, outcome };
};

/** Reads so many mebibytes, which the server sends as it hears how many have come. */
window.downloading = async (by, mebibytes) => {
  const events = [];
  const told = [];
  const tell = ({ loaded, total, lengthComputable }) => {
    events.push([loaded, total, lengthComputable]);
    told.push(say("/twin/taken", loaded));
  };
  const path = `/api/bytes/${mebibytes}`;
  let length;
  if (by === "fetch") {
    const reply = await session.fetch(path, { onDownloadProgress: tell });
    length = (await reply.arrayBuffer()).byteLength;
  } else {
    const { install } = await import("/npm/install.js");
    const uninstall = install(session, { paths: ["/api/bytes/"] });
    const xhr = new XMLHttpRequest();
    xhr.onprogress = tell;
    xhr.open("GET", path);
    xhr.responseType = "arraybuffer";
    await new Promise((resolve) => {
      xhr.onloadend = resolve;
      xhr.send();
    });
    uninstall();
    length = xhr.response.byteLength;
  }
  await Promise.all(told);
  return { events, length };
};

/** What is heard of one request, and how many an XMLHttpRequest has carried. */
window.heard = async (path, init) => {
  const [up, down] = [[], []];
  const add = (list) => ({ loaded, total, lengthComputable }) => list.push([loaded, total, lengthComputable]);
  const platform = XMLHttpRequest;
  let made = 0;
  window.XMLHttpRequest = class extends platform {
    constructor() {
      super();
      made += 1;
    }
  };
  try {
    const reply = await session.fetch(path, { ...init, onUploadProgress: add(up), onDownloadProgress: add(down) });
    const text = await reply.text();
    return { up, down, made, text };
  } catch ({ code }) {
    return { up, down, made, code };
  } finally {
    window.XMLHttpRequest = platform;
  }
};

/** A callback that throws is the page's own affair. */
window.throwing = async () => {
  const errors = [];
  window.onerror = (message) => {
    errors.push(/mine/.test(message));
    return true;
  };
  const fail = () => { throw new Error("mine"); };
  const reply = await session.fetch("/api/mirror", { method: "POST", body: "a body", onUploadProgress: fail, onDownloadProgress: fail });
  const text = await reply.text();
  window.onerror = null;
  return [reply.status, text, errors];
};

/** What is told of a reply of six bytes with each of these fields. */
window.watching = async (given) => {
  const { watched } = await import("/npm/later/progress.js");
  const told = [];
  for (const headers of given) {
    const tell = ({ loaded, total, lengthComputable }) => told.push([loaded, total, lengthComputable]);
    await watched(new Response("a body", { headers }), tell).text();
  }
  return told;
};

/** A session that always tells how far it is, for the cases that hold `fetch` against the platform's. */
window.tell = () => {
  const { fetch } = session;
  const nothing = () => {};
  window.session = {
    async fetch(input, init = undefined) {
      if (arguments.length === 0) return fetch();
      const body = init?.body;
      return fetch(input, { ...init, body, onUploadProgress: nothing, onDownloadProgress: nothing });
    },
  };
};

/** In a service worker, which has no XMLHttpRequest. */
window.serving = async (script) => {
  const registration = await navigator.serviceWorker.register(script, { type: "module" });
  const worker = registration.installing ?? registration.waiting ?? registration.active;
  const { port1, port2 } = new MessageChannel();
  const told = new Promise((resolve) => {
    port1.onmessage = ({ data }) => resolve(data);
  });
  worker.postMessage("go", [port2]);
  return told.finally(() => registration.unregister());
};
