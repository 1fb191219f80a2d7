//! `wasi:config/store`: the module's own configuration, from `[config]` in its `.toml`.

use super::bindings::wasi::config::store::{Error, Host as Configured};
use crate::host::Host;

impl Configured for Host {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        Ok(self.settings.config.get(&key).cloned())
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.settings.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
