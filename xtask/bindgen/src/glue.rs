//! What the glue does for everyone, and our scripts do not need.

use std::collections::HashMap;

use walrus::Module;

/// Gives whatever goes in and out of the module a name of a letter or two, but the memory, which tests look into. The
/// glue alone goes by these names, and the long ones would be a tenth of the package's script. Returns the new names
/// by the old.
pub(crate) fn shorten_names(module: &mut Module) -> HashMap<String, String> {
    let exports = module.exports.iter_mut().map(|export| &mut export.name);
    let imports = module.imports.iter_mut().map(|import| &mut import.name);
    exports
        .chain(imports)
        .filter(|name| *name != "memory")
        .zip(0..)
        .map(|(name, at)| (std::mem::replace(name, letters(at)), letters(at)))
        .collect()
}

/// A number, written in letters.
fn letters(number: u32) -> String {
    let last = char::from_digit(10 + number % 26, 36).unwrap_or_default();
    match number / 26 {
        0 => last.to_string(),
        rest => letters(rest - 1) + &last.to_string(),
    }
}

/// The glue, with what it calls in the module, and what the module calls in it, by the new names, and without what
/// [`unguarded`] drops and what is for engines that are older than these scripts can be.
pub(crate) fn slimmed(glue: &str, names: &HashMap<String, String>) -> String {
    const UNLESS_OLD: &str = "(typeof FinalizationRegistry === 'undefined')
    ? { register: () => {}, unregister: () => {} }
    : ";
    let glue = glue.replace(UNLESS_OLD, "");
    let glue = encoded_at_once(&glue).unwrap_or(glue);
    let lines = unguarded(glue.lines());
    let lines = lines.into_iter().map(|line| renamed(line, names) + "\n");
    lines.collect()
}

fn renamed(line: &str, names: &HashMap<String, String>) -> String {
    const CALL: &str = "wasm.";
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    // What the module calls: a member of an object.
    if let Some((name, function)) = line.trim_start().split_once(": function(")
        && let Some(name) = names.get(name)
    {
        return format!("{name}: function({function}");
    }
    let mut parts = line.split(CALL);
    let mut renamed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character| !is_part(character));
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        let name = names.get(name).map_or(name, String::as_str);
        renamed.extend([CALL, name, rest]);
    }
    renamed
}

/// Takes the shorter of the two ways by which the glue writes a string into the module's memory. The other one saves
/// some time where strings are long, and ours are header fields.
fn encoded_at_once(glue: &str) -> Option<String> {
    const DONE: &str = "        return ptr;\n";
    let (before, ways) = glue.split_once("    if (realloc === undefined) {\n")?;
    let (short, long) = ways.split_once(DONE)?;
    let (_, after) = long.split_once("\n}\n")?;
    Some([before, short, DONE, "}\n", after].concat())
}

/// Drops what gives back the memory of the arguments before one that is of a wrong type. TypeScript checks the types of
/// ours, and it would be a fiftieth of the script.
fn unguarded<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        let frees = |line: &&str| line.trim().starts_with("if (ptr") || line.trim() == "throw e;";
        if line.trim() != "} catch (e) {" || !lines.peek().is_some_and(frees) {
            kept.push(line);
            continue;
        }
        // The end of it, and where it begins.
        lines.by_ref().find(|line| line.trim() == "}");
        if let Some(begin) = kept.iter().rposition(|line| line.trim() == "try {") {
            kept.remove(begin);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLUE: &str = "
    prove(id, key) {
        let ptr0, len0, ptr1, len1;
        try {
            ptr0 = pass(id, wasm.__malloc);
            ptr1 = pass(key, wasm.__malloc);
        } catch (e) {
            if (ptr1) { wasm.__free(ptr1, len1); }
            if (ptr0) { wasm.__free(ptr0, len0); }
            throw e;
        }
        try {
            return text(wasm.outgoing_prove(ptr0, ptr1));
        } finally {
            wasm.__free(ptr0);
        }
    }
    load() {
        try {
            return wasm.memory;
        } catch (e) {
            if (isFine) {
                return wasm;
            }
        }
    }
function pass(arg, malloc, realloc) {
    if (realloc === undefined) {
        const buf = encode(arg);
        return ptr;
    }
    for (;;) {
    }
    return ptr;
}
const finalization = (typeof FinalizationRegistry === 'undefined')
    ? { register: () => {}, unregister: () => {} }
    : new FinalizationRegistry(ptr => wasm.__free(ptr, 1));
        __throw_4c88d8: function(arg0) {";

    const SLIM: &str = "
    prove(id, key) {
        let ptr0, len0, ptr1, len1;
            ptr0 = pass(id, wasm.a);
            ptr1 = pass(key, wasm.a);
        try {
            return text(wasm.c(ptr0, ptr1));
        } finally {
            wasm.b(ptr0);
        }
    }
    load() {
        try {
            return wasm.memory;
        } catch (e) {
            if (isFine) {
                return wasm;
            }
        }
    }
function pass(arg, malloc, realloc) {
        const buf = encode(arg);
        return ptr;
}
const finalization = new FinalizationRegistry(ptr => wasm.b(ptr, 1));
d: function(arg0) {
";

    #[test]
    fn only_what_guards_arguments_goes_and_names_are_changed() {
        let names = ["__malloc", "__free", "outgoing_prove", "__throw_4c88d8"];
        let names = names.into_iter().zip(0..);
        let names = names.map(|(name, at)| (name.to_owned(), letters(at)));
        assert_eq!(slimmed(GLUE, &names.collect()), SLIM);
    }

    #[test]
    fn no_two_numbers_have_the_same_letters() {
        assert_eq!(
            [0, 25, 26, 51, 52].map(letters),
            ["a", "z", "aa", "az", "ba"]
        );
        let all: std::collections::BTreeSet<_> = (0..1000).map(letters).collect();
        assert_eq!(all.len(), 1000);
    }
}
