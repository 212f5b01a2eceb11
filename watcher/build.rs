//! Compiles the kernel programs from source and leaves the object where `include_bytes_aligned!` finds it.
//! aya-build is not used because it insists on rustup; which tools serve instead stands in `bpf_tools`.

#[allow(dead_code, reason = "xtask uses the rest")]
#[path = "../xtask/src/bpf_tools.rs"]
mod bpf_tools;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bpf_tools::{BpfTools, PROGRAM};
use object::build::elf::{Builder, SectionData};

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

fn build() -> Result<(), String> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let manifest_dir = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&manifest_dir).parent().ok_or("watcher's crate lies in no workspace")?;
    // The lock file is an input too: a new aya-ebpf arrives through it.
    for input in ["watcher-ebpf/src", "watcher-ebpf/Cargo.toml", "xtask/src/bpf_tools.rs", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=WATCHER_CACHE");

    let tools = BpfTools::find().map_err(|missing| format!("{missing}; {REMEDY}"))?;
    println!("cargo::rerun-if-changed={}", tools.linker.path.display());
    let endian = variable("CARGO_CFG_TARGET_ENDIAN")?;
    // Apart from the outer target directory, whose lock the outer cargo holds while this script runs.
    let target_dir = out_dir.join("bpf");
    let mut cargo = tools.cargo("build", &variable("CARGO_CFG_TARGET_ARCH")?, &endian)?;
    cargo.current_dir(root).arg("--quiet").arg("--target-dir").arg(&target_dir);
    let output = cargo
        .output()
        .map_err(|error| format!("{} cannot be started: {error}; {REMEDY}", cargo.get_program().display()))?;

    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{messages}");
        return Err(format!(
            "the kernel programs do not compile with {}; the messages below say where",
            tools.compiler.name()
        ));
    }
    for line in messages.lines() {
        println!("cargo::warning={line}");
    }
    let target = if endian == "big" { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let object = target_dir.join(target).join("release").join(PROGRAM);
    let program = fs::read(&object).map_err(|error| format!("cannot read {}: {error}", object.display()))?;
    let program =
        without_debug_info(&program).map_err(|error| format!("cannot strip {}: {error}", object.display()))?;
    fs::write(out_dir.join(PROGRAM), program).map_err(|error| format!("cannot write to OUT_DIR: {error}"))
}

/// BTF is made from the debug information, which is six times the size of all the rest and of no use after: it would
/// only make the sensor's binary larger and its start slower.
fn without_debug_info(program: &[u8]) -> Result<Vec<u8>, object::build::Error> {
    let mut builder = Builder::read(program)?;
    for section in &mut builder.sections {
        if section.name.starts_with(b".debug") || section.name.starts_with(b".rel.debug") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM keeps the sections' names among the symbols'; the writer wants a table for them.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}, which cargo sets for build scripts: {error}"))
}
