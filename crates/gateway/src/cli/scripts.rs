//! Which scripts browsers have run.

use std::io::{self, Write as _};

use bulla_gateway::inventory::{self, Authorised};

use super::check::manifest;
use super::{Failure, Options};

pub(super) fn scripts(options: &Options) -> Result<(), Failure> {
    let config = options.load()?;
    let scripts = inventory::read(&config.inventory_file())?;
    let manifest = manifest(&config)?;
    let authorised = Authorised {
        rules: &config.scripts,
        manifest: manifest.as_ref(),
    };
    let table = inventory::table(&scripts, authorised);
    io::stdout().write_all(table.as_bytes())?;
    Ok(())
}
