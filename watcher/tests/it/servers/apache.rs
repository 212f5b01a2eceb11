//! A private Apache with PHP inside (prefork and mod_php) or behind it (event and php-fpm).

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use super::php::{Fpm, Php};
use crate::http::{Connection, Response};
use crate::process::{self, Server};

/// The virtual host that every test server carries, so that findings can be asked for `server.address`.
pub const HOST: &str = "shop.example";

/// How PHP runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sapi {
    ModPhp,
    Fpm,
}

impl Sapi {
    pub const ALL: [Self; 2] = [Self::ModPhp, Self::Fpm];

    pub fn name(self) -> &'static str {
        match self {
            Self::ModPhp => "mod_php",
            Self::Fpm => "fpm",
        }
    }
}

/// What a test asks of its server.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    pub php: Php,
    pub sapi: Sapi,
    pub opcache: bool,
    pub ini: &'a [(&'a str, &'a str)],
    /// Lines added to the server's configuration.
    pub extra: &'a str,
    /// HTTPS with HTTP/2 on a second port; prefork cannot speak HTTP/2.
    pub tls: bool,
    /// A cgroup v2 directory that the servers are started in, so that a sensor can be there before them.
    pub cgroup: Option<PathBuf>,
}

impl Setup<'_> {
    pub fn new(sapi: Sapi, opcache: bool) -> Self {
        Self { php: Php::system(), sapi, opcache, ini: &[], extra: "", tls: false, cgroup: None }
    }

    /// How a server process is started: bound to this run's life and, where asked, born in its cgroup, so that no
    /// open of its start happens outside.
    fn launcher(&self) -> Command {
        match &self.cgroup {
            None => process::tied("env"),
            Some(group) => {
                let mut command = process::tied("sh");
                command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(group);
                command
            }
        }
    }
}

/// A running server. Field order is drop order: Apache goes before FPM, both before their files.
#[derive(Debug)]
pub struct Apache {
    server: Server,
    fpm: Option<Fpm>,
    address: SocketAddr,
    tls_port: u16,
    scratch: TempDir,
    php: Php,
}

impl Apache {
    /// Starts on an empty document root, [`Apache::docroot`].
    pub fn start(setup: &Setup<'_>) -> Result<Self> {
        let base = setup.php.outside(Path::new("/tmp"));
        let scratch = super::scratch_in(&base, "watcher-it-apache-")?;
        let dir = scratch.path();
        for name in ["www", "run", "logs"] {
            fs::create_dir(dir.join(name))?;
        }
        setup.php.write_ini(&dir.join("php.ini"), setup.opcache, setup.ini)?;
        let fpm = match setup.sapi {
            Sapi::ModPhp => None,
            Sapi::Fpm => Some(Fpm::start(&setup.php, dir, setup.launcher())?),
        };
        let (port, tls_port) = (free_port()?, free_port()?);
        let config = dir.join("apache2.conf");
        fs::write(&config, configuration(setup, &setup.php.inside(dir), port, tls_port)?)?;
        if setup.tls {
            certificate(dir)?;
        }
        let log = dir.join("logs/start.log");
        let mut command = setup.launcher();
        setup.php.enter(&mut command);
        command.arg("/usr/sbin/apache2").arg("-d").arg(setup.php.inside(dir));
        command.arg("-f").arg(setup.php.inside(&config)).arg("-DFOREGROUND");
        command.env("PHP_INI_SCAN_DIR", "");
        let mut server = Server::start("apache2", &mut command, &log, Signal::TERM)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        server.wait_ready(Duration::from_secs(20), &log, || TcpStream::connect(address).is_ok())?;
        Ok(Self { server, fpm, address, tls_port, scratch, php: setup.php.clone() })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The main processes that a sensor is pointed at.
    pub fn pids(&self) -> Vec<u32> {
        std::iter::once(self.pid()).chain(self.fpm.as_ref().map(Fpm::pid)).collect()
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn docroot(&self) -> PathBuf {
        self.scratch.path().join("www")
    }

    /// The document root as the servers see it.
    pub fn docroot_inside(&self) -> PathBuf {
        self.php.inside(&self.docroot())
    }

    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, HOST)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Result<Response> {
        self.connect()?.get(target)
    }

    /// One GET over TLS and HTTP/2, by curl.
    pub fn get_http2(&self, target: &str) -> Result<u16> {
        let url = format!("https://{HOST}:{}{target}", self.tls_port);
        let resolve = format!("{HOST}:{}:127.0.0.1", self.tls_port);
        let mut command = Command::new("curl");
        command.args(["--silent", "--insecure", "--http2", "--max-time", "20", "--output", "/dev/null"]);
        command.args(["--write-out", "%{http_version} %{http_code}", "--resolve", &resolve, &url]);
        let answer = process::run(&mut command)?;
        let (version, status) = answer.split_once(' ').with_context(|| format!("curl said {answer:?}"))?;
        anyhow::ensure!(version == "2", "curl spoke HTTP/{version}, not HTTP/2");
        Ok(status.parse()?)
    }

    pub fn error_log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir().join(name)).unwrap_or_default();
        read("logs/error.log") + &read("fpm-error.log")
    }

    /// Apache's graceful restart, and FPM's; returns when new workers answer.
    pub fn reload(&self) -> Result<()> {
        if let Some(fpm) = &self.fpm {
            fpm.reload()?;
        }
        let before = process::children(self.pid());
        self.server.signal(Signal::USR1)?;
        process::wait_until("new apache workers", Duration::from_secs(20), || {
            let now = process::children(self.pid());
            !now.is_empty() && now.iter().any(|pid| !before.contains(pid)) && TcpStream::connect(self.address).is_ok()
        })
    }

    pub fn stop(&mut self) -> Result<()> {
        self.server.stop()?;
        self.fpm.as_mut().map_or(Ok(()), Fpm::stop)
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn certificate(dir: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]);
    command.arg("-keyout").arg(dir.join("key.pem")).arg("-out").arg(dir.join("cert.pem"));
    process::run(&mut command).map(|_| ())
}

/// `dir` is the scratch directory as the server sees it.
fn configuration(setup: &Setup<'_>, dir: &Path, port: u16, tls_port: u16) -> Result<String> {
    let mut modules = vec!["authz_core", "authn_core", "authn_file", "auth_basic", "authz_user", "dir", "mime", "env"];
    modules.extend(["rewrite", "setenvif", "alias"]);
    modules.push(if setup.sapi == Sapi::Fpm { "mpm_event" } else { "mpm_prefork" });
    if setup.sapi == Sapi::Fpm {
        modules.extend(["proxy", "proxy_fcgi"]);
    }
    if setup.tls {
        modules.extend(["ssl", "http2"]);
    }
    let mut text = String::new();
    for name in modules {
        writeln!(text, "LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so")?;
    }
    let root = dir.join("www");
    let dir = dir.display();
    writeln!(
        text,
        "ServerRoot {dir}\nDefaultRuntimeDir {dir}/run\nPidFile {dir}/run/apache2.pid\n\
         Listen 127.0.0.1:{port}\nServerName localhost\nUser www-data\nGroup www-data\nTypesConfig {types}\n\
         ErrorLog {dir}/logs/error.log\nLogLevel warn\nLogFormat \"%H %m %U %>s\" short\n\
         CustomLog {dir}/logs/access.log short\nDirectoryIndex index.php index.html\nKeepAlive On\n\
         MaxKeepAliveRequests 0\nTimeout 30\nServerTokens Prod\n\
         <Directory {root}>\nAllowOverride All\nOptions FollowSymLinks\nRequire all granted\n</Directory>",
        root = root.display(),
        types = if setup.php.root.is_some() { "/dev/null" } else { "/etc/mime.types" },
    )?;
    match setup.sapi {
        // Three workers: enough that a request meets another worker than the last one.
        Sapi::ModPhp => writeln!(
            text,
            "StartServers 3\nMinSpareServers 3\nMaxSpareServers 3\nMaxRequestWorkers 8\n\
             LoadModule {name} {module}\nPHPIniDir {dir}\n\
             <FilesMatch \"\\.php$\">\nSetHandler application/x-httpd-php\n</FilesMatch>",
            name = setup.php.module_name,
            module = setup.php.module.display(),
        )?,
        Sapi::Fpm => writeln!(
            text,
            "StartServers 1\nThreadsPerChild 8\nMaxRequestWorkers 16\n\
             <FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:{dir}/fpm.sock|fcgi://localhost\"\n</FilesMatch>",
        )?,
    }
    writeln!(text, "{}", setup.extra)?;
    writeln!(
        text,
        "<VirtualHost 127.0.0.1:{port}>\nServerName {HOST}\nDocumentRoot {root}\n</VirtualHost>",
        root = root.display(),
    )?;
    if setup.tls {
        writeln!(
            text,
            "Listen 127.0.0.1:{tls_port}\n<VirtualHost 127.0.0.1:{tls_port}>\nServerName {HOST}\n\
             DocumentRoot {root}\nSSLEngine on\nSSLCertificateFile {dir}/cert.pem\n\
             SSLCertificateKeyFile {dir}/key.pem\nProtocols h2 http/1.1\n</VirtualHost>",
            root = root.display(),
        )?;
    }
    Ok(text)
}
