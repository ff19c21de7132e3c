// Clients of OAuth that others have written, and a library for what they send, as their documentation says. Prints what
// came of it, as JSON.
import * as oauth from "oauth4webapi";
import * as dpop from "dpop";
import * as jose from "jose";

const { origin, token, ours, key, jwk, issuer, audience, issuerKey } = JSON.parse(process.argv[2]);
const told = {};
const es256 = { name: "ECDSA", namedCurve: "P-256" };
const keyPair = {
  privateKey: await crypto.subtle.importKey("pkcs8", Buffer.from(key, "base64url"), es256, false, ["sign"]),
  publicKey: await crypto.subtle.importKey("jwk", jwk, es256, true, ["verify"]),
};
const url = new URL("/accounts?page=1", origin);

// oauth4webapi
const using = (DPoP) => (method, body) =>
  oauth.protectedResourceRequest(token, method, url, undefined, body, {
    DPoP,
    [oauth.allowInsecureRequests]: true,
  });
const refusal = ({ status, cause }) => ({
  status,
  challenges: cause.map(({ scheme, parameters }) => ({ scheme, ...parameters })),
});
const request = using(oauth.DPoP({ client_id: "app" }, keyPair));
const first = await request("GET").catch((error) => error);
told.first = { nonce: oauth.isDPoPNonceError(first), ...refusal(first) };
told.second = await request("GET").then((reply) => reply.json());
// It has the nonce now.
told.third = await request("POST", JSON.stringify({ any: "thing" })).then((reply) => reply.json());
told.bearer = refusal(await using(undefined)("GET").catch((error) => error));
const thief = using(oauth.DPoP({ client_id: "app" }, await oauth.generateKeyPair("ES256")));
await thief("GET").catch((error) => error);
told.thief = refusal(await thief("GET").catch((error) => error));

// It reads tokens, too.
const [known, seen] = [{ issuer, jwks_uri: `${issuer}/jwks` }, []];
const keys = [{ ...issuerKey, alg: "ES256", use: "sig" }];
const proof = await dpop.generateProof(keyPair, "https://bank.example/accounts", "GET", undefined, token);
const presented = new Request("https://bank.example/accounts", {
  headers: { authorization: `DPoP ${token}`, dpop: proof },
});
const claims = await oauth.validateJwtAccessToken(known, presented, audience, {
  requireDPoP: true,
  [oauth.customFetch]: async (jwks) => {
    seen.push(jwks);
    return Response.json({ keys });
  },
});
told.validated = { seen, sub: claims.sub, scope: claims.scope, client: claims.client_id };

// dpop
const htu = new URL("/accounts", origin).href;
const byDpop = (pair, method, nonce) => dpop.generateProof(pair, htu, method, nonce, token);
const send = async (pair, nonce, init = {}, prove = byDpop) => {
  const proof = await prove(pair, init.method ?? "GET", nonce);
  const headers = { authorization: `DPoP ${token}`, dpop: proof };
  const reply = await fetch(url, { ...init, headers });
  const challenge = reply.headers.get("www-authenticate");
  const body = reply.ok ? await reply.json() : undefined;
  return { status: reply.status, challenge, body, nonce: reply.headers.get("dpop-nonce") };
};
const asked = await send(keyPair);
const served = await send(keyPair, asked.nonce);
const rsa = await send(await dpop.generateKeyPair("RS256"), asked.nonce);
// More than any connection takes in before it is read.
const upload = await send(keyPair, undefined, { method: "POST", body: new Uint8Array(4 << 20) });
const without = ({ nonce, ...rest }) => ({ ...rest, nonce: typeof nonce });
told.dpop = [asked, served, rsa, upload].map(without);

// jose
const ath = jose.base64url.encode(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token))));
const byJose = async (pair, htm, nonce) =>
  new jose.SignJWT({ jti: crypto.randomUUID(), htm, htu, ath, nonce })
    .setProtectedHeader({ typ: "dpop+jwt", alg: "ES256", jwk: await jose.exportJWK(pair.publicKey) })
    .setIssuedAt()
    .sign(pair.privateKey);
const initial = await send(keyPair, undefined, {}, byJose);
const renewed = await send(keyPair, initial.nonce, {}, byJose);
const other = await send(await jose.generateKeyPair("ES256", { extractable: true }), initial.nonce, {}, byJose);
told.jose = [initial, renewed, other].map(without);

// It reads what ours make: a proof, by the key that is in it, and a token.
const rules = { typ: "dpop+jwt", algorithms: ["ES256"] };
const { payload, key: held } = await jose.jwtVerify(ours, jose.EmbeddedJWK, rules);
const altered = ours.replace(/\.(.)/, (_, letter) => `.${letter === "e" ? "f" : "e"}`);
const signature = jose.base64url.decode(ours.split(".")[2]);
signature[40] ^= 1;
const unsigned = [...ours.split(".").slice(0, 2), jose.base64url.encode(signature)].join(".");
const codes = [altered, unsigned].map((proof) => jose.jwtVerify(proof, jose.EmbeddedJWK, rules).catch(({ code }) => code));
const granted = await jose.jwtVerify(token, await jose.importJWK(issuerKey, "ES256"), { issuer, audience, typ: "at+jwt" });
told.read = {
  claims: payload,
  device: await jose.calculateJwkThumbprint(await jose.exportJWK(held)),
  altered: await Promise.all(codes),
  bound: granted.payload.cnf,
};

console.log(JSON.stringify(told));
