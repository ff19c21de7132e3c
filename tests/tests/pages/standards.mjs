// What others have written of the standards, under the vectors; and messages that they make, as vectors for ours.
// Prints both, as JSON.
import { createHmac, createPublicKey, generateKeyPairSync, randomBytes, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { BHttpDecoder, BHttpEncoder } from "bhttp-js";
import signatures from "http-message-signatures";
import ece from "http_ece";
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from "jose";

const vectors = process.argv[2];
const bytes = (text) => Buffer.from(text, "base64url");
const text = (given) => Buffer.from(given).toString("base64url");
const { httpbis } = signatures;

const es256 = (key) => ({ key, dsaEncoding: "ieee-p1363" });
const mac = (key) => (data) => createHmac("sha256", key).update(data).digest();

/** A message as that library wants it: a field that stands twice is a list. */
function message({ method, authority, target, fields }) {
  const headers = {};
  for (const [name, value] of fields) headers[name] = name in headers ? [headers[name], value].flat() : value;
  return { method, url: `https://${authority}${target}`, headers };
}

const READ = {
  /** RFC 8188, by http_ece. */
  unseal({ key, sealed }) {
    return { plain: text(ece.decrypt(bytes(sealed), { version: "aes128gcm" }, () => bytes(key))) };
  },

  /** RFC 9292, by bhttp-js. */
  async "message-read"({ bytes: given }) {
    const sent = new Uint8Array(bytes(given));
    const decoder = new BHttpDecoder();
    const read = sent[0] % 2 ? decoder.decodeResponse(sent) : decoder.decodeRequest(sent);
    const fields = [...read.headers];
    const content = text(await read.arrayBuffer());
    if (sent[0] % 2) return { status: read.status, fields, content };
    const { protocol, host, pathname, search } = new URL(read.url);
    return { method: read.method, scheme: protocol.slice(0, -1), authority: host, target: pathname + search, fields, content };
  },

  /** RFC 9421, by http-message-signatures. */
  async "proof-received"({ device, mac_key, ...request }) {
    const good = await httpbis.verifyMessage(
      {
        // It relies on times, which a vector's are not.
        notAfter: Number.MAX_SAFE_INTEGER,
        keyLookup: async ({ alg }) => ({
          algs: ["ecdsa-p256-sha256", "hmac-sha256"],
          verify: async (data, signature) =>
            alg === "hmac-sha256"
              ? mac(bytes(mac_key))(data).equals(signature)
              : verify("sha256", data, es256(createPublicKey({ key: device, format: "jwk" })), signature),
        }),
      },
      message(request),
    );
    if (good !== true) throw new Error("the signature is wrong");
    return {};
  },

  /** RFC 7638, by jose. */
  async key({ jwk }) {
    return { thumbprint: await calculateJwkThumbprint(jwk) };
  },
};

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const byName = (fields) => [...fields].sort(([one], [other]) => (one < other ? -1 : 1));

/** Which vectors they read as ours do, which they refuse, and which they read as something else, by name. */
const told = {};
for (const [file, steps] of [
  ["encodings", ["key"]],
  ["proofs", ["proof-received"]],
  ["sealing", ["unseal", "message-read"]],
]) {
  for (const { name, step, in: given, out } of JSON.parse(readFileSync(`${vectors}/${file}.json`))) {
    if (!steps.includes(step)) continue;
    const list = (told[step] ??= { read: [], refused: [], otherwise: [] });
    try {
      const read = await READ[step](given);
      const { fields, ...rest } = read;
      const agrees = out && Object.entries(rest).every(([member, value]) => same(value, out[member]));
      // That library gives fields in the order of their names.
      list[agrees && (!fields || same(byName(fields), byName(out.fields))) ? "read" : "otherwise"].push(name);
    } catch {
      list.refused.push(name);
    }
  }
}

const made = [];
const flip = (given, at) => {
  const changed = Buffer.from(given);
  changed[at] ^= 1;
  return changed;
};

for (const [length, rs] of [
  [1, 18],
  [1000, 100],
  [4096, 4096],
  [200_000, 65_536],
]) {
  const [key, plain, keyid] = [randomBytes(32), randomBytes(length), randomBytes(200)];
  const sealed = ece.encrypt(plain, { version: "aes128gcm", rs, keyid }, () => key);
  const vector = { name: `${length} bytes by ${rs}`, step: "unseal" };
  made.push({ ...vector, in: { key: text(key), sealed: text(sealed) }, out: { keyid: text(keyid), plain: text(plain) } });
  // The salt, the first record and the last one.
  for (const at of [0, 221, sealed.length - 1]) {
    const altered = text(flip(sealed, at));
    made.push({ ...vector, name: `${vector.name}, altered at ${at}`, in: { key: text(key), sealed: altered }, code: "seal_broken" });
  }
  const short = text(sealed.subarray(0, -1 - ((sealed.length - 222) % rs)));
  made.push({ ...vector, name: `${vector.name}, truncated`, in: { key: text(key), sealed: short }, code: "seal_broken" });
}

const encoder = new BHttpEncoder();
const content = JSON.stringify({ to: "bob", amount: 7 });
const type = ["content-type", "application/json"];
const request = new Request("https://bank.example/api/transfer", { method: "POST", body: content, headers: [type] });
const reply = new Response(content, { status: 201, headers: [type] });
const fields = [type];
for (const [name, encoded, out] of [
  [
    "a request",
    await encoder.encodeRequest(request),
    { method: "POST", scheme: "https", authority: "bank.example", target: "/api/transfer", fields, content: text(content) },
  ],
  ["a reply", await encoder.encodeResponse(reply), { status: 201, fields, content: text(content) }],
]) {
  const vector = { name, step: "message-read" };
  made.push({ ...vector, in: { bytes: text(encoded) }, out });
  made.push({ ...vector, name: `${name}, lengthened`, in: { bytes: text([...encoded, 1]) }, code: "malformed" });
  made.push({ ...vector, name: `${name}, cut`, in: { bytes: text(encoded.slice(0, -3)) }, code: "malformed" });
}

const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
const device = pair.publicKey.export({ format: "jwk" });
const secret = randomBytes(32);
const ticket = `:${randomBytes(200).toString("base64")}:`;
const covered = ["@method", "@authority", "@path", "@query", "content-digest", "bulla-ticket", "content-type"];
const digest = "sha-256=:WNdexcV4C3cbr+9obwQ2ZI/Wrv3O7a2vSvGWRUizTXg=:";
for (const [proof, alg, signer] of [
  ["device", "ecdsa-p256-sha256", (data) => sign("sha256", data, es256(pair.privateKey))],
  ["session", "hmac-sha256", mac(secret)],
]) {
  const [session, nonce] = [text(randomBytes(16)), `server.nonce.${text(randomBytes(16))}`];
  const target = "/api/transfer?dry=1";
  const unsigned = [["content-digest", digest], ["bulla-ticket", ticket], type];
  const at = { method: "POST", authority: "bank.example", target };
  const signed = await httpbis.signMessage(
    {
      key: { id: session, alg, sign: async (data) => signer(data) },
      fields: covered,
      params: ["nonce", "tag", "created", "alg", "keyid"],
      paramValues: { nonce, tag: "bulla" },
    },
    message({ ...at, fields: unsigned }),
  );
  const sent = Object.entries(signed.headers).map(([name, value]) => [name.toLowerCase(), value]);
  const given = { binding: "digest", device, mac_key: text(secret), ...at, fields: sent };
  const vector = { name: `a ${proof} proof`, step: "proof-received" };
  made.push({ ...vector, in: given, out: { proof, session, nonce, covered: covered.filter((name) => !name.startsWith("@")) } });
  for (const [member, value] of [
    ["method", "PUT"],
    ["authority", "bank.example:444"],
    ["target", "/api/transfer?dry=0"],
    ["fields", sent.map(([name, value]) => [name, name === "content-type" ? "text/plain" : value])],
  ]) {
    made.push({ ...vector, name: `${vector.name}, another ${member}`, in: { ...given, [member]: value }, code: "proof_mismatch" });
  }
}

for (let drawn = 0; drawn < 20; drawn += 1) {
  const jwk = await exportJWK((await generateKeyPair("ES256", { extractable: true })).publicKey);
  const [x, y] = [bytes(jwk.x), bytes(jwk.y)];
  made.push({
    name: `a key, ${drawn}`,
    step: "key",
    in: { jwk },
    out: {
      thumbprint: await calculateJwkThumbprint(jwk),
      uncompressed: text([4, ...x, ...y]),
      compressed: text([2 + (y[31] & 1), ...x]),
    },
  });
}

console.log(JSON.stringify({ told, made }));
