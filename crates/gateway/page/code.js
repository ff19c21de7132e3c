// What of an application is code.

/** Script-like (Fetch, section 2.2.5) but for service workers, and XSLT, which can run scripts, too. */
export const SCRIPTS = ["audioworklet", "paintworklet", "script", "sharedworker", "worker", "xslt"];
/** What runs, and what decides how a page looks. */
export const CODE = [...SCRIPTS, "style"];
/** The gateway's own files, which are held to their hashes elsewhere. */
export const OWN = "/.well-known/bulla/";
