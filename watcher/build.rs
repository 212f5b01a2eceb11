//! Compiles the kernel programs from source and leaves the object where `include_bytes_aligned!` finds it.
//!
//! The BPF target has no prebuilt `core`, so a compiler that may use `-Z build-std` and the source of its library
//! are needed: rustup's nightly with rust-src where there is one, else Debian's rustc-web with rust-web-src. The
//! stable compiler that builds everything else cannot do it. aya-build is not used because it insists on rustup.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Package and bin of the kernel side, and the name of the object in `OUT_DIR`.
const PROGRAM: &str = "watcher-ebpf";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const REMEDY: &str = "run `cargo xtask setup`";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let root = manifest_dir.parent().ok_or("the crate has no parent directory")?;
    // The lock file is the only other input: a new aya-ebpf arrives through it.
    for input in ["watcher-ebpf/src", "watcher-ebpf/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=WATCHER_CACHE");

    let linker = Linker::find()?;
    let compiler = Compiler::find(linker.llvm)?;
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.to_str() {
        Some("little") => "bpfel-unknown-none",
        _ => "bpfeb-unknown-none",
    };
    // Apart from the outer target directory, whose lock the outer cargo holds while this script runs.
    let target_dir = out_dir.join("bpf");

    let mut cargo = compiler.cargo()?;
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--release"])
        .args(["--package", PROGRAM, "--bin", PROGRAM, "--target", target])
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags()?)
        // The linker optimises the whole program itself; bitcode that rustc has already merged only slows it.
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .env("PATH", linker.search_path()?);
    let output =
        cargo.output().map_err(|error| format!("cannot start {:?}: {error}; {REMEDY}", cargo.get_program()))?;
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{diagnostics}");
        return Err(format!(
            "the kernel programs do not compile ({}); the compiler's messages stand below",
            compiler.name()
        )
        .into());
    }
    for line in diagnostics.lines() {
        println!("cargo::warning={line}");
    }
    let object = target_dir.join(target).join("release").join(PROGRAM);
    fs::copy(&object, out_dir.join(PROGRAM)).map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

/// What turns rustc's BPF bitcode into one object with BTF.
struct Linker {
    path: PathBuf,
    /// Major version of its LLVM, where it can be told; it reads no bitcode newer than that.
    llvm: Option<u32>,
}

impl Linker {
    fn find() -> Result<Self> {
        let search = env::var_os("PATH").unwrap_or_default();
        let path = env::split_paths(&search)
            .chain(cache_dir().map(|cache| cache.join("tools/bin")))
            .map(|directory| directory.join("bpf-linker"))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| format!("bpf-linker is missing: {REMEDY}"))?;
        println!("cargo::rerun-if-changed={}", path.display());
        let llvm = fs::read(&path).ok().and_then(|bytes| linked_llvm(&bytes));
        Ok(Self { path, llvm })
    }

    /// rustc looks the linker up by name, so its directory goes in front.
    fn search_path(&self) -> Result<OsString> {
        let old = env::var_os("PATH").unwrap_or_default();
        let directory = self.path.parent().map(Path::to_path_buf);
        Ok(env::join_paths(directory.into_iter().chain(env::split_paths(&old)))?)
    }
}

enum Compiler {
    RustupNightly,
    Debian,
}

impl Compiler {
    fn find(linker_llvm: Option<u32>) -> Result<Self> {
        if usable(&["rustup", "run", "nightly", "rustc"], linker_llvm) {
            return Ok(Self::RustupNightly);
        }
        if usable(&[DEBIAN_RUSTC], linker_llvm) {
            return Ok(Self::Debian);
        }
        Err(format!("no compiler for the BPF target (rustup's nightly with rust-src, or rustc-web with rust-web-src) that bpf-linker can read: {REMEDY}").into())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::RustupNightly => "rustup's nightly",
            Self::Debian => DEBIAN_RUSTC,
        }
    }

    fn cargo(&self) -> Result<Command> {
        let mut command = match self {
            Self::RustupNightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "cargo"]);
                without_outer_cargo(&mut rustup);
                rustup
            }
            // Debian's compiler comes without a cargo of its own; the one that runs this script serves.
            Self::Debian => {
                let mut cargo = Command::new(variable("CARGO")?);
                without_outer_cargo(&mut cargo);
                cargo.env("RUSTC", DEBIAN_RUSTC);
                cargo
            }
        };
        // Unstable flags are needed with either; on a nightly the variable changes nothing.
        command.env("RUSTC_BOOTSTRAP", "1");
        Ok(command)
    }
}

/// Whether the compiler runs, has the source of its library, and writes bitcode that the linker reads.
fn usable(rustc: &[&str], linker_llvm: Option<u32>) -> bool {
    let ask = |question: &[&str]| {
        let mut command = Command::new(rustc[0]);
        command.args(&rustc[1..]).args(question);
        without_outer_cargo(&mut command);
        let output = command.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let (Some(sysroot), Some(version)) = (ask(&["--print", "sysroot"]), ask(&["--version", "--verbose"])) else {
        return false;
    };
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir();
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: ")).and_then(first_number);
    let readable = match (llvm, linker_llvm) {
        (Some(compiler), Some(linker)) => compiler <= linker,
        _ => true,
    };
    library && readable
}

/// What cargo tells a build script about its own compilation would misdirect another one.
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
        // Set by cargo-clippy; it would lint the kernel crate through the wrong driver.
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
    ] {
        command.env_remove(name);
    }
}

fn rustflags() -> Result<OsString> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let mut flags = OsString::from("--cfg=bpf_target_arch=\"");
    flags.push(arch);
    flags.push("\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf");
    Ok(flags)
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

/// Where `cargo xtask setup` puts the tools that it builds.
fn cache_dir() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("WATCHER_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("watcher")))
        .or_else(|| Some(set("HOME")?.join(".cache/watcher")))
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; cargo sets it for build scripts").into())
}
