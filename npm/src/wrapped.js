// The page's own `fetch`, with something around it.

/** Functions that were put in its place here. */
export const WRAPPERS = new WeakSet();

/** Puts a function in the place of `fetch`. Gives one that puts it back, unless others have come on top. */
export function wrapFetch(wrap) {
  const before = globalThis.fetch;
  const after = wrap(before);
  WRAPPERS.add(after);
  globalThis.fetch = after;
  return () => {
    if (globalThis.fetch === after) globalThis.fetch = before;
  };
}
