// The service worker of pages behind the gateway.

import { protect } from "../../../npm/src/sw.js";

// The gateway writes in what it is set up for.
const { wasm, ...settings } = JSON.parse("{settings}");

protect({ ...settings, wasm: new URL(wasm, location.href) });
