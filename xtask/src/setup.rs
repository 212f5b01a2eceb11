//! `setup`: what building, running and testing need, installed where it is missing and left alone where it is there.
//!
//! Debian's packages come by apt-get; bpf-linker, which Debian does not have, is built once into the cache. The
//! commands that use the tools call this first, so nobody has to.

mod apt;
mod services;

use anyhow::{Context as _, Result, bail};

use crate::{
    bpf_tools::{BpfTools, Compiler, Linker},
    php_roots, place, shell,
};
use apt::Package;

pub use apt::is_root;

/// What to install.
#[derive(clap::Args)]
pub struct Args {
    /// Also what the tests need: Apache, PHP, WordPress, a database, qemu, and the tools to compare with
    #[arg(long)]
    tests: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Build,
    Tests,
}

const BPF_LINKER_VERSION: &str = "0.13.0";
/// The LLVM that Debian's rustc-web is built with; bpf-linker's must be at least the compiler's.
const LLVM: &str = "22";

/// Debian's rustc 1.96 with the source of the library that it was built with: the pair for `-Z build-std`.
const COMPILER: &[Package] = &[Package::named("rustc-web"), Package::named("rust-web-src")];

/// What bpf-linker is built against, and loads.
const LINKER: &[Package] = &[
    Package::named("llvm-22-dev"),
    Package::named("libpolly-22-dev"),
    Package::named("zlib1g-dev"),
    Package::named("libzstd-dev"),
    Package::named("libxml2-dev"),
];

const TESTS: &[Package] = &[
    Package::named("apache2"),
    Package::named("ssl-cert"),
    // Debian's PHP packages carry their version; any one that is there will do.
    Package { name: "libapache2-mod-php", also: Some("libapache2-mod-php[0-9]*") },
    Package { name: "php-fpm", also: Some("php[0-9]*-fpm") },
    Package { name: "php-cli", also: Some("php[0-9]*-cli") },
    Package { name: "php-mysql", also: Some("php[0-9]*-mysql") },
    Package::named("mariadb-server"),
    Package::named("wordpress"),
    Package::named("qemu-system-x86"),
    Package::named("libbpf-tools"),
    Package::named("bpftrace"),
    Package::named("strace"),
    Package::named("cpio"),
    Package::named("curl"),
    Package::named("openssl"),
];

pub fn run(args: &Args) -> Result<()> {
    install(if args.tests { Scope::Tests } else { Scope::Build })?;
    eprintln!("setup: everything is there");
    Ok(())
}

/// Installs what is missing for the scope. Silent and quick when nothing is.
pub fn install(scope: Scope) -> Result<()> {
    bpf_tool_chain()?;
    if scope == Scope::Tests {
        apt::install(TESTS)?;
        php_roots::install()?;
    }
    Ok(())
}

fn bpf_tool_chain() -> Result<()> {
    if BpfTools::find().is_ok() {
        return Ok(());
    }
    if Linker::find().is_none() {
        // One that was built before starts again once its LLVM is back.
        apt::install(LINKER)?;
        if Linker::find().is_none() {
            build_linker()?;
        }
    }
    let linker = Linker::find().context("bpf-linker was built and yet does not start: run it by hand to see why")?;
    if Compiler::find(linker.llvm).is_none() {
        apt::install(COMPILER)?;
    }
    if let Err(missing) = BpfTools::find() {
        bail!(
            "{missing}, and the packages did not help: give rustup a nightly with rust-src (`rustup toolchain install nightly --component rust-src`)"
        );
    }
    Ok(())
}

fn build_linker() -> Result<()> {
    let feature = format!("llvm-{LLVM}");
    let mut install = shell::cargo(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"]);
    install
        .args(["--no-default-features", "--features", &feature, "--root"])
        .arg(place::tools()?)
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"))
        // Cargo builds it in a directory of its own then, apart from this workspace.
        .env_remove("CARGO_TARGET_DIR");
    shell::run(&mut install).context("bpf-linker cannot be built: see that crates.io is reachable, then try again")
}
