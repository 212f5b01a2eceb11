//! Debian's packages: which are missing, and installing those, as root only when there is something to install.

use std::{fs, process::Command, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::services;
use crate::{place, shell};

/// Something to have installed.
pub struct Package {
    /// What to install.
    pub name: &'static str,
    /// Installed packages of this pattern serve as well.
    pub also: Option<&'static str>,
}

impl Package {
    pub const fn named(name: &'static str) -> Self {
        Self { name, also: None }
    }

    fn is_installed(&self) -> bool {
        [Some(self.name), self.also].into_iter().flatten().any(has)
    }
}

/// Installs those that are missing.
pub fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().filter(|package| !package.is_installed()).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    if place::on_path("apt-get").is_none() {
        bail!("this is no Debian or Ubuntu: install the equivalents of {wanted} by hand, then try again");
    }
    if !is_root() && place::on_path("sudo").is_none() {
        bail!("not root and no sudo: run `apt-get install --no-install-recommends {wanted}` as root, then try again");
    }
    // The lists know nothing yet on a fresh machine, and may name superseded versions on an old one.
    let fresh = if missing.iter().all(|name| is_known(name)) {
        false
    } else {
        update()?;
        true
    };
    if let Some(unknown) = missing.iter().find(|name| !is_known(name)) {
        bail!("apt knows no package {unknown}: add Debian 12 with its security suite to apt's sources, then try again");
    }
    let done = services::kept_stopped(|| {
        get_missing(&missing).or_else(|error| {
            if fresh {
                return Err(error);
            }
            update()?;
            get_missing(&missing)
        })
    });
    done.with_context(|| format!("cannot install {wanted}: see apt's messages above, repair, then try again"))
}

/// A command as root.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}

pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Real, effective, saved and file system user.
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Installed packages that match the pattern.
fn installed(pattern: &str) -> Vec<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n", pattern]);
    let answer = shell::read(&mut query).unwrap_or_default();
    answer.lines().filter_map(|line| line.strip_prefix("ii ")).map(|name| name.trim().to_owned()).collect()
}

fn has(pattern: &str) -> bool {
    !installed(pattern).is_empty()
}

fn is_known(package: &str) -> bool {
    let policy = shell::read(Command::new("apt-cache").args(["policy", package])).unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate: ").is_some_and(|version| version != "(none)"))
}

fn get_missing(packages: &[&str]) -> Result<()> {
    let mut apt = as_root("env");
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends"]);
    // Another installation may be under way: wait for its lock.
    apt.args(["-o", "DPkg::Lock::Timeout=600", "--"]).args(packages);
    shell::run(&mut apt)
}

/// The lists' own lock has no timeout option, so it is tried again.
fn update() -> Result<()> {
    const TRIES: u32 = 20;
    for rest in (0..TRIES).rev() {
        let mut apt = as_root("apt-get");
        // Without this a list that could not be fetched is only a warning.
        apt.args(["update", "-o", "APT::Update::Error-Mode=any"]);
        eprintln!("$ {}", shell::text(&apt));
        match shell::read(&mut apt) {
            Ok(_) => return Ok(()),
            Err(error) if rest > 0 && format!("{error:#}").contains("Could not get lock") => {
                sleep(Duration::from_secs(3));
            }
            // One dead source among many does no harm when the packages are there.
            Err(error) => {
                eprintln!("warning: {error:#}");
                return Ok(());
            }
        }
    }
    Ok(())
}
