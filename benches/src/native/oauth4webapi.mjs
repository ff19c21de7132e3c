// Verifies requests with oauth4webapi: as many as each line asks for. Says how many nanoseconds they took.
import { createInterface } from "node:readline";
import * as oauth from "oauth4webapi";
import * as dpop from "dpop";

const [issuer, audience] = ["https://login.example", "https://bank.example"];
const url = `${audience}/api/transfer`;
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const [issuerKey, device, thief] = await Promise.all([1, 2, 3].map(() => dpop.generateKeyPair("ES256", { extractable: true })));
const now = Math.floor(Date.now() / 1000);
const signed = [
  { typ: "at+jwt", alg: "ES256", kid: "1" },
  {
    iss: issuer, sub: "ann", aud: audience, client_id: "app", iat: now, exp: now + 43200, jti: "1",
    cnf: { jkt: await dpop.calculateThumbprint(device.publicKey) },
  },
].map(encode).join(".");
const ecdsa = { name: "ECDSA", hash: "SHA-256" };
const signature = await crypto.subtle.sign(ecdsa, issuerKey.privateKey, Buffer.from(signed));
const token = `${signed}.${Buffer.from(signature).toString("base64url")}`;
const jwk = await crypto.subtle.exportKey("jwk", issuerKey.publicKey);
const jwks = { keys: [{ ...jwk, key_ops: undefined, kid: "1", alg: "ES256", use: "sig" }] };

const server = { issuer, jwks_uri: `${issuer}/jwks` };
const options = { requireDPoP: true, [oauth.customFetch]: async () => Response.json(jwks) };
const request = async (pair) => {
  const proof = await dpop.generateProof(pair, url, "POST", undefined, token);
  return new Request(url, { method: "POST", headers: { authorization: `DPoP ${token}`, dpop: proof } });
};
const verify = (request) => oauth.validateJwtAccessToken(server, request, audience, options);
if (await verify(await request(thief)).catch(() => undefined)) throw new Error("it takes anything");

for await (const line of createInterface({ input: process.stdin })) {
  const requests = [];
  for (let left = Number(line); left > 0; left -= 1) requests.push(await request(device));
  const start = process.hrtime.bigint();
  for (const request of requests) await verify(request);
  console.log(String(process.hrtime.bigint() - start));
}
