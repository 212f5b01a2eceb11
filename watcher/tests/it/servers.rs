//! Real servers, private to the test run: Debian's own Apache, PHP, MariaDB and WordPress on loopback ports and
//! unix sockets, with every file they write in a scratch directory.

pub mod apache;
pub mod mariadb;
pub mod php;
pub mod wordpress;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A scratch directory that workers under other users can walk through.
pub fn scratch(prefix: &str) -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix(prefix).tempdir().context("could not make a scratch directory")?;
    open_to_all(directory.path())?;
    Ok(directory)
}

pub fn open_to_all(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("could not open {} to other users", directory.display()))
}
