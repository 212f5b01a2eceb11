//! The command line: one file a subcommand, and the exit codes.

mod doctor;
mod record;
mod replay;
mod run;
mod scope;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{config::ConfigError, daemon::DaemonError, record::ReadError, sensor::SensorError, telemetry};

/// Sees every file that an Apache or PHP process fails to open, and says what it means.
#[derive(Parser)]
#[command(name = "watcher", version, max_term_width = 100)]
struct Cli {
    /// Show how things come about; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch, in the foreground
    Run(run::Args),
    /// Say what this host offers and what it lacks
    Doctor(doctor::Args),
    /// Write the stream of records to a file
    Record(record::Args),
    /// Run a recorded stream through the same pipeline
    Replay(replay::Args),
}

/// Failed while running.
const FAILED: u8 = 1;
/// Bad usage or configuration.
const USAGE: u8 = 2;
/// This host cannot run the sensor.
const HOST: u8 = 3;

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.verbose);
    let done = match cli.command {
        Command::Run(args) => run::run(args, cli.verbose),
        Command::Doctor(args) => doctor::run(&args),
        Command::Record(args) => record::run(args, cli.verbose),
        Command::Replay(args) => replay::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            exit_code(&error).into()
        }
    }
}

/// The code that the contract has for this error, by the first cause that decides it.
fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigError>() || cause.is::<ReadError>() {
            return USAGE;
        }
        if let Some(sensor) = cause.downcast_ref::<SensorError>() {
            return if sensor.is_usage() { USAGE } else { HOST };
        }
        if let Some(DaemonError::Start(sensor)) = cause.downcast_ref::<DaemonError>() {
            return if sensor.is_usage() { USAGE } else { HOST };
        }
    }
    FAILED
}
