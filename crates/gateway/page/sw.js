// The service worker of pages behind the gateway.

import { protect } from "../../../npm/src/sw.js";
import { Delivery } from "./delivery.js";
import { Scripts } from "./scripts.js";

// The gateway writes in what it is set up for.
const { wasm, manifest, learns, monitored, watch, ...settings } = JSON.parse("{settings}");

const delivery = manifest && new Delivery(manifest, settings.identity, { learns, isMonitored: monitored });
const code = watch ? new Scripts(delivery) : delivery;

protect({ ...settings, wasm: new URL(wasm, location.href) }, code);
