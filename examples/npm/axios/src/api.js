import axios from "axios";
import { open } from "bulla";

export const session = await open({ server: location.origin });

/** As it always was: interceptors, `baseURL`, `timeout` and cancelling apply. */
export const api = axios.create({ adapter: "fetch", env: { fetch: session.fetch } });
