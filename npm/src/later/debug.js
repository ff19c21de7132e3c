// The debug mode: what happens, told in the console.

/** Tells of an event. There is no secret in any. */
export function tell({ type, ...details }) {
  console.debug(`bulla: ${type}`, details);
}
