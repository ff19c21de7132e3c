// What the loader and the worker say to each other, and where the worker says it to the gateway.

/** What a message begins with that holds reports. */
export const NOTICED = "bulla: noticed";
/** What a message begins with that names a file which was not run. */
export const REFUSED = "bulla: refused";
/** Where the gateway takes reports. */
export const REPORT = "/.well-known/bulla/gateway/report";
/** What the gateway answers when reports have had consequences. */
export const RESET = 205;
/** As many reports go into one request, and its content is so long at most, in bytes. */
export const MOST_REPORTS = 64;
export const MOST_LEN = 65536;
