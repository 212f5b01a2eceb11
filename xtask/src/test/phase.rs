//! The phases of the tests and the commands behind them.

use std::{env, process::Command, time::Instant};

use clap::ValueEnum;

use super::tally::Tally;
use crate::{setup, shell};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Unit tests of every crate, on the host
    Unit,
    /// Real servers on this host's kernel
    Live,
    /// The kernel suite on this host's kernel
    Kernel,
    /// The kernel suite on the matrix of kernels
    Vm,
}

impl Phase {
    /// Cheap ones first.
    pub const ALL: &[Self] = &[Self::Unit, Self::Kernel, Self::Live, Self::Vm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Live => "live",
            Self::Kernel => "kernel",
            Self::Vm => "vm",
        }
    }

    /// Runs it to the end; whatever goes wrong is in the tally.
    pub fn run(self) -> Tally {
        let start = Instant::now();
        let mut tally = Tally::default();
        for mut command in self.commands() {
            eprintln!("\n== {}", self.name());
            let ended = shell::watch(&mut command, |line| tally.read(line));
            tally.end_command(&shell::text(&command), ended);
        }
        tally.skips.iter_mut().for_each(|name| *name = format!("{}: {name}", self.name()));
        tally.seconds = start.elapsed().as_secs_f64();
        tally
    }

    fn commands(self) -> Vec<Command> {
        match self {
            Self::Unit => vec![
                shell::cargo(["test", "--package", "watcher", "--package", "xtask", "--lib", "--bins"]),
                // Apart: the workspace would switch on the features of the other crates.
                shell::cargo(["test", "--package", "watcher-ebpf", "--lib"]),
            ],
            // The release build is what users run: its timing and memory are what these look at.
            Self::Live => vec![privileged(shell::cargo(["test", "--release", "--package", "watcher", "--test", "it"]))],
            Self::Kernel => {
                vec![privileged(shell::cargo(["test", "--release", "--package", "watcher", "--test", "kernel"]))]
            }
            Self::Vm => {
                let mut xtask = Command::new(env::current_exe().unwrap_or_else(|_| "xtask".into()));
                xtask.arg("vm-test");
                vec![xtask]
            }
        }
    }
}

/// Builds as the user, runs the tests as root: they load programs and start servers.
fn privileged(mut cargo: Command) -> Command {
    if !setup::is_root() {
        let arch = env::consts::ARCH.to_uppercase();
        cargo.env(format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"), "sudo --preserve-env");
    }
    cargo
}
