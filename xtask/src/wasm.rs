use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::gateway;
use crate::node::Node;
use crate::project::{self, Project, cargo_home, say};
use crate::recipe::Package;
use crate::setup;
use crate::size::Sizes;

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the package's `dist` folder, the Wasm module and each script as one file, and says how large
/// they are. What did not change is not built again. The scripts find the module's glue in `build`.
pub(crate) fn build(project: &mut Project) -> Outcome<(Node, Sizes)> {
    if !project
        .recipe
        .tools
        .agrees_with(&fs::read_to_string("Cargo.lock")?)
    {
        return Err("wasm-pack.toml and Cargo.lock differ on the version of wasm-bindgen".into());
    }
    setup::ensure(project, &[&setup::RUST])?;
    let node = Node::set_up(project)?;

    let module = compile(project, &project.recipe.package.name)?;
    let package = Parts::of(&project.recipe.package);
    // How it is made is written here and there.
    let recipe = [
        "wasm-pack.toml",
        "xtask/src/wasm.rs",
        "xtask/bindgen/src/main.rs",
        "xtask/bindgen/src/glue.rs",
    ]
    .map(PathBuf::from);
    let mut files = [&[module.clone()][..], &recipe].concat();
    for folder in [
        package.sources.clone(),
        package.sources.join("later"),
        package.dist.clone(),
    ] {
        files.extend(project::files(folder, "js").unwrap_or_default());
    }
    files.push(package.shipped());
    files.extend(gateway::files()?);
    let work = project.target.join("wasm");
    let stamp = work.join("stamp");
    let seen = fs::read_to_string(&stamp).ok();
    if seen.is_some() && seen == fingerprint(&files).ok() {
        say("npm/dist is up to date");
    } else {
        package.make(project, &node, &module)?;
        gateway::make(
            project,
            &node,
            &package.dist,
            &pin(project, &package.shipped())?,
        )?;
        fs::create_dir_all(&work)?;
        fs::write(&stamp, fingerprint(&files)?)?;
    }

    let sizes = Sizes::measure(
        project,
        &package.shipped(),
        &package.script(MAIN),
        &package.script("sw.js"),
    )?;
    if let Some(beyond) = sizes.beyond(&project.recipe.budget) {
        say(&format!("WARNING: {beyond}"));
    }
    Ok((node, sizes))
}

/// The script that most pages load.
const MAIN: &str = "index.js";

/// The scripts that pages load at once. What few pages call, in `later`, these fetch when it is called.
const PARTED: [&str; 2] = [MAIN, "worker.js"];

/// The other scripts that are published, each of them whole: one file to serve, to check and to keep.
const ENTRIES: [&str; 5] = [
    "inline.js",
    "install.js",
    "isolated.js",
    "register.js",
    "sw.js",
];

/// Where the parts of the npm package lie.
struct Parts {
    /// The hand-kept scripts.
    sources: PathBuf,
    /// What wasm-bindgen makes: the module and its glue, for the scripts.
    build: PathBuf,
    /// What is published.
    dist: PathBuf,
    /// The module's file.
    module: String,
}

impl Parts {
    fn of(package: &Package) -> Self {
        Self {
            sources: package.folder.join("src"),
            build: package.folder.join("build"),
            dist: package.folder.join("dist"),
            module: format!("{}_bg.wasm", package.name.replace('-', "_")),
        }
    }

    /// The module that is published.
    fn shipped(&self) -> PathBuf {
        self.dist.join(&self.module)
    }

    /// A script that is published.
    fn script(&self, entry: &str) -> PathBuf {
        self.dist.join(entry)
    }

    fn make(&self, project: &Project, node: &Node, module: &Path) -> Outcome {
        bind(project, module, &self.build, &["--without-debug"])?;
        let optimised = self.build.join("optimised.wasm");
        let mut optimise = node.tool(project, "wasm-opt");
        optimise.args(&project.recipe.package.wasm_opt);
        optimise.arg(self.build.join(&self.module));
        project::run(optimise.arg("-o").arg(&optimised))?;

        // Nothing of an earlier build goes along, and whoever reads the folder meanwhile finds one or the other.
        let staged = self.dist.with_extension("next");
        if staged.exists() {
            fs::remove_dir_all(&staged)?;
        }
        fs::create_dir_all(&staged)?;
        fs::copy(&optimised, staged.join(&self.module))?;
        let pin = pin(project, &optimised)?;
        let later = project::files(self.sources.join("later"), "js")?;
        let parted = PARTED.map(|entry| self.sources.join(entry));
        let others = ENTRIES.map(|entry| self.sources.join(entry));
        self.join(
            project,
            node,
            &staged,
            &[&parted[..], &later].concat(),
            &["--external:./later/*"],
        )?;
        self.join(project, node, &staged, &others, &[&pin])?;
        self.write_integrity(project, &staged)?;
        if self.dist.exists() {
            fs::remove_dir_all(&self.dist)?;
        }
        fs::rename(staged, &self.dist)?;
        Ok(())
    }

    /// Makes each of `scripts` one file, with all that it imports but what `but` says.
    fn join(
        &self,
        project: &Project,
        node: &Node,
        folder: &Path,
        scripts: &[PathBuf],
        but: &[&str],
    ) -> Outcome {
        let mut join = node.tool(project, "esbuild");
        join.args(scripts)
            .args(but)
            .args(["--bundle", "--minify", "--format=esm", "--target=es2022"])
            // Where nobody catches an error Node prints the line that it is in.
            .arg("--line-limit=4000")
            // The sources are in the map, for whoever reads or debugs what runs.
            .args(["--sourcemap", "--log-level=warning"])
            .args(["--loader:.wasm=base64"])
            // Of the glue, what nobody outside of it names, and what these scripts do not use.
            .arg("--mangle-props=^__(wbg_ptr|destroy_into_raw|wrap)$")
            .arg("--define:Symbol.dispose=undefined")
            .arg(format!("--outbase={}", self.sources.display()))
            .arg(format!("--outdir={}", folder.display()));
        project::run(&mut join)
    }

    /// Writes `integrity.json`: what a page that loads one of the files may hold it to (W3C Subresource Integrity).
    fn write_integrity(&self, project: &Project, folder: &Path) -> Outcome {
        let later = project::files(folder.join("later"), "js")?;
        let files = project::files(folder, "js")?.into_iter().chain(later);
        let members: Vec<_> = files
            .chain([folder.join(&self.module)])
            .map(|file| {
                let integrity = integrity(project, &file)?;
                let file = file.strip_prefix(folder)?.display();
                Ok(format!("  \"{file}\": \"{integrity}\""))
            })
            .collect::<Outcome<_>>()?;
        let json = format!("{{\n{}\n}}\n", members.join(",\n"));
        Ok(fs::write(folder.join("integrity.json"), json)?)
    }
}

/// What a service worker takes for its module, for esbuild.
fn pin(project: &Project, module: &Path) -> Outcome<String> {
    let hash = integrity(project, module)?.replace("sha384-", "");
    Ok(format!("--define:WASM_SHA384=\"{hash}\""))
}

/// The integrity metadata of a file.
pub(crate) fn integrity(project: &Project, file: &Path) -> Outcome<String> {
    const HASH: &str = "const content = require('fs').readFileSync(process.argv[1]);
        console.log(require('crypto').createHash('sha384').update(content).digest('base64'))";
    let mut node = project.command("node");
    let hash = project::ask(node.args(["-e", HASH, "--"]).arg(file));
    Ok(format!(
        "sha384-{}",
        hash.ok_or("Node could not hash the package's files")?
    ))
}

/// Builds the module that runs the test vectors in browsers, with its glue, into `vectors` in the
/// target folder.
pub(crate) fn build_vectors(project: &Project) -> Outcome {
    let module = compile(project, "bulla-vectors")?;
    bind(project, &module, &project.target.join("vectors"), &[])
}

/// As `.cargo/config.toml` has it for xtask. With any other one cargo would build anew what both stand on,
/// back and forth.
pub(crate) const LINKER: &str = "target.'cfg(target_os = \"linux\")'.linker = 'xtask/cc'";

/// Writes a module's glue, and the module as the glue wants it.
fn bind(project: &Project, module: &Path, folder: &Path, options: &[&str]) -> Outcome {
    fs::create_dir_all(folder)?;
    let mut bindgen = project.cargo(&["run", "--config", LINKER, "--profile", "xtask"]);
    bindgen.args(["--package", "xtask-bindgen"]);
    project::run(bindgen.arg("--").arg(module).arg(folder).args(options))
}

/// Compiles a crate and gives the module's file.
fn compile(project: &Project, name: &str) -> Outcome<PathBuf> {
    let package = &project.recipe.package;
    let mut build = project.cargo(&["build", "--lib", "--target", TARGET]);
    build.args(["--package", name, "--profile", &package.profile]);

    // Panic messages name source files: the same ones wherever the package is built.
    let sources = cargo_home().map(|home| (home.join("registry/src"), "crates"));
    let root = env::current_dir().ok().map(|root| (root, "bulla"));
    let mut flags: Vec<_> = sources
        .into_iter()
        .chain(root)
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    // SHA-256 as a loop, not unrolled: less code.
    flags.push("--cfg=sha2_backend_soft=\"compact\"".to_owned());
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));

    project::run(&mut build)?;
    let name = format!("{}.wasm", name.replace('-', "_"));
    Ok(project
        .target
        .join(TARGET)
        .join(&package.profile)
        .join(name))
}

/// A value that changes with the content of any of `files`.
fn fingerprint(files: &[impl AsRef<Path>]) -> Outcome<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
