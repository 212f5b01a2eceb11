//! Real servers, private to the test run: Debian's own Apache, PHP, MariaDB and WordPress on loopback ports and
//! unix sockets, with every file they write in a scratch directory.

pub mod apache;
pub mod mariadb;
pub mod php;
pub mod wordpress;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A scratch directory that workers under other users can walk through.
pub fn scratch(prefix: &str) -> Result<TempDir> {
    scratch_in(&std::env::temp_dir(), prefix)
}

pub fn scratch_in(base: &Path, prefix: &str) -> Result<TempDir> {
    let directory =
        tempfile::Builder::new().prefix(prefix).tempdir_in(base).context("could not make a scratch directory")?;
    open_to_all(directory.path())?;
    Ok(directory)
}

pub fn open_to_all(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("could not open {} to other users", directory.display()))
}

/// Where the project's chores keep what survives a fresh clone: other releases' PHP among it.
pub fn cache() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("WATCHER_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|base| base.join("watcher")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/watcher")))
        .unwrap_or_default()
}
