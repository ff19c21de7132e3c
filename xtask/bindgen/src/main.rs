//! `wasm-bindgen` as a program whose version Cargo.lock holds: `xtask-bindgen <module.wasm> <folder> [--without-debug]`.

mod glue;

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use walrus::{FunctionBuilder, FunctionKind, Module};
use wasm_bindgen_cli_support::{Bindgen, EncodeInto};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = env::args_os().skip(1).collect();
    let without_debug = arguments.pop_if(|last| last == "--without-debug").is_some();
    let [module, folder] = &arguments[..] else {
        return Err("usage: xtask-bindgen <module.wasm> <folder> [--without-debug]".into());
    };

    let name = Path::new(module)
        .file_stem()
        .ok_or("the module has no name")?
        .to_owned();
    let mut output = Bindgen::new()
        .input_path(module)
        .web(true)?
        .encode_into(EncodeInto::Always)
        .typescript(true)
        // As `trap_at_once` knows them.
        .demangle(false)
        // Names and tool versions are dead weight in a browser.
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()?;
    trap_at_once(output.wasm_mut(), without_debug);
    let names = glue::shorten_names(output.wasm_mut());
    output.emit(folder)?;
    let glue = Path::new(folder).join(name);
    let script = glue.with_extension("js");
    fs::write(
        &script,
        glue::slimmed(&fs::read_to_string(&script)?, &names),
    )?;
    export_parts(&glue)
}

/// Lets the package's own script load the module. The glue's loader is for everyone, and ten times as long.
fn export_parts(glue: &Path) -> Result<(), Box<dyn Error>> {
    const SCRIPT: &str =
        "\nexport { __wbg_get_imports as imports, __wbg_finalize_init as begin };\n";
    const TYPES: &str = "\nexport function imports(): WebAssembly.Imports;
export function begin(instance: WebAssembly.Instance): InitOutput;\n";
    for (extension, parts) in [("js", SCRIPT), ("d.ts", TYPES)] {
        let file = glue.with_extension(extension);
        fs::write(&file, fs::read_to_string(&file)? + parts)?;
    }
    Ok(())
}

/// Parts of the mangled names of functions that put a panic's message together and do not return.
const PANICS: [&str; 13] = [
    "17rust_begin_unwind",
    "4core9panicking",
    "4core4cell22panic_already_borrowed",
    "4core4cell30panic_already_mutably_borrowed",
    "4core6option13expect_failed",
    "4core6option13unwrap_failed",
    "4core6result13unwrap_failed",
    "16slice_error_fail",
    "16slice_index_fail",
    "17len_mismatch_fail",
    "5alloc5alloc18handle_alloc_error",
    "5alloc7raw_vec12handle_error",
    "5alloc7raw_vec17capacity_overflow",
];

/// Parts of the mangled names of functions that write values for developers. In the package's module only panics'
/// messages have such values in them: its crates are checked with `clippy::use_debug` denied.
const DEBUG: [&str; 3] = [
    "5Debug3fmt",
    "core..fmt..Debug$GT$3fmt",
    "4core3fmt8builders",
];

/// Makes panics trap without a message. On this target messages go nowhere, and a panic ends in a
/// trap all the same; what puts the messages together would be some 6 % of the module.
fn trap_at_once(module: &mut Module, without_debug: bool) {
    let has_part = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let panics: Vec<_> = module
        .funcs
        .iter_local()
        .filter(|(id, function)| {
            let name = module.funcs.get(*id).name.as_deref().unwrap_or_default();
            let returns_nothing = module.types.results(function.ty()).is_empty();
            returns_nothing && has_part(name, &PANICS) || without_debug && has_part(name, &DEBUG)
        })
        .map(|(id, function)| (id, function.args.clone(), function.ty()))
        .collect();
    for (id, arguments, shape) in panics {
        let (parameters, results) = module.types.params_results(shape);
        let (parameters, results) = (parameters.to_vec(), results.to_vec());
        let mut trap = FunctionBuilder::new(&mut module.types, &parameters, &results);
        trap.func_body().unreachable();
        module.funcs.get_mut(id).kind = FunctionKind::Local(trap.local_func(arguments));
    }
    // What only they called.
    walrus::passes::gc::run(module);
}
