//! Fuzz target: configuration files.

use std::path::Path;

use super::{Config, ConfigError, Environment, Loaded, layers, merge};

fn load(text: &str) -> Result<Loaded, ConfigError> {
    merge(layers::of_text(Path::new("mirror.toml"), text)?, &Environment::default(), &[])
}

/// The text of a configuration file.
///
/// # Panics
/// When an accepted configuration is not accepted as it prints, or an error has no text.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that a configuration names are read: not those that a fuzzer invents.
    if text.contains("_file") || text.contains("\\u") || text.contains("\\U") || text.contains("\\x") {
        return;
    }
    match load(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(loaded) => {
            let printed = toml::to_string(&loaded.config).expect("a configuration serialises");
            let again: Config = toml::from_str(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            // Secrets are masked where they are printed.
            assert!(again == loaded.config || printed.contains("***"), "{printed}");
        }
    }
}
