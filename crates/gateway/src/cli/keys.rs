//! The identity, which clients pin.

use std::fs;
use std::path::{Path, PathBuf};

use bulla_gateway::config::{Config, Overrides};
use bulla_server::Identity;

use super::{Failure, State, usual_file};

pub(super) fn keygen(state: &State) -> Result<(), Failure> {
    print_of(&state.identity()?)
}

pub(super) fn thumbprint(state: &State) -> Result<(), Failure> {
    let path = state.identity()?;
    // Whoever asks what is pinned wants to know that nothing is.
    fs::metadata(&path).map_err(|error| {
        let path = path.display();
        format!("{path} cannot be read: {error}; `bulla-gateway keygen` makes one")
    })?;
    print_of(&path)
}

fn print_of(path: &Path) -> Result<(), Failure> {
    println!("{}", Identity::load_or_create(path)?.thumbprint());
    Ok(())
}

impl State {
    fn identity(&self) -> Result<PathBuf, Failure> {
        let file = self.config.as_deref().or_else(|| usual_file());
        let over = Overrides {
            state: self.state.clone(),
            // Of no interest here.
            upstreams: vec![http::Uri::from_static("http://127.0.0.1")],
            ..Overrides::default()
        };
        let file = file.filter(|_| self.state.is_none());
        Ok(Config::load(file, &over)?.identity())
    }
}
