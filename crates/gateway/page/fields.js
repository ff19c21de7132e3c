// Fields that count on the outer reply alone, where whoever ends TLS may take them off or put them in. All others a page has as
// they were sealed.

const NOTHING = "nothing";
const HSTS = "strict-transport-security";
const CLEAR = "clear-site-data";

/** Those that are not as they were sealed. */
export function changed(sealed, outer) {
  const fields = [];
  const note = (name) => fields.push({ name, expected: sealed.get(name) ?? NOTHING, found: outer.get(name) ?? NOTHING });
  // Whoever ends TLS may ask for it where the application does not.
  if (sealed.has(HSTS) && sealed.get(HSTS) !== outer.get(HSTS)) note(HSTS);
  // Chromium shows it to nobody, so that it cannot be missed either.
  if (outer.has(CLEAR) && !sealed.has(CLEAR)) note(CLEAR);
  return fields;
}
