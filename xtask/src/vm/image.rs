//! The guest's image: the sensor and the kernel test suite, linked statically, with the suite as init.
//!
//! Static, so that the guest needs no C library of any age; in a target directory of its own, so that building for
//! the guest does not throw the host's build away.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::cpio::Archive;
use crate::{kernels::Arch, place};

/// The programs that the guest runs.
pub struct Programs {
    pub watcher: PathBuf,
    pub kernel_tests: PathBuf,
}

/// Builds sensor and suite for the guest.
pub fn build_programs(arch: Arch) -> anyhow::Result<Programs> {
    let target = format!("{}-unknown-linux-gnu", arch.name());
    let target_dir = place::target().join("vm");
    let mut command = Command::new(place::cargo());
    command
        .current_dir(place::root())
        .args(["test", "--no-run", "--release", "--package", "watcher", "--test", "kernel", "--target", &target])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(&target_dir)
        // For this target alone: RUSTFLAGS would reach the BPF program's build as well.
        .env(
            format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_")),
            "-C target-feature=+crt-static -C strip=debuginfo",
        )
        .env_remove("RUSTFLAGS")
        .stderr(Stdio::inherit());
    eprintln!("building the sensor and the kernel tests for {target}");
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the guest's programs do not build; cargo's messages stand above");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = |name: &str| {
        messages
            .lines()
            .filter(|line| line.contains(&format!("\"name\":\"{name}\"")))
            .find_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next().map(PathBuf::from))
            .with_context(|| format!("cargo built no executable named {name}"))
    };
    Ok(Programs { watcher: executable("watcher")?, kernel_tests: executable("kernel")? })
}

/// Writes an initramfs whose init is `init`; `files` are (path in the guest without the leading slash, file here).
pub fn write(image: &Path, init: &Path, files: &[(String, PathBuf)]) -> anyhow::Result<()> {
    let parent = image.parent().context("the image has no directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let out = File::create(image).with_context(|| format!("cannot create {}", image.display()))?;
    let mut archive = Archive::new(BufWriter::new(out));
    for (directory, mode) in
        [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777), ("run", 0o755), ("root", 0o755)]
    {
        archive.directory(directory, mode)?;
    }
    // The kernel opens the console for init before init can mount a /dev.
    archive.character_device("dev/console", 0o600, 5, 1)?;
    archive.character_device("dev/null", 0o666, 1, 3)?;
    archive.directory("etc", 0o755)?;
    archive.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n")?;
    archive.file("etc/group", 0o644, b"root:x:0:\nwww-data:x:33:\n")?;
    archive.symlink("etc/mtab", "/proc/self/mounts")?;
    let mut directories = vec!["dev".to_owned(), "etc".to_owned(), "tmp".to_owned(), "run".to_owned()];
    archive.file("init", 0o755, &read(init)?)?;
    for (name, file) in files {
        for (at, _) in name.match_indices('/') {
            let directory = &name[..at];
            if !directories.iter().any(|known| known == directory) {
                archive.directory(directory, 0o755)?;
                directories.push(directory.to_owned());
            }
        }
        archive.file(name, 0o755, &read(file)?)?;
    }
    archive.finish()?.flush().with_context(|| format!("cannot write {}", image.display()))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Where images and guests' logs are kept.
pub fn scratch_dir() -> anyhow::Result<PathBuf> {
    Ok(place::cache()?.join("vm"))
}
