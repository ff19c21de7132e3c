// What `install` covers, and how it takes itself out again. A script of the page, as xhr.js.

window.installing = async () => {
  const { install } = await import("/npm/install.js");
  const platform = { fetch, XMLHttpRequest };
  const described = () => JSON.stringify(["fetch", "XMLHttpRequest"].map((name) => Object.getOwnPropertyDescriptor(window, name)));
  const untouched = () => fetch === platform.fetch && XMLHttpRequest === platform.XMLHttpRequest;
  /** A session that keeps account. */
  const counted = (name, calls) => ({
    origin: session.origin,
    fetch: (input, init) => {
      calls.push(name);
      return session.fetch(input, init);
    },
  });
  const byFetch = (url) => fetch(url).then(({ status }) => status, ({ name }) => name);
  const byXhr = (url) => new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.open("GET", url);
    xhr.onload = () => resolve(xhr.status);
    xhr.onerror = () => resolve("TypeError");
    xhr.send();
  });
  const ways = [byFetch, (url) => byFetch(new URL(url, location.href)), (url) => byFetch(new Request(url)), byXhr];
  const told = {};

  // What comes of each URL, and how often the session is asked: in each way the same.
  const calls = [];
  const before = described();
  const uninstall = install(counted("session", calls), { paths: ["/api/", "/twin/echo"], except: ["/api/none", "/api/status/"] });
  told.covered = {};
  for (const url of [
    "/api/form", "/api/form?a=/twin/#b", "/twin/../api/form", `//${location.host}/api/form`, `${location.origin}/api/form`,
    "/twin/echo", "/twin/echo/x", "/api/nonesuch", "/api/status",
    "/api", "/apix", "/API/form", "/%61pi/form", "/api/../twin/form", "/twin/echoes", "/twin/form?/api/", "/api/none", "/api/none/x", "/api/status/404",
    "/page", `http://127.0.0.1:${location.port}/api/form`, "data:,api", `blob:${location.origin}/api/form`,
  ]) {
    const outcomes = new Set();
    for (const way of ways) {
      calls.length = 0;
      outcomes.add(`${await way(url)} ${calls.length}`);
    }
    told.covered[url.replace(location.port, "PORT")] = [...outcomes].join();
  }
  told.shape = [fetch.name, fetch.length, (() => { try { new fetch("/"); } catch (error) { return error.name; } })(), described() === before];

  // What is synchronous.
  const synchronous = (url) => {
    try {
      const xhr = new XMLHttpRequest();
      xhr.open("GET", url, false);
      xhr.send();
      return xhr.status;
    } catch (error) {
      return `${error instanceof DOMException} ${error.name}`;
    }
  };
  told.synchronous = [synchronous("/api/form"), synchronous("/twin/form")];

  // One object, for one of the session's and one of the platform's in turn.
  const one = new XMLHttpRequest();
  told.turns = [];
  for (const url of ["/api/form", "/twin/form", "/api/status/404", "/twin/echo", "/api/form"]) {
    calls.length = 0;
    const states = [];
    one.open("GET", url);
    one.onreadystatechange = () => states.push(one.readyState);
    await new Promise((resolve) => {
      one.onloadend = resolve;
      one.send();
    });
    one.onreadystatechange = () => states.push(`again ${one.readyState}`);
    one.open("GET", url);
    told.turns.push(`${calls.length}: ${[...new Set(states)]}`);
  }

  // Out again.
  uninstall();
  told.out = [untouched(), described() === before];
  uninstall();
  told.twice = untouched();

  // With something else on top.
  const gone = install(counted("session", calls), { paths: ["/api/"] });
  const below = fetch;
  const theirs = { fetch: (...given) => below(...given), XMLHttpRequest: class extends XMLHttpRequest {} };
  Object.assign(window, theirs);
  calls.length = 0;
  told.onTop = [await byFetch("/api/form"), await byXhr("/api/form"), calls.length];
  gone();
  calls.length = 0;
  told.below = [fetch === theirs.fetch && XMLHttpRequest === theirs.XMLHttpRequest, await byFetch("/twin/form"), await byXhr("/twin/form"),
    await byFetch("/api/form"), await byXhr("/api/form"), calls.length];
  Object.assign(window, platform);

  // Two of them, taken out in both orders.
  for (const [name, order] of [["first out first", [0, 1]], ["last out first", [1, 0]]]) {
    const both = [
      install(counted("a", calls), { paths: ["/api/form", "/api/echo"] }),
      install(counted("b", calls), { paths: ["/api/form", "/api/none"] }),
    ];
    told[name] = [];
    for (const out of [undefined, ...order]) {
      if (out !== undefined) both[out]();
      for (const path of ["/api/form", "/api/echo", "/api/none"]) {
        calls.length = 0;
        told[name].push([await byFetch(path), await byXhr(path), ...calls].join(" "));
      }
    }
    told[name].push(untouched(), described() === before);
  }

  // What has been compiled by then.
  const hot = () => {
    const xhr = new XMLHttpRequest();
    xhr.open("GET", "/api/form");
    return xhr;
  };
  const hotFetch = () => fetch;
  for (let round = 0; round < 3000; round += 1) {
    hot();
    hotFetch();
    if (round % 100 === 0) await new Promise((resolve) => setTimeout(resolve));
  }
  const cool = install(session, { paths: ["/api/"] });
  told.hot = [hot() instanceof XMLHttpRequest, hotFetch() === fetch];
  cool();
  told.hot.push(hot() instanceof platform.XMLHttpRequest, hotFetch() === platform.fetch);

  // Options.
  const refused = (...given) => {
    try {
      install(...given);
      return "taken";
    } catch ({ name, code }) {
      return `${name} ${code}`;
    }
  };
  told.options = [
    refused(session), refused(session, {}), refused(session, { paths: "/api/" }), refused(session, { paths: [7] }), refused(session, { paths: ["api/"] }),
    refused(session, { paths: ["/a/../b"] }), refused(session, { paths: ["/?a"] }), refused(session, { paths: ["/\u00fc"] }), refused(session, { paths: [""] }),
    refused(session, { paths: ["/"], except: "/" }), refused(session, { paths: ["/"], excepts: ["/a"] }), refused(undefined, { paths: ["/"] }),
    refused({ fetch: session.fetch }, { paths: ["/"] }), refused({ origin: location.origin }, { paths: ["/"] }),
  ];
  told.untouched = untouched();
  return told;
};

/** Everything goes through the session, what the session itself sends too: it must not come back to it. */
window.whole = async () => {
  const { install } = await import("/npm/install.js");
  const uninstall = install(session, { paths: ["/"] });
  const xhr = new XMLHttpRequest();
  let uploaded = 0;
  xhr.upload.onprogress = ({ loaded }) => { uploaded = loaded; };
  xhr.open("POST", "/api/echo");
  await new Promise((resolve) => {
    xhr.onloadend = resolve;
    xhr.send("by XMLHttpRequest");
  });
  const { body } = await fetch("/api/echo", { method: "POST", body: "by fetch", onUploadProgress: () => {} }).then((reply) => reply.json());
  await session.end();
  const ended = await fetch("/api/form").catch(({ code }) => code);
  // One that is opened meanwhile goes out by the same fetch.
  const next = await bulla.open({ server: location.origin });
  const status = await next.fetch("/api/form").then((reply) => reply.status);
  uninstall();
  return [xhr.status, JSON.parse(xhr.responseText).body, uploaded, body, ended, status];
};

/** What a refusal of the verifier looks like. */
window.refusing = async () => {
  const { install } = await import("/npm/install.js");
  const uninstall = install(session, { paths: ["/api/"] });
  const told = [];
  const { warn } = console;
  console.warn = (...given) => told.push(given.join(" "));
  told.push(await fetch("/api/transfer?secret", { method: "POST" }).catch((error) => [error instanceof bulla.BullaError, error.code]));
  const xhr = new XMLHttpRequest();
  await new Promise((resolve) => {
    for (const type of ["load", "error"]) xhr.addEventListener(type, () => told.push(`${type} ${xhr.status}`));
    xhr.onloadend = resolve;
    xhr.open("POST", "/api/transfer?secret");
    xhr.send();
  });
  console.warn = warn;
  uninstall();
  return told;
};

/** In a worker, which has no documents and is no page. */
window.working = async () => {
  const script = `
    import { open } from "${location.origin}/npm/index.js";
    import { install } from "${location.origin}/npm/install.js";
    const session = await open({ server: "${location.origin}" });
    install(session, { paths: ["/api/"] });
    const told = [await fetch("${location.origin}/api/form").then((reply) => reply.status)];
    const xhr = new XMLHttpRequest();
    xhr.open("POST", "${location.origin}/api/mirror");
    xhr.setRequestHeader("x-kind", "text/xml");
    xhr.upload.onload = ({ loaded }) => told.push(loaded);
    xhr.onloadend = () => postMessage([...told, xhr.status, xhr.responseText, xhr.responseXML]);
    xhr.send("<a/>");
  `;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  const told = await new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
  worker.terminate();
  return told;
};

/** Under the policy that the docs recommend. It stays for as long as the page does. */
window.parsing = async () => {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "require-trusted-types-for 'script'";
  document.head.append(policy);
  const { install } = await import("/npm/install.js");
  const uninstall = install(session, { paths: ["/api/"] });
  const told = [];
  for (const type of ["", "document"]) {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", "/api/mirror");
    xhr.setRequestHeader("x-kind", "text/xml");
    xhr.responseType = type;
    await new Promise((resolve) => {
      xhr.onloadend = resolve;
      xhr.send("<a/>");
    });
    for (const name of ["response", "responseXML"]) {
      try {
        told.push(typeof xhr[name]);
      } catch (error) {
        told.push(error.name);
      }
    }
  }
  uninstall();
  return told;
};
