use std::fs;

use crate::Outcome;
use crate::project::{self, Project};
use crate::wasm;

const PAGE: &str = "docs/attacks.md";

/// What compares the page with the rows of the tests, in each program that has some.
const TEST: &str = "the_table_of_attacks_is_what_the_tests_say";

/// Writes the parts of the page anew, each from the rows of its test program; and then what is counted of all of them.
///
/// None of the attacks is carried out.
pub(crate) fn write(project: &mut Project) -> Outcome {
    // Test programs serve what this builds.
    wasm::build(project)?;
    let page = fs::read_to_string(PAGE)?;
    let parts = parts(&page);
    for parts in [&parts[..], &["table_of_attacks"]] {
        let mut test = project.cargo(&["test", "--package", "bulla-tests"]);
        for program in parts {
            test.args(["--test", program]);
        }
        test.arg(TEST).env("BULLA_ATTACKS", "write");
        project::run(&mut test)?;
    }
    Ok(())
}

/// The test programs that have a part of the page.
fn parts(page: &str) -> Vec<&str> {
    let marks = page
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- begin: "));
    let names = marks.filter_map(|rest| rest.strip_suffix(" -->"));
    names.filter(|name| *name != "names").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_that_the_page_has() {
        let page =
            "<!-- begin: names -->\n<!-- end: names -->\n<!-- begin: attack_http -->\ntext\n";
        assert_eq!(parts(page), ["attack_http"]);
    }
}
