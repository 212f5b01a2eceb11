//! Packages of servers start them and enable them at boot; a machine that only builds and tests wants neither.

use std::{collections::BTreeSet, fs, io, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::apt;
use crate::shell;

/// What Debian's maintainer scripts ask before they start anything; exit 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const REFUSE: &str = "#!/bin/sh\n# Written by the watcher project while it installs packages.\nexit 101\n";

/// Runs `install` so that it starts no service, and leaves none enabled that was not there before.
pub fn kept_stopped(install: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = enabled();
    let policy = Policy::refuse()?;
    let done = install();
    policy.restore()?;
    for service in enabled().difference(&before) {
        shell::run(apt::as_root("update-rc.d").args([service, "disable"]))?;
    }
    done
}

/// What starts at boot. Debian links it here on systemd too, and `update-rc.d` keeps both in step.
fn enabled() -> BTreeSet<String> {
    let links = fs::read_dir("/etc/rc3.d").into_iter().flatten().flatten();
    let names = links.filter_map(|link| link.file_name().into_string().ok());
    // `S01apache2`: started, with its order.
    names
        .filter_map(|name| Some(name.strip_prefix('S')?.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()))
        .collect()
}

/// The machine's policy before ours took its place.
enum Policy {
    /// It refuses everything already.
    Kept,
    /// There was none.
    Absent,
    Saved,
}

const SAVED: &str = "/usr/sbin/policy-rc.d.before-watcher";

impl Policy {
    fn refuse() -> Result<Self> {
        let policy = match fs::read(POLICY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(error) => return Err(error).context("cannot read /usr/sbin/policy-rc.d"),
            // Ours, left behind by a setup that was killed.
            Ok(text) if text == REFUSE.as_bytes() => {
                return Ok(if Path::new(SAVED).exists() { Self::Saved } else { Self::Absent });
            }
            Ok(_) if refuses() => return Ok(Self::Kept),
            Ok(_) => {
                shell::run(apt::as_root("mv").args([POLICY, SAVED]))?;
                Self::Saved
            }
        };
        // Through the shell, because writing there may need sudo.
        shell::run(apt::as_root("sh").args(["-c", &format!("printf %s '{REFUSE}' >{POLICY} && chmod 755 {POLICY}")]))
            .context("cannot keep services from starting: see that /usr/sbin is writable")?;
        Ok(policy)
    }

    fn restore(self) -> Result<()> {
        match self {
            Self::Kept => Ok(()),
            Self::Absent => shell::run(apt::as_root("rm").arg(POLICY)),
            Self::Saved => shell::run(apt::as_root("mv").args([SAVED, POLICY])),
        }
    }
}

fn refuses() -> bool {
    Command::new(POLICY).args(["apache2", "start"]).status().is_ok_and(|status| status.code() == Some(101))
}
