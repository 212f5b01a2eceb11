//! What a trial needs from the machine, probed once at start. A trial whose needs are not met is listed as ignored
//! with the reason in its kind; it never passes by doing nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::servers::{php::Php, wordpress};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    Root,
    Apache,
    Fpm,
    MariaDb,
    WordPress,
    /// Another release's Apache and PHP, unpacked in the cache.
    Php(&'static str),
    Strace,
    Curl,
    OpenSsl,
    /// A writable cgroup v2 hierarchy.
    Cgroup2,
    /// The machine can run the sensor at all.
    Sensor,
    /// The sensor reads PHP's own state at a failing open.
    PhpState,
}

/// What an ordinary live trial of the sensor with WordPress needs.
pub const SITE: [Need; 6] = [Need::Root, Need::Apache, Need::Fpm, Need::MariaDb, Need::WordPress, Need::Sensor];

/// A trial that runs where its needs are met and is reported as ignored elsewhere.
pub fn trial(name: impl Into<String>, needs: &[Need], body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let missing = needs.iter().find_map(|need| missing(*need));
    let trial = Trial::test(name, move || body().map_err(|error| Failed::from(format!("{error:#}"))));
    match missing {
        None => trial,
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
    }
}

/// Why this machine does not meet a need.
pub fn missing(need: Need) -> Option<String> {
    static ANSWERS: OnceLock<Mutex<HashMap<Need, Option<String>>>> = OnceLock::new();
    let mut answers = ANSWERS.get_or_init(Mutex::default).lock().ok()?;
    answers.entry(need).or_insert_with(|| probe(need)).clone()
}

fn probe(need: Need) -> Option<String> {
    let file = |path: &Path| (!path.exists()).then(|| format!("needs {}", path.display()));
    let php = Php::system();
    match need {
        Need::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
        Need::Apache => file(Path::new("/usr/sbin/apache2")).or_else(|| file(&php.module)),
        Need::Fpm => file(&php.fpm),
        Need::MariaDb => command("mariadbd").or_else(|| command("mariadb-install-db")),
        Need::WordPress => file(Path::new(wordpress::SOURCE)).or_else(|| file(&php.cli)),
        Need::Php(version) => Php::version(version).root.and_then(|root| {
            (!root.join("complete").exists())
                .then(|| format!("needs PHP {version}: run cargo xtask setup --tests as root"))
        }),
        Need::Strace => command("strace"),
        Need::Curl => command("curl"),
        Need::OpenSsl => command("openssl"),
        Need::Cgroup2 => cgroup2().is_none().then(|| "needs a writable cgroup v2 hierarchy".to_owned()),
        Need::PhpState => Some("needs a sensor that reads PHP's state".to_owned()),
        Need::Sensor => crate::sensor::unable(),
    }
}

fn command(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir: PathBuf| dir.join(name).exists());
    (!found).then(|| format!("needs the command {name}"))
}

/// Where cgroup v2 is mounted and can be extended; tried once.
pub fn cgroup2() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
        let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        let path = PathBuf::from(line.split(' ').nth(1)?);
        let attempt = path.join(format!("watcher-it-{}", std::process::id()));
        std::fs::create_dir(&attempt).and_then(|()| std::fs::remove_dir(&attempt)).ok()?;
        Some(path)
    };
    FOUND.get_or_init(find).clone()
}
