//! `wasm-bindgen` as a program whose version Cargo.lock holds: `xtask-bindgen <module.wasm> <folder>`.

use std::env;
use std::error::Error;

use walrus::{FunctionBuilder, FunctionKind, Module};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(module), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: xtask-bindgen <module.wasm> <folder>".into());
    };

    let mut output = Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        // As `trap_at_once` knows them.
        .demangle(false)
        // Names and tool versions are dead weight in a browser.
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()?;
    trap_at_once(output.wasm_mut());
    output.emit(folder)?;
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

/// Makes panics trap without a message. On this target messages go nowhere, and a panic ends in a
/// trap all the same; what puts the messages together would be some 3 % of the module.
fn trap_at_once(module: &mut Module) {
    let panics: Vec<_> = module
        .funcs
        .iter_local()
        .filter(|(id, function)| {
            let name = module.funcs.get(*id).name.as_deref().unwrap_or_default();
            let returns_nothing = module.types.results(function.ty()).is_empty();
            returns_nothing && PANICS.iter().any(|panic| name.contains(panic))
        })
        .map(|(id, function)| (id, function.args.clone(), function.ty()))
        .collect();
    for (id, arguments, shape) in panics {
        let parameters = module.types.params(shape).to_vec();
        let mut trap = FunctionBuilder::new(&mut module.types, &parameters, &[]);
        trap.func_body().unreachable();
        module.funcs.get_mut(id).kind = FunctionKind::Local(trap.local_func(arguments));
    }
    // What only they called.
    walrus::passes::gc::run(module);
}
