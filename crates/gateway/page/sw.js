// The service worker of pages behind the gateway.

import { protect } from "../../../npm/src/sw.js";
import { Delivery } from "./delivery.js";

// The gateway writes in what it is set up for.
const { wasm, manifest, ...settings } = JSON.parse("{settings}");

const code = manifest && new Delivery(manifest, settings.identity);

protect({ ...settings, wasm: new URL(wasm, location.href) }, code);
