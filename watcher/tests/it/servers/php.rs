//! PHP as the tests run it: one installation (several versions can stand side by side), its private php.ini, and
//! the FPM server.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::process::{self, Server};

/// Extensions that WordPress needs from a distribution's PHP, in load order: mysqlnd is what mysqli builds on.
const EXTENSIONS: [&str; 6] = ["mysqlnd", "mysqli", "ctype", "tokenizer", "posix", "fileinfo"];

/// Where one PHP and its Apache are installed. Paths are as the servers see them, below `root` where they run in one.
#[derive(Clone, Debug)]
pub struct Php {
    /// A directory tree of another Debian release, entered by chroot.
    pub root: Option<PathBuf>,
    pub module: PathBuf,
    /// The name by which LoadModule knows it.
    pub module_name: &'static str,
    pub fpm: PathBuf,
    pub cli: PathBuf,
    pub extensions: PathBuf,
}

/// The versions that are tested, with the directory name of their extensions: what Debian 11, 12 and 13 carry.
const VERSIONS: [(&str, &str); 3] = [("7.4", "20190902"), (SYSTEM, "20220829"), ("8.4", "20240924")];

/// The version that the tests' own machine has installed; the others stand in the cache.
pub const SYSTEM: &str = "8.2";

impl Php {
    pub fn system() -> Self {
        Self::version(SYSTEM)
    }

    pub fn version(version: &str) -> Self {
        let api = VERSIONS.iter().find(|(name, _)| *name == version).map_or("unknown", |(_, api)| *api);
        Self {
            root: (version != SYSTEM).then(|| super::cache().join("php").join(version)),
            module: format!("/usr/lib/apache2/modules/libphp{version}.so").into(),
            module_name: if version.starts_with("7.") { "php7_module" } else { "php_module" },
            fpm: format!("/usr/sbin/php-fpm{version}").into(),
            cli: format!("/usr/bin/php{version}").into(),
            extensions: format!("/usr/lib/php/{api}").into(),
        }
    }

    /// Where this machine finds a path that the servers see.
    pub fn outside(&self, path: &Path) -> PathBuf {
        match &self.root {
            None => path.to_owned(),
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// Where the servers see a path of this machine.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let below = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok());
        below.map_or_else(|| path.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// Makes `command`, which executes its arguments, do so where this PHP lives.
    pub fn enter(&self, command: &mut Command) {
        if let Some(root) = &self.root {
            command.arg("chroot").arg(root);
        }
    }

    /// A complete php.ini: the packaged scan directories are not read, so that the machine's settings do not leak in.
    /// The production values of the distribution come first, `settings` override them.
    pub fn write_ini(&self, path: &Path, opcache: bool, settings: &[(&str, &str)]) -> Result<()> {
        let mut ini = String::from(
            "[PHP]\nerror_reporting = 22527\ndisplay_errors = Off\nlog_errors = On\nhtml_errors = On\n\
             memory_limit = 256M\ndate.timezone = UTC\nuser_ini.cache_ttl = 0\n",
        );
        writeln!(ini, "extension_dir = \"{}\"", self.extensions.display())?;
        if opcache {
            writeln!(ini, "zend_extension = opcache\nopcache.enable = 1\nopcache.revalidate_freq = 0")?;
        }
        for name in EXTENSIONS {
            if self.outside(&self.extensions.join(format!("{name}.so"))).exists() {
                writeln!(ini, "extension = {name}")?;
            }
        }
        for (key, value) in settings {
            writeln!(ini, "{key} = {value}")?;
        }
        fs::write(path, ini).with_context(|| format!("could not write {}", path.display()))
    }
}

/// A php-fpm with a pool of its own on a unix socket.
#[derive(Debug)]
pub struct Fpm {
    server: Server,
}

impl Fpm {
    /// Starts with its files in `scratch`, whose `php.ini` is already written. `wrap` may put it into a cgroup.
    pub fn start(php: &Php, scratch: &Path, mut command: Command) -> Result<Self> {
        let socket = scratch.join("fpm.sock");
        let log = scratch.join("fpm.log");
        let config = scratch.join("fpm.conf");
        let inside = php.inside(scratch);
        fs::write(
            &config,
            format!(
                "[global]\npid = {dir}/fpm.pid\nerror_log = {dir}/fpm-error.log\ndaemonize = no\n\
                 [www]\nuser = www-data\ngroup = www-data\nlisten = {dir}/fpm.sock\nlisten.owner = www-data\n\
                 pm = static\npm.max_children = 3\ncatch_workers_output = yes\nclear_env = yes\n",
                dir = inside.display(),
            ),
        )?;
        php.enter(&mut command);
        command.arg(&php.fpm).arg("-F").arg("-y").arg(inside.join("fpm.conf")).arg("-c").arg(inside.join("php.ini"));
        command.env("PHP_INI_SCAN_DIR", "");
        // SIGQUIT is FPM's graceful stop; SIGTERM kills workers within a request.
        let mut server = Server::start("php-fpm", &mut command, &log, Signal::QUIT)?;
        let pid = server.pid();
        server.wait_ready(Duration::from_secs(20), &log, || socket.exists() && process::children(pid).len() == 3)?;
        Ok(Self { server })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Replaces all workers without refusing a request; the main process executes itself anew under the same pid.
    pub fn reload(&self) -> Result<()> {
        let before = process::children(self.pid());
        self.server.signal(Signal::USR2)?;
        process::wait_until("new fpm workers", Duration::from_secs(20), || {
            let now = process::children(self.pid());
            now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
        })
    }

    pub fn stop(&mut self) -> Result<()> {
        self.server.stop().map(|_| ())
    }
}
