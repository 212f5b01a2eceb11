//! Apache and PHP of other Debian releases, each unpacked into a directory tree of its own in the cache.
//!
//! The sensor reads PHP's memory by offsets that differ from version to version, so the live tests run the oldest
//! and the newest PHP that Debian supports beside the machine's own. Their packages need another C library than this
//! machine has: apt fetches the whole closure of dependencies under a configuration of its own, checks signatures
//! and hashes as ever, and the tests enter the tree by chroot. No package's scripts run, and nothing is installed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{place, setup, shell};

/// One release.
struct Root {
    suite: &'static str,
    php: &'static str,
}

const ROOTS: [Root; 2] = [Root { suite: "bullseye", php: "7.4" }, Root { suite: "trixie", php: "8.4" }];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Users that the servers run as; the package that makes them does so in its scripts.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\n";

/// Fetches what is missing. A release that cannot be had is named and left out: its tests are then skipped, which
/// the closing table shows.
pub fn install() -> Result<()> {
    for root in &ROOTS {
        let dir = place::cache()?.join("php").join(root.php);
        // Written last: its presence says that the rest is whole.
        if dir.join("complete").exists() {
            continue;
        }
        if !setup::is_root() {
            eprintln!("PHP {}: needs root to make device files; run as root to test it", root.php);
            continue;
        }
        if let Err(error) = fetch(root, &dir) {
            eprintln!("PHP {}: cannot be had from Debian {}: {error:#}", root.php, root.suite);
        }
    }
    Ok(())
}

fn fetch(root: &Root, dir: &Path) -> Result<()> {
    let apt = dir.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part)).with_context(|| format!("cannot create {}", apt.display()))?;
    }
    let suite = root.suite;
    let source =
        |base: &str, suite: &str| format!("deb [signed-by={KEYRING}] http://deb.debian.org/{base} {suite} main\n");
    let sources = source("debian", suite) + &source("debian-security", &format!("{suite}-security"));
    fs::write(apt.join("sources.list"), sources)?;
    shell::run(apt_get(&apt).arg("update"))?;
    let php = root.php;
    let mut download = apt_get(&apt);
    download.args(["install", "--download-only", "--no-install-recommends", "-y", "apache2"]);
    download.args([format!("libapache2-mod-php{php}"), format!("php{php}-fpm")]);
    shell::run(download.args([format!("php{php}-opcache"), format!("php{php}-cli")]))?;
    unpack(&apt.join("cache/archives"), dir)?;
    fs::remove_dir_all(&apt)?;
    Ok(fs::write(dir.join("complete"), suite)?)
}

/// apt with its own sources, lists and cache, and the belief that nothing is installed.
fn apt_get(dir: &Path) -> Command {
    let at = |part: &str| dir.join(part).display().to_string();
    let options = [
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State::lists={}", at("lists")),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", at("cache")),
        "Debug::NoLocking=1".to_owned(),
        "APT::Sandbox::User=".to_owned(),
        "APT::Update::Error-Mode=any".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=2".to_owned(),
    ];
    let mut command = Command::new("apt-get");
    command.arg("-q").args(options.iter().flat_map(|option| ["-o", option])).env("LC_ALL", "C");
    command
}

fn unpack(archives: &Path, dir: &Path) -> Result<()> {
    // The merged directories first, as links: packages of both layouts then land in one place.
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(dir.join("usr").join(name))?;
        if !dir.join(name).exists() {
            symlink(format!("usr/{name}"), dir.join(name))?;
        }
    }
    let mut packages: Vec<PathBuf> = fs::read_dir(archives)?.flatten().map(|entry| entry.path()).collect();
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages.sort();
    let extract =
        r#"for p in "$@"; do dpkg-deb --fsys-tarfile "$p" | tar -x --keep-directory-symlink -C "$0" || exit 1; done"#;
    // Hundreds of names would drown the rest of what is printed.
    eprintln!("$ dpkg-deb --fsys-tarfile … | tar -x -C {} ({} packages)", dir.display(), packages.len());
    shell::read(Command::new("sh").args(["-c", extract]).arg(dir).args(&packages))?;

    for (path, mode) in [("tmp", 0o1777), ("run/php", 0o755), ("var/www", 0o755), ("etc", 0o755), ("dev", 0o755)] {
        fs::create_dir_all(dir.join(path))?;
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode))?;
    }
    fs::write(dir.join("etc/passwd"), PASSWD)?;
    fs::write(dir.join("etc/group"), GROUP)?;
    for (name, minor) in [("null", "3"), ("zero", "5"), ("random", "8"), ("urandom", "9")] {
        let device = dir.join("dev").join(name);
        if !device.exists() {
            shell::read(Command::new("mknod").args(["-m", "666"]).arg(&device).args(["c", "1", minor]))?;
        }
    }
    Ok(())
}
