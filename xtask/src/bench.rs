//! The benchmarks, each against its baseline in one run.

/// Which benchmark to run.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("the benchmarks are not there yet")
}
