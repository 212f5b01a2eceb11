//! The tool chain for the BPF target: which compiler, which linker, and how to call them.
//!
//! The target has no prebuilt `core`, so a compiler that may use `-Z build-std` and the source of its library are
//! needed: rustup's nightly with rust-src where there is one, else Debian's rustc-web with rust-web-src. The stable
//! compiler that builds everything else cannot do it. watcher's build script includes this file, so that what
//! `setup` installs is what the build looks for; hence only `std`, and errors as text.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Package and bin of the kernel side.
pub const PROGRAM: &str = "watcher-ebpf";
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler and a linker that fit together.
pub struct BpfTools {
    pub compiler: Compiler,
    pub linker: Linker,
}

impl BpfTools {
    /// What this machine has, or what is missing.
    pub fn find() -> Result<Self, String> {
        let linker = Linker::find().ok_or("bpf-linker is missing or does not start")?;
        let compiler = Compiler::find(linker.llvm).ok_or(
            "no compiler for the BPF target: neither rustup's nightly with rust-src nor rustc-web with rust-web-src, \
             of an LLVM that bpf-linker reads",
        )?;
        Ok(Self { compiler, linker })
    }

    /// A cargo command for the kernel program, up to and including the target; `arch` is the one that it will run on.
    pub fn cargo(&self, subcommand: &str, arch: &str, endian: &str) -> Result<Command, String> {
        let mut cargo = match self.compiler {
            Compiler::RustupNightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "cargo"]);
                rustup
            }
            // Debian's compiler comes without a cargo of its own; the one that runs us serves.
            Compiler::Debian => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        };
        without_outer_cargo(&mut cargo);
        if matches!(self.compiler, Compiler::Debian) {
            cargo.env("RUSTC", DEBIAN_RUSTC);
        }
        let target = if endian == "big" { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
        cargo
            .args([subcommand, "--locked", "--release", "--package", PROGRAM, "--bin", PROGRAM])
            .args(["--target", target, "-Z", "build-std=core"])
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(arch))
            // Unstable flags are needed with either; on a nightly the variable changes nothing.
            .env("RUSTC_BOOTSTRAP", "1")
            // The linker optimises the whole program itself; bitcode that rustc has already merged only slows it.
            .env("CARGO_PROFILE_RELEASE_LTO", "false")
            .env("PATH", self.linker.search_path()?);
        Ok(cargo)
    }
}

/// What turns rustc's BPF bitcode into one object with BTF.
pub struct Linker {
    pub path: PathBuf,
    /// Major version of its LLVM, where it can be told; it reads no bitcode newer than that.
    pub llvm: Option<u32>,
}

impl Linker {
    /// On PATH, or where `cargo xtask setup` puts it. One that does not start (its LLVM is gone) does not count.
    pub fn find() -> Option<Self> {
        let search = env::var_os("PATH").unwrap_or_default();
        let path = env::split_paths(&search)
            .chain(cache_dir().map(|cache| cache.join("tools/bin")))
            .map(|directory| directory.join("bpf-linker"))
            .find(|candidate| candidate.is_file() && answer(&[candidate.as_os_str()], &["--version"]).is_some())?;
        let llvm = fs::read(&path).ok().and_then(|bytes| linked_llvm(&bytes));
        Some(Self { path, llvm })
    }

    /// rustc looks the linker up by name, so its directory goes in front.
    fn search_path(&self) -> Result<OsString, String> {
        let old = env::var_os("PATH").unwrap_or_default();
        let directory = self.path.parent().map(Path::to_path_buf);
        env::join_paths(directory.into_iter().chain(env::split_paths(&old)))
            .map_err(|error| format!("{} cannot be put on PATH: {error}", self.path.display()))
    }
}

#[derive(Clone, Copy)]
pub enum Compiler {
    RustupNightly,
    Debian,
}

impl Compiler {
    /// The first that runs, has its library's source, and writes bitcode that a linker with this LLVM reads.
    pub fn find(linker_llvm: Option<u32>) -> Option<Self> {
        [Self::RustupNightly, Self::Debian].into_iter().find(|compiler| compiler.usable(linker_llvm))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::RustupNightly => "rustup's nightly",
            Self::Debian => DEBIAN_RUSTC,
        }
    }

    fn usable(self, linker_llvm: Option<u32>) -> bool {
        let rustc: &[&str] = match self {
            Self::RustupNightly => &["rustup", "run", "nightly", "rustc"],
            Self::Debian => &[DEBIAN_RUSTC],
        };
        let Some(sysroot) = answer(rustc, &["--print", "sysroot"]) else { return false };
        let Some(version) = answer(rustc, &["--version", "--verbose"]) else { return false };
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir();
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: ")).and_then(first_number);
        let readable = match (llvm, linker_llvm) {
            (Some(compiler), Some(linker)) => compiler <= linker,
            _ => true,
        };
        library && readable
    }
}

/// Where `cargo xtask setup` keeps downloads and the tools that it builds.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("WATCHER_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("watcher")))
        .or_else(|| Some(set("HOME")?.join(".cache/watcher")))
}

/// What a program says on stdout, if it starts and ends well.
fn answer<S: AsRef<std::ffi::OsStr>>(program: &[S], question: &[&str]) -> Option<String> {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).args(question);
    without_outer_cargo(&mut command);
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// What cargo tells a build script, or rustup's proxy tells its children, would misdirect another compiler.
fn without_outer_cargo(command: &mut Command) {
    for name in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
}

fn rustflags(arch: &str) -> String {
    ["--cfg", &format!("bpf_target_arch=\"{arch}\""), "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f")
}

/// The version in the name of the LLVM library that bpf-linker loads (`libLLVM.so.22.1`, `libLLVM-22.so`); its own
/// `--version` does not tell, and a linker with LLVM inside names none.
fn linked_llvm(program: &[u8]) -> Option<u32> {
    const LIBRARY: &[u8] = b"libLLVM";
    let at = program.windows(LIBRARY.len()).position(|window| window == LIBRARY)?;
    let name: Vec<u8> = program[at..].iter().copied().take_while(u8::is_ascii_graphic).collect();
    first_number(std::str::from_utf8(&name).ok()?)
}

fn first_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?.parse().ok()
}
