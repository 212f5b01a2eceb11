//! `cargo xtask vm-test`: the kernel test suite on real kernels in virtual machines.
//!
//! Upper rungs of the ladder cannot run on every developer's machine, and no machine runs kernels from 5.10 to
//! today's. Each kernel boots once and runs the suite on each rung that the suite's own table of expectations
//! lists for it; see `watcher/tests/kernel`. A guest that does not come to its end, a kernel that cannot be had and
//! a rung without results are failures, never silence.

pub mod boot;
pub mod cpio;
pub mod image;
mod report;

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::bail;

use self::{
    boot::Machine,
    report::{Report, Row},
};
use crate::kernels::{self, Arch};

/// Each guest has two processors in software: more guests at a time than this only make each other late.
const AT_A_TIME: usize = 2;
const BOOTS_AGAIN: usize = 2;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kernel series to run ("6.12", "newest"); without it the whole matrix
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// Architecture of the guests
    #[arg(long, default_value = "x86_64", value_parser = parse_arch)]
    arch: Arch,
    /// Ask Debian for newer packages even where a kernel is cached
    #[arg(long)]
    refresh: bool,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Let the sensor log everything, and show its log on the guest's console where it does not start
    #[arg(short, long)]
    verbose: bool,
    /// Only this rung
    #[arg(long)]
    rung: Option<String>,
    /// Seconds that one guest may take
    #[arg(long, default_value_t = 900)]
    time_limit: u64,
    /// Fetch the kernels and stop: for machines that will have no network later
    #[arg(long)]
    fetch_only: bool,
}

/// The whole matrix with nothing narrowed: what `cargo xtask test` runs.
impl Default for Args {
    fn default() -> Self {
        Self {
            kernels: Vec::new(),
            arch: Arch::X86_64,
            refresh: false,
            filter: None,
            rung: None,
            verbose: false,
            time_limit: 900,
            fetch_only: false,
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

fn parse_arch(text: &str) -> Result<Arch, String> {
    match text {
        "x86_64" => Ok(Arch::X86_64),
        "aarch64" => Ok(Arch::Aarch64),
        _ => Err("use x86_64 or aarch64".to_owned()),
    }
}

/// `cargo xtask vm-test`: as `run`, and a failed test is a failed command.
pub fn command(args: Args) -> anyhow::Result<()> {
    let summary = run(args)?;
    if summary.failed > 0 {
        bail!("{} of the kernel tests failed; their names and reasons stand above", summary.failed);
    }
    Ok(())
}

/// Runs the matrix, prints its table and returns its sums; failures are in the sums, not an error.
pub fn run(args: Args) -> anyhow::Result<Summary> {
    let series: Vec<String> = match args.kernels.as_slice() {
        [] => kernels::DEFAULT.iter().map(|&series| series.to_owned()).collect(),
        chosen => chosen.to_vec(),
    };
    let mut report = Report::default();
    // One after the other: they share the network, and apt's messages stay readable.
    let mut found = Vec::new();
    for series in &series {
        match kernels::get(series, args.arch, args.refresh) {
            Ok(kernel) => found.push(kernel),
            Err(error) => report.add(Row::failed(series, "unavailable", format!("{error:#}"))),
        }
    }
    if args.fetch_only {
        for kernel in &found {
            println!("{} {} {}", kernel.series, kernel.release, kernel.image.display());
        }
        return Ok(report.summary());
    }
    if found.is_empty() {
        bail!("none of the kernels {} can be had; connect to the network and run it again", series.join(", "));
    }

    boot::require_qemu(args.arch)?;
    let programs = image::build_programs(args.arch)?;
    let scratch = image::scratch_dir()?;
    // One name per process: another run must not replace the image of guests that are booting.
    let image = scratch.join(format!("kernel-tests-{}-{}.cpio", args.arch.name(), std::process::id()));
    image::write(&image, &programs.kernel_tests, &[("watcher".to_owned(), programs.watcher)])?;

    let next = AtomicUsize::new(0);
    let report = Mutex::new(report);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(found.len()) {
            scope.spawn(|| {
                while let Some(kernel) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let log_dir = scratch.join("logs").join(args.arch.name()).join(&kernel.series);
                    let rows = guest(&args, kernel, image.clone(), log_dir);
                    let mut report = report.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    rows.into_iter().for_each(|row| report.add(row));
                }
            });
        }
    });
    let _ = std::fs::remove_file(&image);
    let report = report.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    print!("{report}");
    Ok(report.summary())
}

/// Boots one kernel and makes its rows of the table.
fn guest(args: &Args, kernel: &kernels::Kernel, image: PathBuf, log_dir: PathBuf) -> Vec<Row> {
    let mut machine = Machine::new(kernel, image, log_dir.clone());
    machine.time_limit = Duration::from_secs(args.time_limit);
    machine.command_line.push(format!("WATCHER_TEST_SERIES={}", kernel.real_series()));
    if let Some(filter) = &args.filter {
        machine.command_line.push(format!("WATCHER_TEST_FILTER={filter}"));
    }
    if args.verbose {
        machine.command_line.push("WATCHER_TEST_VERBOSE=1".to_owned());
    }
    if let Some(rung) = &args.rung {
        machine.command_line.push(format!("WATCHER_TEST_RUNG={rung}"));
    }
    // Processors emulated in parallel now and then trip over code that the kernel patches while it boots; what
    // ends before init says anything has tested nothing, so it may begin again.
    let mut boot = machine.boot();
    for _ in 0..BOOTS_AGAIN {
        match &boot {
            Ok(outcome) if outcome.failure.is_some() && outcome.results.is_empty() => {
                eprintln!("{} did not get to its init; booting it again", kernel.release);
                boot = machine.boot();
            }
            _ => break,
        }
    }
    match boot {
        Ok(outcome) => {
            let mut rows = report::rows(&kernel.release, &outcome.results);
            if let Some(failure) = outcome.failure {
                rows.push(Row::failed(&kernel.release, "guest", failure));
            } else if rows.is_empty() {
                rows.push(Row::failed(&kernel.release, "guest", "the suite ran no test".to_owned()));
            }
            eprintln!(
                "{} ended after {:.0} s; logs in {}",
                kernel.release,
                outcome.took.as_secs_f32(),
                log_dir.display()
            );
            rows
        }
        Err(error) => vec![Row::failed(&kernel.release, "guest", format!("{error:#}"))],
    }
}
