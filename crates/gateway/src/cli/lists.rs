//! What was seen of pages, for whoever audits.

use std::io::{self, Write as _};

use bulla_gateway::fields;
use bulla_gateway::inventory::{self, Authorised};

use super::check::manifest;
use super::{Failure, Options};

/// Which scripts browsers have run.
pub(super) fn scripts(options: &Options) -> Result<(), Failure> {
    let config = options.load()?;
    let scripts = inventory::read(&config.inventory_file())?;
    let manifest = manifest(&config)?;
    let authorised = Authorised {
        rules: &config.scripts,
        manifest: manifest.as_ref(),
    };
    print(&inventory::table(&scripts, authorised))
}

/// Which fields pages had.
pub(super) fn fields(options: &Options) -> Result<(), Failure> {
    let config = options.load()?;
    let all = fields::read(&config.fields_file())?;
    print(&fields::table(&all, &config.fields))
}

fn print(table: &str) -> Result<(), Failure> {
    io::stdout().write_all(table.as_bytes())?;
    Ok(())
}
