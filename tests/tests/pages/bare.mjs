// Imports the package where there is next to nothing: no window, no document, no storage, no WebCrypto, no fetch. So do
// programs that render pages ahead of time. Prints what each entry exports, as JSON.
import { readFile } from "node:fs/promises";
import { SourceTextModule, createContext } from "node:vm";

const told = {};
for (const entry of process.argv.slice(2)) {
  // What of the platform is no part of the language, and is there wherever modules of this kind are.
  const context = createContext({ TextDecoder, TextEncoder });
  const url = new URL(`./node_modules/bulla/dist/${entry}`, import.meta.url);
  const script = new SourceTextModule(await readFile(url, "utf8"), {
    context,
    initializeImportMeta: (meta) => {
      meta.url = url.href;
    },
    importModuleDynamically: (name) => {
      throw new Error(`${name} is imported, and nobody has asked for it`);
    },
  });
  await script.link((name) => {
    throw new Error(`${name} is imported`);
  });
  await script.evaluate();
  told[entry] = Object.keys(script.namespace);
}
console.log(JSON.stringify(told));
