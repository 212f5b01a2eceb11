//! Kernels for the virtual-machine matrix, from Debian's packages.
//!
//! A hand-kept list of package names rots: Debian removes a kernel from its mirrors as soon as the next one is out.
//! So a series ("6.12") is resolved to its newest package each time one has to be fetched, under an apt
//! configuration of its own that leaves the machine's sources alone, and apt checks the archive's signatures and
//! the package's hash as it does for any installation. What is unpacked stays in the cache with its checksum; a
//! cached kernel needs no network, and one that is gone is reported as unavailable, never as passed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, bail};

use crate::place;

/// What the matrix runs when nobody asks for anything else: the oldest kernel supported, the long-term ones, the
/// first of the 7 series, and whatever is newest today.
pub const DEFAULT: [&str; 6] = ["5.10", "6.1", "6.12", "6.18", "7.0", NEWEST];

/// The name for the highest 7.x that Debian has.
pub const NEWEST: &str = "newest";

const MIRROR: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Anything smaller is a metapackage: a kernel image has at least ten megabytes.
const SMALLEST_IMAGE_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// As asked for: "6.12" or "newest".
    pub series: String,
    /// As the kernel calls itself: "6.12.117+deb13-cloud-amd64".
    pub release: String,
    pub image: PathBuf,
    pub arch: Arch,
}

impl Kernel {
    /// The series that the release belongs to, which for "newest" is not what was asked for.
    pub fn real_series(&self) -> String {
        self.release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
    }
}

/// The kernel of a series: from the cache, else from Debian. `refresh` asks Debian even when one is cached, and
/// falls back on the cached one.
pub fn get(series: &str, arch: Arch, refresh: bool) -> anyhow::Result<Kernel> {
    let root = place::cache()?.join("kernels").join(arch.name());
    let dir = root.join(series);
    let cached = cached(series, arch, &dir);
    match (cached, refresh) {
        (Ok(Some(kernel)), false) => Ok(kernel),
        (Ok(Some(kernel)), true) => fetch(series, arch, &dir).or_else(|error| {
            eprintln!("{series}: {error:#}; using the cached {}", kernel.release);
            Ok(kernel)
        }),
        (Ok(None), _) => fetch(series, arch, &dir),
        (Err(damaged), _) => {
            eprintln!("{series}: {damaged:#}; fetching it again");
            fetch(series, arch, &dir)
        }
    }
}

fn cached(series: &str, arch: Arch, dir: &Path) -> anyhow::Result<Option<Kernel>> {
    let image = dir.join("vmlinuz");
    let Ok(release) = fs::read_to_string(dir.join("release")) else { return Ok(None) };
    let expected = fs::read_to_string(dir.join("vmlinuz.sha256")).unwrap_or_default();
    if sha256(&image)? != expected.trim() {
        bail!("the cached kernel {} does not match its checksum", image.display());
    }
    Ok(Some(Kernel { series: series.to_owned(), release: release.trim().to_owned(), image, arch }))
}

fn fetch(series: &str, arch: Arch, dir: &Path) -> anyhow::Result<Kernel> {
    let mut reasons = Vec::new();
    for (mirror, suite) in suites(series) {
        match fetch_from(mirror, suite, series, arch, dir) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => reasons.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("kernel {series} for {} is unavailable ({})", arch.name(), reasons.join("; "))
}

/// Where Debian keeps a series: each stable release has its own, backports of the newest has those since.
fn suites(series: &str) -> &'static [(&'static str, &'static str)] {
    match series {
        "5.10" => &[(SECURITY, "bullseye-security"), (MIRROR, "bullseye")],
        "6.1" => &[(SECURITY, "bookworm-security"), (MIRROR, "bookworm")],
        "6.12" => &[(SECURITY, "trixie-security"), (MIRROR, "trixie")],
        NEWEST => &[(MIRROR, "trixie-backports")],
        _ => &[(MIRROR, "trixie-backports"), (MIRROR, "sid")],
    }
}

fn fetch_from(mirror: &str, suite: &str, series: &str, arch: Arch, dir: &Path) -> anyhow::Result<Kernel> {
    let apt = Apt::new(mirror, suite, arch)?;
    apt.update()?;
    let package =
        newest(&apt.available()?, series, arch).with_context(|| format!("no package there has kernel {series}"))?;
    eprintln!("fetching {} {} from {suite}", package.name, package.version);
    let deb = apt.download(&package)?;
    let unpacked = apt.dir.join("unpacked");
    run(Command::new("dpkg").arg("-x").arg(&deb).arg(&unpacked))?;
    let (image, release) = find_image(&unpacked)?;

    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let target = dir.join("vmlinuz");
    fs::copy(&image, &target).with_context(|| format!("cannot copy the kernel to {}", target.display()))?;
    fs::write(dir.join("vmlinuz.sha256"), sha256(&target)?)?;
    // Written last: its presence says that the rest is whole.
    fs::write(dir.join("release"), &release)?;
    let _ = fs::remove_file(&deb);
    let _ = fs::remove_dir_all(&unpacked);
    Ok(Kernel { series: series.to_owned(), release, image: target, arch })
}

/// Packages put the image into /boot, the newest ones beside the modules.
fn find_image(unpacked: &Path) -> anyhow::Result<(PathBuf, String)> {
    if let Ok(entries) = fs::read_dir(unpacked.join("boot")) {
        for entry in entries.flatten() {
            if let Some(release) = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-") {
                return Ok((entry.path(), release.to_owned()));
            }
        }
    }
    for modules in ["usr/lib/modules", "lib/modules"] {
        for entry in fs::read_dir(unpacked.join(modules)).into_iter().flatten().flatten() {
            let image = entry.path().join("vmlinuz");
            if image.is_file() {
                return Ok((image, entry.file_name().to_string_lossy().into_owned()));
            }
        }
    }
    bail!("the package has no vmlinuz under /boot or /usr/lib/modules")
}

#[derive(Debug, PartialEq, Eq, Clone)]
struct Package {
    name: String,
    version: String,
}

/// The highest version of a series in a list of packages in Debian's control format.
fn newest(available: &str, series: &str, arch: Arch) -> Option<Package> {
    let suffix = format!("-cloud-{}", arch.debian());
    available
        .split("\n\n")
        .filter_map(|stanza| {
            let field =
                |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
            let name = field("Package")?;
            // "linux-binary" since 6.19; the unsigned twins are the same image without Secure Boot's signature.
            let abi = name
                .strip_prefix("linux-image-")
                .or_else(|| name.strip_prefix("linux-binary-"))?
                .strip_suffix(&suffix)?;
            let in_series = match series {
                NEWEST => abi.starts_with("7."),
                _ => abi.strip_prefix(series).is_some_and(|rest| rest.starts_with('.')),
            };
            let is_image = field("Size")?.parse::<u64>().ok()? >= SMALLEST_IMAGE_BYTES;
            let version = field("Version")?;
            (in_series && is_image && !abi.contains("unsigned"))
                .then(|| Package { name: name.to_owned(), version: version.to_owned() })
        })
        .max_by_key(|package| numbers(&package.version))
}

/// A version as the numbers in it, which orders the versions of one kernel series as dpkg does.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// apt with its own sources, lists and cache: reads nothing of the machine's sources and needs no root.
struct Apt {
    dir: PathBuf,
    suite: String,
    options: Vec<String>,
    source: String,
}

impl Apt {
    fn new(mirror: &str, suite: &str, arch: Arch) -> anyhow::Result<Self> {
        let dir = place::cache()?.join("kernels/apt").join(format!("{suite}-{}", arch.debian()));
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let at = |part: &str| dir.join(part).display().to_string();
        let options = [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={}", at("cache")),
            format!("APT::Architecture={}", arch.debian()),
            format!("APT::Architectures={}", arch.debian()),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
            // apt takes unreachable servers for a warning and would go on with an empty list.
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        Ok(Self { dir, suite: suite.to_owned(), options, source: format!("{mirror} {suite} main") })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C").current_dir(&self.dir);
        command
    }

    /// Reads the suite's package list. An older keyring than the suite's newest key is common (a fresh Debian
    /// image against a suite that has changed keys since): then a newer keyring comes from this machine's own,
    /// already trusted, sources.
    fn update(&self) -> anyhow::Result<()> {
        let Err(error) = self.update_with(Path::new(KEYRING)) else { return Ok(()) };
        if !format!("{error:#}").contains("NO_PUBKEY") && Path::new(KEYRING).exists() {
            return Err(error);
        }
        eprintln!("{}: the archive keyring of this machine is too old; fetching the current one", self.suite);
        self.update_with(&current_keyring()?)
    }

    fn update_with(&self, keyring: &Path) -> anyhow::Result<()> {
        let source = format!("deb [signed-by={}] {}\n", keyring.display(), self.source);
        fs::write(self.dir.join("sources.list"), source)?;
        run(self.command("apt-get").arg("update")).map(drop)
    }

    fn available(&self) -> anyhow::Result<String> {
        let output = run(self.command("apt-cache").arg("dumpavail"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn download(&self, package: &Package) -> anyhow::Result<PathBuf> {
        for old in debs(&self.dir) {
            let _ = fs::remove_file(old);
        }
        let wanted = format!("{}={}", package.name, package.version);
        run(self.command("apt-get").args(["download", &wanted]))?;
        debs(&self.dir).pop().with_context(|| format!("apt-get download {wanted} left no package behind"))
    }
}

/// Debian's newest archive keyring, unpacked into the cache, not installed.
fn current_keyring() -> anyhow::Result<PathBuf> {
    let dir = place::cache()?.join("kernels/keyring");
    fs::create_dir_all(&dir)?;
    run(Command::new("apt-get").args(["download", "debian-archive-keyring"]).current_dir(&dir))
        .context("cannot fetch debian-archive-keyring; run `apt-get update` as root first")?;
    let deb = debs(&dir).pop().context("apt-get download debian-archive-keyring left no package behind")?;
    run(Command::new("dpkg").arg("-x").arg(&deb).arg(&dir))?;
    for candidate in ["usr/share/keyrings/debian-archive-keyring.gpg", "usr/share/keyrings/debian-archive-keyring.pgp"]
    {
        if dir.join(candidate).is_file() {
            return Ok(dir.join(candidate));
        }
    }
    bail!("the package debian-archive-keyring has no keyring where it used to be")
}

fn debs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "deb")).collect()
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let output = run(Command::new("sha256sum").arg(file))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}; is it installed?"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
Package: linux-image-6.12.9+deb13-cloud-amd64\nVersion: 6.12.9-1\nSize: 34000000\n\n\
Package: linux-image-6.12.117+deb13-cloud-amd64\nVersion: 6.12.117-1\nSize: 34000000\n\n\
Package: linux-image-6.12.118+deb13-cloud-amd64\nVersion: 6.12.118-1\nSize: 1400\n\n\
Package: linux-image-6.1.0-56-cloud-amd64\nVersion: 6.1.192-2\nSize: 26000000\n\n\
Package: linux-binary-unsigned-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\nSize: 13000000\n\n\
Package: linux-binary-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\nSize: 13000000\n\n\
Package: linux-binary-7.0.13+deb13-cloud-amd64\nVersion: 7.0.13-1~bpo13+1\nSize: 13000000\n";

    fn check(series: &str, expected: Option<&str>) {
        let found = newest(LIST, series, Arch::X86_64).map(|package| package.name);
        assert_eq!(found.as_deref(), expected, "series {series}");
    }

    #[test]
    fn newest_of_a_series_is_by_number_and_no_metapackage() {
        check("6.12", Some("linux-image-6.12.117+deb13-cloud-amd64"));
    }

    #[test]
    fn series_is_not_a_prefix_of_another() {
        check("6.1", Some("linux-image-6.1.0-56-cloud-amd64"));
        check("6.11", None);
    }

    #[test]
    fn newest_is_the_signed_highest_seven() {
        check(NEWEST, Some("linux-binary-7.3.4+deb13-cloud-amd64"));
    }
}
