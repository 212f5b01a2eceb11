//! `watcher run`: the sensor in the foreground.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::Result;

use super::scope::ScopeArgs;
use crate::{
    config::{self, Config, Format},
    daemon,
    sinks::{Human, Json, Sink},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Directory of the findings store
    #[arg(long, value_name = "DIR", default_value = "/var/lib/watcher")]
    state_dir: PathBuf,
    /// Keep no findings on disk
    #[arg(long)]
    no_store: bool,
}

/// Options of what prints results.
#[derive(clap::Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Also print a line for each failing open
    #[arg(long)]
    pub events: bool,
    /// Show opens that are taken for harmless, too
    #[arg(long)]
    pub all: bool,
}

pub fn run(args: Args, verbosity: u8) -> Result<()> {
    let Args { scope, output, state_dir: _, no_store: _ } = args;
    let mut flags = scope.into_flags(verbosity);
    (flags.format, flags.events, flags.all) = (output.format, output.events, output.all);
    let config = Config::load(flags, &config::environment())?;
    let sink = stdout(config.format);
    Ok(daemon::run(&config, None, sink)?)
}

/// The sink for stdout.
pub fn stdout(format: Format) -> Box<dyn Sink + Send> {
    match format {
        Format::Json => Box::new(Json::new(io::stdout())),
        Format::Human => Box::new(Human::new(io::stdout(), wants_colours())),
    }
}

/// Somebody looks, and does not mind (<https://no-color.org>).
fn wants_colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}
