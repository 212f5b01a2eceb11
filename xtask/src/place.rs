//! Where things are: the checkout, cargo's target directory, and the cache for what must survive a fresh clone.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::bpf_tools;

/// The checkout that this program was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout")
}

/// Downloads and built tools: `$WATCHER_CACHE`, else `watcher` in the user's cache directory.
pub fn cache() -> Result<PathBuf> {
    bpf_tools::cache_dir().context("no place for downloads: set WATCHER_CACHE to a directory")
}

/// Tools that `setup` builds.
pub fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools"))
}

/// Cargo's target directory of this checkout.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |set| root().join(set))
}

/// The cargo that runs us, so that children use the same tool chain.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Looks a program up as a shell would.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's PATH often lacks the sbin directories, where apache2 and mariadbd live.
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}
