// An authorization server that others have written, as its documentation says: one public client, tokens bound by DPoP
// (RFC 9449), proofs with nonces. Prints its origin when it serves.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import Provider from "oidc-provider";

const { port, page, audience } = JSON.parse(process.argv[2]);
const origin = `http://localhost:${port}`;
const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
const secret = () => randomBytes(32);

const provider = new Provider(origin, {
  clients: [
    {
      client_id: "app",
      redirect_uris: [page],
      grant_types: ["authorization_code", "refresh_token"],
      token_endpoint_auth_method: "none",
      id_token_signed_response_alg: "ES256",
      dpop_bound_access_tokens: true,
    },
  ],
  clientBasedCORS: (_context, from) => from === new URL(page).origin,
  cookies: { keys: [secret()] },
  features: {
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: secret(), requireNonce: () => true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "accounts",
        audience,
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
  findAccount: (_context, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
  issueRefreshToken: () => true,
  jwks: { keys: [{ ...key, kid: "of the issuer", use: "sig", alg: "ES256" }] },
});
const standard = provider.callback();

/** Asks the user who he is, and then whether the client may have what it wants. */
async function interact(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (request.method === "GET") {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(`<!doctype html><title>${prompt.name}</title><form method="post"><input name="user"></form>`);
    return;
  }
  const answers = {
    login: async () => ({ accountId: new URLSearchParams(await text(request)).get("user") }),
    consent: async () => {
      const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      grant.addResourceScope(audience, "accounts");
      return { grantId: await grant.save() };
    },
  };
  await provider.interactionFinished(request, response, { [prompt.name]: await answers[prompt.name]() });
}

const server = createServer((request, response) => {
  if (!request.url.startsWith("/interaction/")) return standard(request, response);
  interact(request, response).catch((error) => response.writeHead(500).end(String(error)));
});
server.listen(port, "127.0.0.1", () => console.log(origin));
