// What outlives a page: the device key, the pinned identity and the session, one of each for a server's
// origin. In IndexedDB, or in this realm's memory where there is none.

const DATABASE = "bulla";
const STORE = "records";
/** How long a database may take to open, in milliseconds: in some private windows none ever does. */
const PATIENCE = 5000;
/** What it did once it will do again. */
let hangs = false;

const memory = new Map();

/** Where records can be kept: `indexeddb` if it is there and opens, else `memory`. */
export async function findStorage() {
  try {
    (await connect()).close();
    return "indexeddb";
  } catch {
    return "memory";
  }
}

/** A record, or `undefined`. */
export function get(storage, key) {
  return change(storage, key);
}

/** Puts a record in the place of whatever was there. */
export function put(storage, key, record) {
  return change(storage, key, () => record);
}

/** Removes a record, wherever it is. */
export function remove(storage, key) {
  memory.delete(key);
  return change(storage, key, () => null);
}

/**
 * Looks at a record and changes it, with nobody in between. Resolves with the record as it was. What
 * `decide` returns takes its place: `null` removes it, `undefined` leaves it alone.
 * @param {"indexeddb" | "memory"} storage
 * @param {string} key
 * @param {((found: any) => any) | undefined} decide
 */
export async function change(storage, key, decide = undefined) {
  if (storage === "memory") {
    const found = memory.get(key);
    apply(decide?.(found), (record) => memory.set(key, record), () => memory.delete(key));
    return found;
  }
  const database = await connect();
  try {
    // Another device key would be locked out by the time that this one was seen to be lost.
    const durability = key.startsWith("device") ? "strict" : "default";
    const transaction = database.transaction(STORE, decide ? "readwrite" : "readonly", { durability });
    const complete = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    // Whoever did not write need not look.
    complete.catch(() => {});
    const store = transaction.objectStore(STORE);
    const found = await settled(store.get(key));
    // The transaction stays open as long as each step follows in the same turn.
    apply(decide?.(found), (record) => store.put(record, key), () => store.delete(key));
    if (decide) await complete;
    return found;
  } finally {
    database.close();
  }
}

function apply(decision, put, remove) {
  if (decision === null) remove();
  else if (decision !== undefined) put(decision);
}

function connect() {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error("the database does not open"));
    if (hangs) return fail();
    const request = indexedDB.open(DATABASE);
    // If this fails, so does the first transaction.
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    let isLate = false;
    const timer = setTimeout(() => {
      hangs = isLate = true;
      fail();
    }, PATIENCE);
    const opened = settled(request).finally(() => clearTimeout(timer));
    opened.then((database) => {
      // It would keep the database from being deleted.
      if (isLate) database.close();
      resolve(database);
    }, reject);
  });
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
