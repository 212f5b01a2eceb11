//! `build-run`: from a fresh clone to a running sensor.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{place, setup, shell};

/// What to run.
#[derive(clap::Args)]
pub struct Args {
    /// Arguments for `watcher run`
    #[arg(last = true)]
    args: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    // stdout belongs to the sensor's results alone, so that they can be piped on.
    setup::install(setup::Scope::Build)?;
    shell::run(&mut shell::cargo(["build", "--release", "--package", "watcher"]))?;
    let binary = place::target().join("release/watcher");
    let mut command = if setup::is_root() {
        Command::new(&binary)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(&binary);
        sudo
    };
    command.arg("run").args(&args.args);
    eprintln!("$ {}", shell::text(&command));
    // Replaced, not waited for: signals and the exit code are the sensor's own.
    Err(command.exec()).with_context(|| format!("cannot run {}", binary.display()))
}
