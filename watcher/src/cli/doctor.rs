//! `watcher doctor`: what this host offers and what it lacks.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

use crate::{config::Format, daemon, doctor, sinks::report, system::System};

#[derive(clap::Args)]
pub struct Args {
    /// How to print
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub fn run(args: &Args) -> Result<()> {
    let report = daemon::runtime()?.block_on(async { doctor::examine(&System::default()) });
    let text = match args.format {
        Format::Human => report::text(&report),
        Format::Json => report::json(&report),
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")
}
