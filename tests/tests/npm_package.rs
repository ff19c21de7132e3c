//! The npm package as it is packed: what is in it, what an import of it does, and what bundlers make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bulla_tests::npm::{Notes, Project, Running, said, target};
use serde_json::Value;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What is imported, as `package.json` has it: the name to import it by, and the file.
fn entries() -> Outcome<Vec<(String, String)>> {
    let manifest = manifest()?;
    let exports = manifest["exports"].as_object().ok_or("no exports")?;
    let entries = exports.iter().filter_map(|(name, export)| {
        let file = export["default"].as_str()?.strip_prefix("./")?;
        is_script(file).then(|| (name.replacen('.', "bulla", 1), file.to_owned()))
    });
    Ok(entries.collect())
}

fn is_script(file: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "js")
}

fn manifest() -> Outcome<Value> {
    let file = target()?.join("package/installed/node_modules/bulla/package.json");
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

#[test]
fn what_is_packed_is_what_is_named_and_nothing_else() -> Outcome {
    let mut wanted: BTreeSet<String> =
        ["package.json", "README.md", "LICENSE-APACHE", "LICENSE-MIT"]
            .map(str::to_owned)
            .into();
    let manifest = manifest()?;
    let exports = manifest["exports"].as_object().ok_or("no exports")?;
    for export in exports.values() {
        let files = match export {
            Value::Object(conditions) => conditions.values().collect(),
            file => vec![file],
        };
        let files = files.into_iter().filter_map(Value::as_str);
        wanted.extend(files.map(|file| file.trim_start_matches("./").to_owned()));
    }
    // What the scripts fetch: at once for a worker, or when it is called.
    wanted.insert("dist/isolated.js".to_owned());
    let later = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm/src/later");
    for file in fs::read_dir(later)? {
        wanted.insert(format!("dist/later/{}", file?.file_name().display()));
    }
    let scripts = wanted.iter().filter(|file| is_script(file));
    let maps: Vec<_> = scripts.map(|script| format!("{script}.map")).collect();
    wanted.extend(maps);

    let folder = target()?.join("package/installed/node_modules/bulla");
    let mut packed = BTreeSet::new();
    list(&folder, &folder, &mut packed)?;
    assert_eq!(packed, wanted);
    Ok(())
}

fn list(root: &Path, folder: &Path, into: &mut BTreeSet<String>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, into)?;
        } else {
            into.insert(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}

#[test]
fn it_brings_no_other_package_and_runs_nothing_when_it_is_installed() -> Outcome {
    let manifest = manifest()?;
    let members = manifest.as_object().ok_or("no object")?;
    for member in ["scripts", "bin", "gypfile", "bundleDependencies"] {
        assert!(!members.contains_key(member), "{member}");
    }
    let dependencies: Vec<_> = members
        .keys()
        .filter(|member| member.to_lowercase().contains("dependencies"))
        .collect();
    assert!(dependencies.is_empty(), "{dependencies:?}");
    Ok(())
}

/// Imports what is named, and tells what that has changed or called.
const IMPORTS: &str = r#"
const calls = [];
for (const [owner, name] of [
  [globalThis, "fetch"], [globalThis, "BroadcastChannel"], [globalThis, "setTimeout"], [globalThis, "setInterval"],
  [WebAssembly, "instantiate"], [WebAssembly, "compile"],
  [crypto.subtle, "generateKey"], [crypto, "getRandomValues"],
]) {
  const original = owner[name];
  owner[name] = function (...given) {
    calls.push(name);
    return Reflect.apply(original, this, given);
  };
}
const state = () => [...Reflect.ownKeys(globalThis).map(String), ...process.getActiveResourcesInfo()];
const before = state();
const exported = {};
for (const entry of process.argv.slice(2)) exported[entry] = Object.keys(await import(entry));
const changes = state().filter((name) => !before.includes(name));
console.log(JSON.stringify({ exported, touched: [...calls, ...changes] }));
"#;

/// What came of importing every entry.
#[derive(serde::Deserialize)]
struct Imported {
    /// The names that each exports.
    exported: BTreeMap<String, Vec<String>>,
    /// What was called, and what is new.
    touched: Vec<String>,
}

fn imported(project: &Project) -> Outcome<Imported> {
    project.write("imports.js", IMPORTS)?;
    let names = entries()?.into_iter().map(|(name, _)| name);
    let told = said(project.node("imports.js").args(names))?;
    Ok(serde_json::from_str(&told)?)
}

#[test]
fn every_entry_can_be_imported_where_there_is_no_window_and_does_nothing() -> Outcome {
    let Imported { exported, touched } = imported(&Project::empty("imports")?)?;
    assert_eq!(exported.len(), entries()?.len());
    assert_eq!(touched, [""; 0]);
    Ok(())
}

#[test]
fn errors_of_one_entry_are_instances_of_anothers_class() -> Outcome {
    let project = Project::empty("errors")?;
    project.write(
        "errors.mjs",
        "import { BullaError } from 'bulla';
         import { BullaError as Other, open } from 'bulla/worker';
         const error = await open({}).catch((error) => error);
         console.log(BullaError === Other, error instanceof BullaError, new Error() instanceof BullaError, error.code);",
    )?;
    let told = said(&mut project.node("errors.mjs"))?;
    assert_eq!(told, "false true false unsupported\n");
    Ok(())
}

#[test]
fn every_entry_exports_what_its_types_say() -> Outcome {
    let project = Project::empty("exports")?;
    let exported = imported(&project)?.exported;
    let checks = exported.iter().enumerate().map(|(at, (entry, names))| {
        // An object that has each of them as a member.
        let object = names.join(": 0, ") + ": 0";
        format!(
            "import * as at{at} from {entry:?};
             ({{ {object} }}) satisfies Record<keyof typeof at{at}, 0>;"
        )
    });
    project.write("checks.ts", &checks.collect::<Vec<_>>().join("\n"))?;
    project.write("tsconfig.json", TYPES)?;
    said(project.tool("typescript/bin/tsc")?.args(["--project", "."]))?;
    Ok(())
}

const TYPES: &str = r#"{
  "compilerOptions": {
    "strict": true, "noEmit": true, "types": [], "target": "es2022", "lib": ["es2022", "dom", "dom.iterable"],
    "module": "esnext", "moduleResolution": "bundler"
  },
  "files": ["checks.ts"]
}"#;

#[test]
fn what_is_not_used_is_left_out_by_bundlers() -> Outcome {
    let project = Project::empty("shaken")?;
    let exported = imported(&project)?.exported;
    for (entry, file) in entries()? {
        let whole = fs::metadata(project.folder().join("node_modules/bulla").join(file))?.len();
        let mut scripts = vec![(format!("import {entry:?};"), 0)];
        if exported[&entry].iter().any(|name| name == "BullaError") {
            let script =
                format!("import {{ BullaError }} from {entry:?}; console.log(BullaError);");
            // What bundlers cannot know to be of no consequence is in it, too, and a little that they add.
            scripts.push((script, (whole / 10).max(1000)));
        }
        for (script, most) in scripts {
            project.write("main.js", &script)?;
            for bundled in [by_esbuild(&project)?, by_vite(&project)?] {
                let length = bundled.trim().len() as u64;
                assert!(
                    length <= most,
                    "{length} of {whole} bytes: {script}\n{bundled}"
                );
                assert_eq!(bundled.contains("BullaError"), most > 0, "{script}");
            }
        }
    }
    Ok(())
}

fn by_esbuild(project: &Project) -> Outcome<String> {
    let mut esbuild = project.tool("esbuild/bin/esbuild")?;
    let options = [
        "--bundle",
        "--minify",
        "--format=esm",
        "--loader:.wasm=file",
    ];
    said(
        esbuild
            .arg("main.js")
            .args(options)
            .arg("--outfile=dist/main.js"),
    )?;
    Ok(fs::read_to_string(project.folder().join("dist/main.js"))?)
}

fn by_vite(project: &Project) -> Outcome<String> {
    project.write("vite.config.js", LIBRARY)?;
    project.vite(&["build"])?;
    Ok(fs::read_to_string(project.folder().join("dist/main.js"))?)
}

const LIBRARY: &str = r#"
export default {
  logLevel: "warn",
  build: { lib: { entry: "main.js", formats: ["es"], fileName: "main" }, minify: true },
};
"#;

#[test]
fn the_examples_in_typescript_compile() -> Outcome {
    for example in ["vite", "react"] {
        let project = Project::of(example, &format!("{example}-types"))?;
        said(project.tool("typescript/bin/tsc")?.args(["--project", "."]))?;
    }
    Ok(())
}

#[test]
fn a_component_is_rendered_on_a_server_that_has_no_session() -> Outcome {
    let project = Project::of("react", "react-server")?;
    project.vite(&["build", "--ssr", "src/App.tsx"])?;
    project.write(
        "render.js",
        "import { renderToString } from \"react-dom/server\";
         import { createElement } from \"react\";
         import { App } from \"./dist/App.js\";
         console.log(renderToString(createElement(App)));",
    )?;
    let html = said(&mut project.node("render.js"))?;
    assert_eq!(html.trim(), r#"<ul></ul><p role="alert"></p>"#);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reads_an_api_as_a_user_of_its_own() -> Outcome {
    let mut notes = Notes::alone(env!("CARGO_BIN_EXE_notes")).await?;
    let project = Project::of("node", "node")?;
    let service = Running::start(project.node("main.js").args([&notes.origin(), "0"]))?;
    let origin = service.until(|line| line.starts_with("http://"))?;
    let report = async || reqwest::get(&origin).await?.text().await;

    assert_eq!(report().await?, r#"{"notes":0}"#);
    let logged_in = ["Opened", "LoginRequired", "LoggedIn", "Opened"];
    assert_eq!(notes.events(), logged_in);
    assert_eq!(report().await?, r#"{"notes":0}"#);
    assert_eq!(notes.events(), logged_in, "it is still logged in");

    notes.stop();
    assert_eq!(report().await?, "network");
    notes.forget()?;
    notes.resume()?;
    assert_eq!(report().await?, r#"{"notes":0}"#);
    assert_eq!(
        notes.events(),
        [
            "TicketInvalid",
            "Opened",
            "LoginRequired",
            "LoggedIn",
            "Opened"
        ]
    );
    Ok(())
}
