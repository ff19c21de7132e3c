import { open } from "bulla";
import ky from "ky";

export const session = await open({ server: location.origin });

/** As it always was: hooks, `prefix`, `timeout` and retries apply. */
export const api = ky.create({ fetch: session.fetch });
