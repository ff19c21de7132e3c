import { register } from "./bulla/register.js";

// Where a policy has `require-trusted-types-for 'script'`, the address of a worker's script is somebody's to vouch for.
const policy = globalThis.trustedTypes?.createPolicy("worker", { createScriptURL: () => "/sw.js" });
await register(policy?.createScriptURL("") ?? "/sw.js");
