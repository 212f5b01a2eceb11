//! One private MariaDB for the whole run, on a unix socket, with WordPress' database in it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::kept::Kept;
use crate::process::{self, Server};

pub const DATABASE: &str = "wordpress";
pub const USER: &str = "wordpress";
pub const PASSWORD: &str = "wordpress";

static SHARED: Kept<MariaDb> = Kept::new();

/// The server and its files; dropped in this order.
#[derive(Debug)]
pub struct MariaDb {
    _server: Server,
    _scratch: TempDir,
    pub socket: PathBuf,
}

/// The one server of this run; the first caller starts it.
pub fn shared() -> Result<Arc<MariaDb>> {
    SHARED.get(boot)
}

fn boot() -> Result<MariaDb> {
    let scratch = super::scratch("watcher-it-mariadb-")?;
    let dir = scratch.path();
    process::run(Command::new("chown").arg("mysql:mysql").arg(dir))?;
    let data = dir.join("data");
    let datadir = format!("--datadir={}", data.display());
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--user=mysql", "--skip-test-db", "--auth-root-authentication-method=socket"]);
    process::run(install.arg(&datadir))?;

    let socket = dir.join("mysqld.sock");
    let log = dir.join("mariadbd.log");
    let mut command = process::tied("setpriv");
    // Not `--user`: changing the user itself would clear the death signal.
    command.args(["--reuid=mysql", "--regid=mysql", "--init-groups", "--pdeathsig", "TERM", "--", "mariadbd"]);
    command.args(["--no-defaults", "--skip-networking", "--innodb-buffer-pool-size=32M", "--skip-log-bin"]);
    command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--performance-schema=off"]);
    command.arg(&datadir).arg(format!("--socket={}", socket.display()));
    command.arg(format!("--pid-file={}/mysqld.pid", dir.display()));
    let mut server = Server::start("mariadbd", &mut command, &log, Signal::TERM)?;
    let client = || {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root"]).arg(format!("--socket={}", socket.display()));
        command
    };
    server.wait_ready(Duration::from_secs(30), &log, || {
        socket.exists() && process::run(client().args(["-e", "select 1"])).is_ok()
    })?;
    let grant = format!(
        "create database {DATABASE}; create user '{USER}'@'localhost' identified by '{PASSWORD}'; \
         grant all on {DATABASE}.* to '{USER}'@'localhost';"
    );
    process::run(client().arg("-e").arg(grant))?;
    Ok(MariaDb { _server: server, _scratch: scratch, socket })
}
