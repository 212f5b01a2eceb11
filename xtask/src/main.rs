//! The project's chores, `cargo xtask COMMAND`: from a fresh clone each finds or installs what it needs, prints every
//! command that it runs, and says in one sentence what to do when something cannot be had.

mod audit;
mod bench;
mod bpf_tools;
mod build_run;
mod ci;
mod kernels;
mod php_roots;
mod place;
mod setup;
mod shell;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "build, test and release chores of watcher", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and running need, and nothing that is there already
    Setup(setup::Args),
    /// Build kernel and user side, then run the sensor as root
    BuildRun(build_run::Args),
    /// Run every test that this machine can run, live and in virtual machines
    Test(test::Args),
    /// Run the kernel suite on the matrix of kernels, in virtual machines
    VmTest(vm::Args),
    /// Run the benchmarks, each against its baseline
    Bench(bench::Args),
    /// Check the sources against the architecture's invariants
    Tidy(tidy::Args),
    /// Everything that a change must pass: format, lints, tidy, audit, tests
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::BuildRun(args) => build_run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::VmTest(args) => vm::command(args),
        Command::Bench(args) => bench::run(args).map(drop),
        Command::Tidy(args) => tidy::run(&args),
        Command::Ci(args) => ci::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
