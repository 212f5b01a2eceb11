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

/// Where one PHP is installed.
#[derive(Clone, Debug)]
pub struct Php {
    pub module: PathBuf,
    pub fpm: PathBuf,
    pub cli: PathBuf,
    pub extensions: PathBuf,
}

impl Php {
    /// Debian 12's own.
    pub fn system() -> Self {
        Self {
            module: "/usr/lib/apache2/modules/libphp8.2.so".into(),
            fpm: "/usr/sbin/php-fpm8.2".into(),
            cli: "/usr/bin/php8.2".into(),
            extensions: "/usr/lib/php/20220829".into(),
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
            if self.extensions.join(format!("{name}.so")).exists() {
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
    pub socket: PathBuf,
}

impl Fpm {
    /// Starts with its files in `scratch`, whose `php.ini` is already written. `wrap` may put it into a cgroup.
    pub fn start(php: &Php, scratch: &Path, mut command: Command) -> Result<Self> {
        let socket = scratch.join("fpm.sock");
        let log = scratch.join("fpm.log");
        let config = scratch.join("fpm.conf");
        fs::write(
            &config,
            format!(
                "[global]\npid = {dir}/fpm.pid\nerror_log = {dir}/fpm-error.log\ndaemonize = no\n\
                 [www]\nuser = www-data\ngroup = www-data\nlisten = {socket}\nlisten.owner = www-data\n\
                 pm = static\npm.max_children = 3\ncatch_workers_output = yes\nclear_env = yes\n",
                dir = scratch.display(),
                socket = socket.display(),
            ),
        )?;
        command.arg(&php.fpm).arg("-F").arg("-y").arg(&config).arg("-c").arg(scratch.join("php.ini"));
        command.env("PHP_INI_SCAN_DIR", "");
        // SIGQUIT is FPM's graceful stop; SIGTERM kills workers within a request.
        let mut server = Server::start("php-fpm", &mut command, &log, Signal::QUIT)?;
        let pid = server.pid();
        server.wait_ready(Duration::from_secs(20), &log, || socket.exists() && process::children(pid).len() == 3)?;
        Ok(Self { server, socket })
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
