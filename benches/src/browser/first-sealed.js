// What is cold: milliseconds until the first reply is there, in a page that has done nothing before.

const { subtle } = crypto;
const post = (content) => ({ method: "POST", body: content });
const body = new Uint8Array(1024).fill(120);

/** The package: fetched, compiled, a session opened, a reply unsealed. */
const sealed = async () => {
  const { open } = await import("/npm/index.js");
  const session = await open({ server: location.origin });
  const reply = await session.fetch("/api/echo", post(body));
  return reply.arrayBuffer();
};

const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => Number.parseInt(pair, 16));

// What a server would have sent: a key, which here stands for all of its keys, and a signature (RFC 6979 appendix A.2.5).
const theirs = bytes(
  "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
);
const signature = bytes(
  "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
);
const opened = new TextEncoder().encode("sample");

const p256 = (name) => ({ name, namedCurve: "P-256" });
const ECDSA = { name: "ECDSA", hash: "SHA-256" };
const hkdf = (salt) => ({ name: "HKDF", hash: "SHA-256", salt, info: new Uint8Array(24) });

const generate = async (name, usage) => {
  const pair = await subtle.generateKey(p256(name), false, [usage]);
  await subtle.exportKey("raw", pair.publicKey);
  return pair.privateKey;
};
const shared = async (agreement) => {
  const point = await subtle.importKey("raw", theirs, p256("ECDH"), false, []);
  return subtle.deriveKey({ name: "ECDH", public: point }, agreement, "HKDF", false, ["deriveKey", "deriveBits"]);
};
const record = async (base, salt, use) => {
  const [key, iv] = await Promise.all([
    subtle.deriveKey(hkdf(salt), base, { name: "AES-GCM", length: 128 }, false, [use]),
    subtle.deriveBits(hkdf(salt), base, 96),
  ]);
  return [{ name: "AES-GCM", iv }, key];
};

/** The calls of WebCrypto that an opening and a sealed request cannot do without, and one `fetch`. */
const raw = async () => {
  const [device, agreement] = await Promise.all([generate("ECDSA", "sign"), generate("ECDH", "deriveKey")]);
  await subtle.sign(ECDSA, device, new Uint8Array(600));
  const identity = await subtle.importKey("raw", theirs, p256("ECDSA"), false, ["verify"]);
  if (!(await subtle.verify(ECDSA, identity, signature, opened))) throw new Error("the signature is wrong");
  const [requests, , forMac] = await Promise.all([0, 1, 2].map(() => shared(agreement)));
  await subtle.deriveKey(hkdf(new Uint8Array(32)), forMac, { name: "HMAC", hash: "SHA-256", length: 256 }, false, ["sign"]);

  const salt = crypto.getRandomValues(new Uint8Array(16));
  const [, toSeal] = await Promise.all([
    subtle.sign(ECDSA, device, new Uint8Array(900)),
    record(requests, salt, "encrypt"),
  ]);
  const sent = await subtle.encrypt(...toSeal, new Uint8Array(1792));
  const reply = await (await fetch("/bench/echo", post(sent))).arrayBuffer();
  return subtle.decrypt(...(await record(requests, salt, "decrypt")), reply);
};

const WAYS = { "first-raw": raw, "first-sealed": sealed };

export const measure = async (name) => {
  const start = performance.now();
  const reply = await WAYS[name]();
  const milliseconds = performance.now() - start;
  if (reply.byteLength < body.length) throw new Error(`${name}: ${reply.byteLength} bytes`);
  return { [name]: milliseconds };
};
