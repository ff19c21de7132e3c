// Makes the bills of materials that cargo-cyclonedx has written of crates what is handed out with a release, and checks
// them against the schema of CycloneDX 1.5: `node sbom.mjs ROOT FOLDER PACKAGE`. ROOT is where it ran, FOLDER what holds
// them, PACKAGE the npm package's folder.
import { Spec, Validation } from "@cyclonedx/cyclonedx-library";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [root, folder, packed] = process.argv.slice(2);
const NPM = "npm.cdx.json";
const read = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));

/** The npm package's, of what the crate in it stands on: all of that is in its one module, or wrote code of it (derives). */
function ofPackage(crate) {
  const { name, version, description, license } = JSON.parse(readFileSync(join(packed, "package.json"), "utf8"));
  const ref = `pkg:npm/${name}@${version}`;
  const own = { ...crate.metadata.component, scope: "required" };
  delete own.components;
  const component = { type: "library", "bom-ref": ref, name, version, description, purl: ref };
  return {
    ...crate,
    metadata: { ...crate.metadata, component: { ...component, licenses: [{ expression: license }] } },
    components: [own, ...crate.components],
    dependencies: [{ ref, dependsOn: [own["bom-ref"]] }, ...crate.dependencies],
  };
}

const names = readdirSync(folder).filter((name) => name.endsWith(".cdx.json"));
const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot5);
for (const name of names) {
  const bill = name === NPM ? ofPackage(read(name)) : read(name);
  // Crates of ours are named by where they lie in the repository, wherever that was.
  const text = JSON.stringify(bill, null, 2)
    .replaceAll(`path+file://${root}/`, "path+file:///")
    .replace(/\?download_url=file:\/\/[^"#]*/g, "");
  if (text.includes(root)) throw new Error(`${name} says where it was made`);
  const wrong = await validator.validate(text);
  if (wrong) throw new Error(`${name}: ${JSON.stringify(wrong)}`);
  if (!(await validator.validate(text.replace('"bomFormat"', '"format"')))) throw new Error("nothing is checked");
  const { dependencies, components } = JSON.parse(text);
  if (!components.length) throw new Error(`${name} names nothing`);
  const known = new Set([bill.metadata.component, ...bill.components].map((part) => part["bom-ref"]));
  for (const ref of bill.dependencies.flatMap(({ ref, dependsOn = [] }) => [ref, ...dependsOn])) {
    if (!known.has(ref)) throw new Error(`${name}: ${ref} is no part of it`);
  }
  writeFileSync(join(folder, name), `${text}\n`);
  console.log(`${name}: ${components.length} parts, ${dependencies.length} of them with what they stand on`);
}
