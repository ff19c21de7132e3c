// What engines do with a service worker's replies that others do not. There is nothing else to tell them by.

const { userAgent = "" } = globalThis.navigator ?? {};

/**
 * Firefox stops a worker that has had no event for 30 s, even while it is writing a stream, and the stream ends as if
 * nothing were missing. Others let it live as long as its streams last.
 */
export const ENDS_SILENTLY = /Gecko\/\d/.test(userAgent);

/** WebKit goes on without the body where a worker's reply redirects a request with one (RFC 9110 section 15.4.8). */
export const LOSES_BODIES = /AppleWebKit\//.test(userAgent) && !/Chrome\//.test(userAgent);
