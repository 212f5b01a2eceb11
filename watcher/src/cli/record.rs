//! `watcher record FILE`: the stream of records to a file, for a replay elsewhere.

use std::{io, path::PathBuf};

use anyhow::Result;

use super::{run::stdout, scope::ScopeArgs};
use crate::{
    config::{self, Config, Format},
    daemon,
    output::Output,
    record::{Header, Writer},
    sinks::Sink,
    system::{self, Clock},
};

#[derive(clap::Args)]
pub struct Args {
    /// File to write
    file: PathBuf,
    #[command(flatten)]
    scope: ScopeArgs,
    /// How to print the status; a person reads it in the log
    #[arg(long, value_enum)]
    format: Option<Format>,
}

pub fn run(args: Args, verbosity: u8) -> Result<()> {
    let mut flags = args.scope.into_flags(verbosity);
    flags.format = args.format;
    let config = Config::load(flags, &config::environment())?;
    let header = Header {
        watcher: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: system::kernel_release(),
        start: Clock.now(),
        boot_to_wall_ns: Clock.boot_to_wall_ns(),
    };
    let writer = Writer::create(&args.file, &header)?;
    Ok(daemon::run(&config, Some(writer), Box::new(StatusOnly(stdout(config.format))))?)
}

/// What is found is for the replay to tell.
struct StatusOnly(Box<dyn Sink + Send>);

impl Sink for StatusOnly {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        if matches!(output, Output::Status(_)) { self.0.deliver(output) } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
