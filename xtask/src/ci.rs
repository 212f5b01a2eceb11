//! `ci`: everything that a change must pass, cheapest first.
//!
//! The kernel crate is linted apart from the workspace: its library on the host, its program for the BPF target.
//! Debian's compiler comes without clippy, so with it the program is compiled with warnings denied instead.

use std::{env, ffi::OsStr, process::Command};

use anyhow::{Result, anyhow, bail};

use crate::{
    audit,
    bpf_tools::{BpfTools, Compiler},
    place, setup, shell, tidy,
};

/// What to check.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the tests
    #[arg(long)]
    no_test: bool,
}

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", format),
    ("tidy", tidy::check),
    ("audit", audit::run),
    ("clippy", clippy),
    ("kernel crate", kernel_crate),
];

pub fn run(args: &Args) -> Result<()> {
    setup::install(setup::Scope::Build)?;
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        eprintln!("\n== {name}");
        if let Err(error) = step() {
            eprintln!("error: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    if args.no_test {
        return Ok(());
    }
    // The command that README gives, in a process of its own as a user would start it.
    let xtask = env::current_exe()?;
    shell::run(Command::new(xtask).arg("test"))
}

fn format() -> Result<()> {
    shell::run(&mut shell::cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    // The default members: everything except the kernel crate.
    shell::run(&mut shell::cargo(["clippy", "--all-targets", "--", "--deny", "warnings"]))
}

fn kernel_crate() -> Result<()> {
    let library = ["clippy", "--package", "watcher-ebpf", "--lib"];
    let deny = ["--", "--deny", "warnings"];
    shell::run(&mut shell::cargo(library.iter().chain(&deny)))?;
    shell::run(&mut shell::cargo(library.iter().chain(&["--profile", "test"]).chain(&deny)))?;

    let tools = BpfTools::find().map_err(|missing| anyhow!(missing))?;
    let has_clippy = matches!(tools.compiler, Compiler::RustupNightly)
        && shell::read(Command::new("rustup").args(["run", "nightly", "cargo", "clippy", "--version"])).is_ok();
    let subcommand = if has_clippy { "clippy" } else { "rustc" };
    if !has_clippy {
        eprintln!("no clippy for {}: the program is compiled with warnings denied", tools.compiler.name());
    }
    let mut program = tools.cargo(subcommand, env::consts::ARCH, "little").map_err(|error| anyhow!(error))?;
    program.current_dir(place::root()).arg("--target-dir").arg(place::target().join("bpf"));
    let deny: &[&OsStr] = &["--".as_ref(), "--deny".as_ref(), "warnings".as_ref()];
    shell::run(program.args(deny))
}
