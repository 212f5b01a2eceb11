//! `test`: every test that this machine can run, phase by phase, then one table and one closing line.
//!
//! A phase is a command of its own; what it prints is passed on and counted. A test that could not run is counted as
//! skipped, and on CI a skip that is not declared in [`EXPECTED_SKIPS`] fails the run: there is no silent hole.

mod phase;
mod tally;

use std::env;

use anyhow::{Result, bail};

use crate::setup;
use phase::Phase;
use tally::Tally;

/// Which tests to run.
#[derive(clap::Args)]
pub struct Args {
    /// Only these phases; all of them without
    phases: Vec<Phase>,
}

/// Tests that may be skipped on CI: a part of `phase: name`, and why they cannot run there. The virtual machines have
/// a table of their own, kernel by kernel, beside the kernel suite.
const EXPECTED_SKIPS: &[(&str, &str)] = &[
    ("kernel: fexit", "this kernel refuses it; the virtual machines run it"),
    ("kernel: kprobe", "this kernel has none; the virtual machines run it"),
    ("needs a sensor that reads PHP's state", "the causes that only PHP's own state tells are not yet read"),
];

pub fn run(args: &Args) -> Result<()> {
    let phases: &[Phase] = if args.phases.is_empty() { Phase::ALL } else { &args.phases };
    let needs_servers = phases.iter().any(|phase| *phase != Phase::Unit);
    setup::install(if needs_servers { setup::Scope::Tests } else { setup::Scope::Build })?;

    let results: Vec<(Phase, Tally)> = phases.iter().map(|phase| (*phase, phase.run())).collect();

    println!("\n{:<12} {:>7} {:>7} {:>8} {:>9}", "phase", "passed", "failed", "skipped", "seconds");
    let mut total = Tally::default();
    for (phase, tally) in &results {
        println!(
            "{:<12} {:>7} {:>7} {:>8} {:>9.1}",
            phase.name(),
            tally.passed,
            tally.failed,
            tally.skipped,
            tally.seconds
        );
        total.add(tally);
    }
    for problem in &total.problems {
        println!("problem: {problem}");
    }
    let undeclared: Vec<&String> = total.skips.iter().filter(|name| reason(name).is_none()).collect();
    for name in &total.skips {
        println!("skipped: {name} ({})", reason(name).unwrap_or("not declared in the table of expected skips"));
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);

    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    if env::var("CI").is_ok_and(|ci| ci == "true") && !undeclared.is_empty() {
        bail!("{} tests were skipped that no table declares", undeclared.len());
    }
    Ok(())
}

fn reason(test: &str) -> Option<&'static str> {
    EXPECTED_SKIPS.iter().find(|(part, _)| test.contains(part)).map(|(_, reason)| *reason)
}
