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
    let glue = passed_at_once(&glue).unwrap_or(glue);
    let glue = taken_at_once(&glue).unwrap_or(glue);
    let glue = untyped(&read_at_once(&glue));
    let glue = shared(glue);
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

/// What writes a string into the module's memory. Nearly all of ours are ASCII, for which the platform's encoder, with a
/// buffer that it makes, takes several times as long.
const PASSED: &str = "    const bytes = /[^\\0-\\x7f]/.test(arg) && cachedTextEncoder.encode(arg);
    const { length } = bytes || arg;
    const ptr = malloc(length, 1) >>> 0;
    const memory = getUint8ArrayMemory0();
    for (let at = 0; at < length; at += 1) memory[ptr + at] = bytes ? bytes[at] : arg.charCodeAt(at);
    WASM_VECTOR_LEN = length;
    return ptr;
}
";

/// Puts that in the place of the glue's two ways to do it.
fn passed_at_once(glue: &str) -> Option<String> {
    let (before, ways) = glue.split_once("    if (realloc === undefined) {\n")?;
    let (_, after) = ways.split_once("\n}\n")?;
    let glue = [before, PASSED, after].concat();
    Some(glue.replace(", wasm.__wbindgen_realloc)", ")"))
}

/// Copies bytes out of the module's memory without a view of them in between, and gives them back to the module there
/// and not after each call.
fn taken_at_once(glue: &str) -> Option<String> {
    const VIEW: &str = "    return getUint8ArrayMemory0().subarray(ptr / 1, ptr / 1 + len);\n";
    const COPY: &str = "    const copy = getUint8ArrayMemory0().slice(ptr, ptr + len);
    wasm.__wbindgen_free(ptr, len, 1);
    return copy;
";
    const COPIED: &str = "(ret[0], ret[1]).slice();\n";
    const FREED: &str = "wasm.__wbindgen_free(ret[0], ret[1] * 1, 1);";
    let (before, after) = glue.split_once(VIEW)?;
    let glue = [before, COPY, after].concat();
    let mut calls = glue.split(COPIED);
    let mut taken = calls.next()?.to_owned();
    for behind in calls {
        // All of them, or memory would be given back twice.
        let rest = behind.trim_start().strip_prefix(FREED)?;
        taken.extend(["(ret[0], ret[1]);", rest]);
    }
    Some(taken)
}

/// Gives back to the module a string's memory where it is read, and not after each call.
fn read_at_once(glue: &str) -> String {
    const READ: &str = "getStringFromWasm0(ret[0], ret[1]);\n";
    const TAKEN: &str = "takenString(ret[0], ret[1]);\n";
    const TAKE: &str = "function takenString(ptr, len) {
    const text = getStringFromWasm0(ptr, len);
    wasm.__wbindgen_free(ptr, len, 1);
    return text;
}
";
    let optional = format!("{READ}            wasm.__wbindgen_free(ret[0], ret[1] * 1, 1);\n");
    let mut read = String::with_capacity(glue.len());
    let mut lines = glue.lines().peekable();
    // Within what the glue guards so.
    let mut is_guarded = false;
    while let Some(line) = lines.next() {
        let next = lines.peek().map_or("", |next| next.trim());
        match line.trim() {
            one if one.starts_with("let deferred") => {
                is_guarded = true;
                lines.next_if(|_| next == "try {");
            }
            one if is_guarded
                && (one.starts_with("deferred")
                    || one.starts_with("ptr") && one.contains("= 0; len")) => {}
            "} finally {" if next.starts_with("wasm.__wbindgen_free(deferred") => {
                is_guarded = false;
                // The call, and the end of it.
                lines.nth(1);
            }
            one if is_guarded => {
                let indent = &line[..line.len() - one.len()];
                let one = one.replace("return getStringFromWasm0(", "return takenString(");
                read.extend([indent, &one, "\n"]);
            }
            _ => read.extend([line, "\n"]),
        }
    }
    let read = read.replace(&optional, TAKEN);
    if read.contains("takenString(") {
        read + TAKE
    } else {
        read
    }
}

/// Drops what makes a number of a number or a boolean, which a call into the module does, too, and what checks that an
/// object is of its class, for the reason that [`unguarded`] has.
fn untyped(glue: &str) -> String {
    let cast = |line: &str| -> Option<(String, String)> {
        let (value, name) = line.trim().strip_prefix("const ")?.split_once(" = +")?;
        // With one digit: else it would be another one's beginning.
        let is_one = value.len() == 4 && value.starts_with("val");
        is_one.then(|| Some((value.to_owned(), name.strip_suffix(';')?.to_owned())))?
    };
    let mut untyped = String::with_capacity(glue.len());
    let mut casts = Vec::new();
    for line in glue.lines() {
        if line.trim().starts_with("_assertClass(") {
            continue;
        }
        if let Some(cast) = cast(line) {
            casts.push(cast);
            continue;
        }
        // The end of a method or of a function.
        if matches!(line, "    }" | "}") {
            casts.clear();
        }
        let plain = casts.iter().fold(line.to_owned(), |line, (value, name)| {
            line.replace(value, name)
        });
        untyped.extend([&plain, "\n"]);
    }
    untyped
}

/// What [`shared`] gives to all classes.
const OWNED: &str = "
const finalization = new FinalizationRegistry(([free, ptr]) => free(ptr, 1));

class Owned {
    static __wrap(ptr) {
        const obj = Object.create(this.prototype);
        obj.__wbg_ptr = ptr;
        finalization.register(obj, [this.free, ptr], obj);
        return obj;
    }
    __destroy_into_raw() {
        const ptr = this.__wbg_ptr;
        this.__wbg_ptr = 0;
        finalization.unregister(this);
        return ptr;
    }
    free() {
        this.constructor.free(this.__destroy_into_raw(), 0);
    }
}
";

/// Lets all classes share how their objects come and go, which the glue spells out in each.
fn shared(mut glue: String) -> String {
    const FINALIZATION: &str = "Finalization = new FinalizationRegistry(ptr => wasm.";
    let class_of = |line: &str| -> Option<(String, String)> {
        let (class, free) = line.strip_prefix("const ")?.split_once(FINALIZATION)?;
        Some((
            class.to_owned(),
            free.strip_suffix("(ptr, 1));")?.to_owned(),
        ))
    };
    let classes: Vec<_> = glue.lines().filter_map(class_of).collect();
    if classes.is_empty() {
        return glue;
    }
    for (class, free) in &classes {
        let wrap = format!(
            "    static __wrap(ptr) {{
        const obj = Object.create({class}.prototype);
        obj.__wbg_ptr = ptr;
        {class}Finalization.register(obj, obj.__wbg_ptr, obj);
        return obj;
    }}
"
        );
        let end = format!(
            "    __destroy_into_raw() {{
        const ptr = this.__wbg_ptr;
        this.__wbg_ptr = 0;
        {class}Finalization.unregister(this);
        return ptr;
    }}
    free() {{
        const ptr = this.__destroy_into_raw();
        wasm.{free}(ptr, 0);
    }}
"
        );
        let made = |of: &str| {
            format!(
                "this.__wbg_ptr = {of};
        {class}Finalization.register(this, this.__wbg_ptr, this);
        return this;"
            )
        };
        let wrapped = |of: &str| format!("return {class}.__wrap({of});");
        let own = format!("    static free = (ptr, flag) => wasm.{free}(ptr, flag);\n");
        for (long, short) in [
            (wrap, String::new()),
            (end, own),
            (made("ret"), wrapped("ret")),
            (made("ret[0]"), wrapped("ret[0]")),
            (
                format!("class {class} {{"),
                format!("class {class} extends Owned {{"),
            ),
            (
                format!("const {class}{FINALIZATION}{free}(ptr, 1));\n"),
                String::new(),
            ),
        ] {
            glue = glue.replace(&long, &short);
        }
    }
    OWNED.to_owned() + &glue
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
    prove(id, key, isShort) {
        _assertClass(id, Id);
        const val2 = +isShort;
        let ptr0, len0, ptr1, len1;
        try {
            ptr0 = pass(id, wasm.__malloc, wasm.__wbindgen_realloc);
            ptr1 = pass(key, wasm.__malloc);
        } catch (e) {
            if (ptr1) { wasm.__free(ptr1, len1); }
            if (ptr0) { wasm.__free(ptr0, len0); }
            throw e;
        }
        try {
            return text(wasm.outgoing_prove(ptr0, ptr1, val2));
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
function copy(ptr, len) {
    return getUint8ArrayMemory0().subarray(ptr / 1, ptr / 1 + len);
}
function base() {
    var v1 = copy(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 1, 1);
}
    get id() {
        let deferred1_0;
        let deferred1_1;
        try {
            const ret = wasm.id();
            deferred1_0 = ret[0];
            deferred1_1 = ret[1];
            return getStringFromWasm0(ret[0], ret[1]);
        } finally {
            wasm.__wbindgen_free(deferred1_0, deferred1_1, 1);
        }
    }
    get ticket() {
            v1 = getStringFromWasm0(ret[0], ret[1]);
            wasm.__wbindgen_free(ret[0], ret[1] * 1, 1);
    }
function thumbprint() {
    let deferred2_0;
    let deferred2_1;
    try {
        const ret = wasm.id();
        var ptr1 = ret[0];
        var len1 = ret[1];
        if (ret[3]) {
            ptr1 = 0; len1 = 0;
            throw takeFromExternrefTable0(ret[2]);
        }
        deferred2_0 = ptr1;
        deferred2_1 = len1;
        return getStringFromWasm0(ptr1, len1);
    } finally {
        wasm.__wbindgen_free(deferred2_0, deferred2_1, 1);
    }
}
        __throw_4c88d8: function(arg0) {";

    const SLIM: &str = "
    prove(id, key, isShort) {
        let ptr0, len0, ptr1, len1;
            ptr0 = pass(id, wasm.a);
            ptr1 = pass(key, wasm.a);
        try {
            return text(wasm.c(ptr0, ptr1, isShort));
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
    const bytes = /[^\\0-\\x7f]/.test(arg) && cachedTextEncoder.encode(arg);
    const { length } = bytes || arg;
    const ptr = malloc(length, 1) >>> 0;
    const memory = getUint8ArrayMemory0();
    for (let at = 0; at < length; at += 1) memory[ptr + at] = bytes ? bytes[at] : arg.charCodeAt(at);
    WASM_VECTOR_LEN = length;
    return ptr;
}
function copy(ptr, len) {
    const copy = getUint8ArrayMemory0().slice(ptr, ptr + len);
    wasm.__wbindgen_free(ptr, len, 1);
    return copy;
}
function base() {
    var v1 = copy(ret[0], ret[1]);
}
    get id() {
            const ret = wasm.id();
            return takenString(ret[0], ret[1]);
    }
    get ticket() {
            v1 = takenString(ret[0], ret[1]);
    }
function thumbprint() {
        const ret = wasm.id();
        var ptr1 = ret[0];
        var len1 = ret[1];
        if (ret[3]) {
            throw takeFromExternrefTable0(ret[2]);
        }
        return takenString(ptr1, len1);
}
d: function(arg0) {
function takenString(ptr, len) {
    const text = getStringFromWasm0(ptr, len);
    wasm.__wbindgen_free(ptr, len, 1);
    return text;
}
";

    const CLASS: &str = "export class Head {
    static __wrap(ptr) {
        const obj = Object.create(Head.prototype);
        obj.__wbg_ptr = ptr;
        HeadFinalization.register(obj, obj.__wbg_ptr, obj);
        return obj;
    }
    __destroy_into_raw() {
        const ptr = this.__wbg_ptr;
        this.__wbg_ptr = 0;
        HeadFinalization.unregister(this);
        return ptr;
    }
    free() {
        const ptr = this.__destroy_into_raw();
        wasm.__head_free(ptr, 0);
    }
    constructor(status) {
        const ret = wasm.head_new(status);
        this.__wbg_ptr = ret[0];
        HeadFinalization.register(this, this.__wbg_ptr, this);
        return this;
    }
}
const HeadFinalization = (typeof FinalizationRegistry === 'undefined')
    ? { register: () => {}, unregister: () => {} }
    : new FinalizationRegistry(ptr => wasm.__head_free(ptr, 1));
";

    const SHORT_CLASS: &str = "export class Head extends Owned {
    static free = (ptr, flag) => wasm.a(ptr, flag);
    constructor(status) {
        const ret = wasm.head_new(status);
        return Head.__wrap(ret[0]);
    }
}
";

    #[test]
    fn only_what_guards_arguments_goes_and_names_are_changed() {
        let names = ["__malloc", "__free", "outgoing_prove", "__throw_4c88d8"];
        let names = names.into_iter().zip(0..);
        let names = names.map(|(name, at)| (name.to_owned(), letters(at)));
        assert_eq!(slimmed(GLUE, &names.collect()), SLIM);
    }

    #[test]
    fn classes_share_what_they_have_in_common() {
        let names = HashMap::from([("__head_free".to_owned(), letters(0))]);
        assert_eq!(slimmed(CLASS, &names), OWNED.to_owned() + SHORT_CLASS);
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
