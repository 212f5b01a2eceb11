//! `tidy`: the architecture's invariants as code, over the sources.
use anyhow::Result;

/// No options.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    check()
}

pub fn check() -> Result<()> {
    Ok(())
}
