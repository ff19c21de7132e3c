// What a person sees who goes to a page that did not come.

const STYLE = `
  :root { color-scheme: light dark; font: 1.05rem/1.5 system-ui, sans-serif }
  body { max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem }
  h1 { font-size: 1.5rem; line-height: 1.25 }
  code { opacity: 0.7 }
  a { color: inherit; font-weight: 600 }
`;

/** Codes whose cause is the person's own, or passes. All others may be somebody in between. */
const TITLES = {
  login_required: "You are not signed in",
  insufficient_user_authentication: "Please sign in once more",
  session_revoked: "Your session has ended",
  ticket_expired: "Your session has ended",
  ticket_invalid: "Your session has ended",
  session_limit: "You are signed in elsewhere too often",
  rate_limited: "Too many requests",
  store_unavailable: "The service is busy",
  internal: "The service failed",
  request_invalid: "This was not sent",
};

/** A page that says why there is none. */
export function explained({ code, message, status }) {
  const title = TITLES[code] ?? "This page did not come unharmed";
  const html = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${STYLE}</style>
<h1>${title}</h1>
<p>${escaped(message)}.</p>
<p><a href="">Try again</a> or <a href="/">go to the first page</a>.</p>
<p><code>${escaped(code)}</code></p>
`;
  const policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
  const headers = { "content-type": "text/html; charset=utf-8", "content-security-policy": policy, "referrer-policy": "no-referrer" };
  return new Response(html, { status: status ?? 502, headers });
}

const escaped = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
