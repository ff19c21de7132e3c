//! The identity, which clients pin.

use std::fs;
use std::path::PathBuf;

use bulla_gateway::config::{Config, Overrides};
use bulla_server::Identity;

use super::{Failure, State, usual_file};

pub(super) fn keygen(state: &State) -> Result<(), Failure> {
    let identity = Identity::load_or_create(state.identity()?)?;
    println!("{}", identity.thumbprint());
    Ok(())
}

pub(super) fn thumbprint(state: &State) -> Result<(), Failure> {
    // Whoever asks what is pinned wants to know that nothing is.
    println!("{}", state.existing()?.thumbprint());
    Ok(())
}

impl State {
    /// The identity, which has to be there.
    pub(super) fn existing(&self) -> Result<Identity, Failure> {
        let path = self.identity()?;
        fs::metadata(&path).map_err(|error| {
            let path = path.display();
            format!("{path} cannot be read: {error}; `bulla-gateway keygen` makes one")
        })?;
        Ok(Identity::load_or_create(&path)?)
    }

    fn identity(&self) -> Result<PathBuf, Failure> {
        let file = self.config.as_deref().or_else(|| usual_file());
        let over = Overrides {
            state: self.state.clone(),
            // Of no interest here.
            upstreams: vec![http::Uri::from_static("http://127.0.0.1")],
            ..Overrides::default()
        };
        let file = file.filter(|_| self.state.is_none());
        Ok(Config::load(file, &over)?.identity_file())
    }
}
