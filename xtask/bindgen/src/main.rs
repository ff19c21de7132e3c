//! `wasm-bindgen` as a program whose version Cargo.lock holds: `xtask-bindgen <module.wasm> <folder>`.

use std::env;
use std::error::Error;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(module), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: xtask-bindgen <module.wasm> <folder>".into());
    };

    Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(true)
        // Names and tool versions are dead weight in a browser.
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(folder)?;
    Ok(())
}
