//! The documentation's JavaScript and TypeScript: all of it compiles, and what is JavaScript in
//! `docs/browser.md` runs, in Node against the example server.
#![allow(clippy::unwrap_used, clippy::panic)] // in tests a surprise may panic

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::Program;
use tempfile::TempDir;

const PAGES: [(&str, &str); 7] = [
    ("browser", include_str!("../../docs/browser.md")),
    ("events", include_str!("../../docs/events.md")),
    ("isolation", include_str!("../../docs/isolation.md")),
    ("npm", include_str!("../../npm/README.md")),
    ("patching", include_str!("../../docs/patching.md")),
    ("readme", include_str!("../../README.md")),
    (
        "service-worker",
        include_str!("../../docs/service-worker.md"),
    ),
];

/// What examples take from around them.
const AROUND: &str = r#"
declare const order: { to: string; amount: number };
declare module "bulla/wasm" {
  const url: string;
  export default url;
}
declare module "vite" {
  function defineConfig(config: {
    build: { rollupOptions: { input: string[]; output: { entryFileNames(chunk: { name: string }): string } } };
  }): object;
}
interface Naming {
  createPolicy(name: string, rules: { createScriptURL: (url: string) => string }): {
    createScriptURL(url: string): string;
  };
}
declare var trustedTypes: Naming | undefined;
"#;

struct Snippet {
    name: String,
    runs: bool,
    code: String,
}

/// The fenced blocks of `js` and `ts`. Those of `js` in the page on the browser are run.
fn snippets() -> Vec<Snippet> {
    let mut snippets = Vec::new();
    for (page, text) in PAGES {
        for (at, block) in text.split("```").skip(1).step_by(2).enumerate() {
            let (language, code) = block.split_once('\n').unwrap();
            if matches!(language, "js" | "ts") {
                snippets.push(Snippet {
                    name: format!("{page}-{at}"),
                    runs: page == "browser" && language == "js",
                    code: code.to_owned(),
                });
            }
        }
    }
    snippets
}

/// A folder in which the package is installed.
fn installed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm");
    assert!(
        package.join("dist/bulla_web_bg.wasm").exists(),
        "`cargo xtask wasm` builds the package"
    );
    fs::create_dir(folder.path().join("node_modules")).unwrap();
    symlink(package, folder.path().join("node_modules/bulla")).unwrap();
    folder
}

/// Runs Node, and gives what it has printed.
fn node(folder: &TempDir, script: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("node")
        .arg(script)
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .expect("Node is installed; `cargo xtask` sees to that");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // A failed `console.assert` is said, and is no failure to Node.
    let is_fine = output.status.success() && !said.contains("Assertion failed");
    is_fine.then_some(()).ok_or(said)
}

#[test]
fn all_compile() {
    let folder = installed();
    for Snippet { name, code, .. } in snippets() {
        // A module of its own, even if it imports nothing.
        let code = format!("{code}\nexport {{}};\n");
        fs::write(folder.path().join(format!("{name}.mts")), code).unwrap();
    }
    fs::write(folder.path().join("around.d.ts"), AROUND).unwrap();
    let config = r#"{
      "compilerOptions": {
        "strict": true, "noEmit": true, "skipLibCheck": false, "types": [],
        "target": "es2022", "lib": ["es2022", "dom", "dom.iterable"],
        "module": "esnext", "moduleResolution": "bundler",
        "paths": { "/bulla/*.js": ["./node_modules/bulla/*.d.ts"] }
      }
    }"#;
    compile(&folder, config);
}

#[test]
fn the_packages_own_scripts_agree_with_the_module_and_with_its_codes() {
    let folder = installed();
    // Not by way of `node_modules`, where the compiler takes a script's word for it.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm/src");
    let sources = sources.to_str().unwrap();
    let config = r#"{
      "compilerOptions": {
        "strict": true, "noImplicitAny": false, "allowJs": true, "checkJs": true, "noEmit": true, "types": [],
        "target": "es2022", "lib": ["es2022", "dom", "dom.iterable", "esnext.disposable"],
        "module": "esnext", "moduleResolution": "bundler"
      },
      "files": [
        "SOURCES/index.js", "SOURCES/inline.js", "SOURCES/install.js", "SOURCES/worker.js", "SOURCES/isolated.js", "SOURCES/files.d.ts"
      ]
    }"#;
    compile(&folder, &config.replace("SOURCES", sources));
}

/// Runs the TypeScript compiler with this configuration.
fn compile(folder: &TempDir, config: &str) {
    fs::write(folder.path().join("tsconfig.json"), config).unwrap();
    // Beside the folder of the tests' own files.
    let tools = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../tools/npm");
    let compiler = tools.join("node_modules/typescript/bin/tsc");
    assert!(compiler.exists(), "`cargo xtask wasm` installs TypeScript");
    if let Err(said) = node(folder, &compiler, &["--project", "."]) {
        panic!("{said}");
    }
}

#[test]
fn what_is_javascript_runs() {
    let folder = installed();
    let mut ran = 0;
    for Snippet { name, runs, code } in snippets() {
        if !runs {
            continue;
        }
        let keys = tempfile::tempdir().unwrap();
        let server = Program::start(
            env!("CARGO_BIN_EXE_with-axum"),
            &[keys.path().to_str().unwrap()],
        );
        let script = folder.path().join(format!("{name}.mjs"));
        fs::write(
            &script,
            code.replace("https://bank.example", &server.origin),
        )
        .unwrap();
        if let Err(said) = node(&folder, &script, &[]) {
            panic!("{name}: {said}\n{code}");
        }
        ran += 1;
    }
    assert!(ran >= 3, "the examples are found");
}
