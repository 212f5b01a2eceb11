//! A server's whole life under a sensor that was there first: start, hundreds of healthy requests, graceful reload,
//! stop. And the starts and reloads that fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::needs::{self, Need, SITE, trial};
use crate::process;
use crate::sensor::{Line, SOON, Watcher};
use crate::servers::apache::{Apache, Sapi, Setup};
use crate::servers::wordpress::WordPress;

/// Healthy requests for each way of running PHP.
const REQUESTS: usize = 500;

/// What a visitor, a feed reader and a crawler ask of a healthy site, and what it answers.
const HEALTHY: [(&str, u16); 8] = [
    ("/", 200),
    ("/wp-includes/css/dashicons.css", 200),
    ("/wp-login.php", 200),
    ("/no/such/picture.png", 404),
    ("/?feed=rss2", 200),
    ("/wp-includes/js/jquery/jquery.js", 200),
    ("/?p=99999", 404),
    ("/wp-content/no.css?ver=1", 404),
];

pub fn trials() -> Vec<Trial> {
    let site = [SITE.as_slice(), &[Need::Cgroup2]].concat();
    let bare = [Need::Root, Need::Apache, Need::Fpm, Need::Sensor, Need::Cgroup2, Need::PhpState];
    let mut trials = Vec::new();
    for sapi in Sapi::ALL {
        for (opcache, mode) in [(false, "cold"), (true, "opcache")] {
            let name = format!("life::{}::{mode}::a_healthy_site_has_no_finding", sapi.name());
            trials.push(trial(name, &site, move || a_healthy_site_has_no_finding(sapi, opcache)));
        }
        let name = |case: &str| format!("life::{}::{case}", sapi.name());
        trials.push(trial(name("a_missing_extension"), &bare, move || a_missing_extension(sapi)));
    }
    trials.push(trial("life::a_missing_module", &bare, || {
        does_not_start("LoadModule gone_module /nowhere/mod_gone.so", "/nowhere/mod_gone.so")
    }));
    trials.push(trial("life::a_missing_include", &bare, || {
        does_not_start("Include /nowhere/gone.conf", "/nowhere/gone.conf")
    }));
    trials.push(trial("life::a_reload_that_kills", &bare, a_reload_that_kills));
    trials.push(trial("life::a_missing_password_file", &bare, a_missing_password_file));
    trials
}

/// A cgroup of this trial's own, that a sensor watches before anything runs in it.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let base = needs::cgroup2().context("no cgroup v2 hierarchy")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("watcher-it-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("could not make {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn watched(&self) -> Result<Watcher> {
        Watcher::start(&["--cgroup".as_ref(), self.path().as_os_str()])
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last worker leaves it a moment after its server's end. A directory that stays is named on stderr.
        if let Err(error) = process::wait_until("an empty cgroup", SOON, || fs::remove_dir(self.path()).is_ok()) {
            eprintln!("{}: {error}", self.path().display());
        }
    }
}

fn a_healthy_site_has_no_finding(sapi: Sapi, opcache: bool) -> Result<()> {
    let group = Group::new()?;
    let watcher = group.watched()?;
    let setup = Setup { cgroup: Some(group.path().to_owned()), ..Setup::new(sapi, opcache) };
    let mut apache = Apache::start(&setup)?;
    let _site = WordPress::deploy(&apache)?;
    let mut connection = apache.connect()?;
    for number in 0..REQUESTS {
        let (target, expected) = HEALTHY[number % HEALTHY.len()];
        if number == REQUESTS / 2 {
            apache.reload()?;
        }
        if number % 50 == 0 || number == REQUESTS / 2 {
            connection = apache.connect()?;
        }
        let status = connection.get(target)?.status;
        ensure!(status == expected, "GET {target} answers {status}");
    }
    drop(connection);
    apache.stop()?;
    let ended = watcher.terminate()?;
    ensure!(ended.status.code() == Some(0), "the sensor ended with {}: {}", ended.status, ended.stderr);
    let findings: Vec<String> =
        ended.lines.iter().filter(|line| line.is_finding()).map(|line| line.json.to_string()).collect();
    ensure!(findings.is_empty(), "a healthy life has findings:\n{}", findings.join("\n"));
    // Silence counts only from a sensor that was looking.
    let htaccess: u64 = ended
        .lines
        .iter()
        .filter(|line| line.is_event() && line.text("file.path").ends_with("/.htaccess"))
        .filter_map(|line| line.number("count"))
        .sum();
    ensure!(htaccess >= 100, "only {htaccess} failing opens of .htaccess were seen");
    Ok(())
}

/// A finding of this category whose text names `name`.
fn found(watcher: &Watcher, category: &str, name: &str) -> Result<Line> {
    watcher.wait_for(&format!("{category} naming {name}"), SOON, |line| {
        line.is_finding() && line.text("finding.category") == category && line.json.to_string().contains(name)
    })
}

fn a_missing_extension(sapi: Sapi) -> Result<()> {
    let group = Group::new()?;
    let watcher = group.watched()?;
    let ini = [("extension", "no_such_extension")];
    let setup = Setup { cgroup: Some(group.path().to_owned()), ini: &ini, ..Setup::new(sapi, false) };
    let mut apache = Apache::start(&setup)?;
    let finding = found(&watcher, "missing_extension", "no_such_extension")?;
    let ini = apache.dir().join("php.ini").display().to_string();
    ensure!(finding.json.to_string().contains(&ini), "{} is not named: {}", ini, finding.json);
    apache.stop()?;
    let ended = watcher.terminate()?;
    let mut ids: Vec<&str> =
        ended.lines.iter().filter(|line| line.is_finding()).map(|line| line.text("finding.id")).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == 1, "one missing extension makes {} findings", ids.len());
    Ok(())
}

fn does_not_start(line: &str, missing: &str) -> Result<()> {
    let group = Group::new()?;
    let watcher = group.watched()?;
    let setup = Setup { cgroup: Some(group.path().to_owned()), extra: line, ..Setup::new(Sapi::ModPhp, false) };
    ensure!(Apache::start(&setup).is_err(), "it starts in spite of {line}");
    found(&watcher, "missing_config", missing).map(|_| ())
}

/// Apache reads its configuration at a raw SIGUSR1 without testing it first, and ends.
fn a_reload_that_kills() -> Result<()> {
    let group = Group::new()?;
    let watcher = group.watched()?;
    let setup = Setup { cgroup: Some(group.path().to_owned()), ..Setup::new(Sapi::ModPhp, false) };
    let apache = Apache::start(&setup)?;
    let file = apache.dir().join("apache2.conf");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text + "Include /nowhere/at_reload.conf\n")?;
    ensure!(apache.reload().is_err(), "it survives the reload");
    found(&watcher, "missing_config", "/nowhere/at_reload.conf").map(|_| ())
}

fn a_missing_password_file() -> Result<()> {
    let group = Group::new()?;
    let watcher = group.watched()?;
    let setup = Setup { cgroup: Some(group.path().to_owned()), ..Setup::new(Sapi::ModPhp, false) };
    let apache = Apache::start(&setup)?;
    let rules = "AuthType Basic\nAuthName x\nAuthUserFile /nowhere/htpasswd\nRequire valid-user\n";
    fs::write(apache.docroot().join(".htaccess"), rules)?;
    fs::write(apache.docroot().join("page.html"), "text")?;
    let mut connection = apache.connect()?;
    connection.send_with("/page.html", "Authorization: Basic dXNlcjpwYXNz\r\n")?;
    let status = connection.receive()?.status;
    ensure!(status == 500, "it answers {status}");
    found(&watcher, "missing_config", "/nowhere/htpasswd").map(|_| ())
}
