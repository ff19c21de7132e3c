// In a page of a service worker: is ready when that stands between the page and the network.

import { register } from "/npm/register.js";

export const ready = register("/bench/sw.js", { scope: "/bench/worker/" });
