//! The ground that the other trials stand on: the servers really do what they are said to do, seen with strace and
//! without the sensor.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::needs::{Need, trial};
use crate::process::{self, Server};
use crate::servers::apache::{Apache, Sapi, Setup};
use crate::servers::wordpress::WordPress;

pub fn trials() -> Vec<Trial> {
    let needs = [Need::Root, Need::Apache, Need::Fpm, Need::MariaDb, Need::WordPress, Need::Strace];
    let mut trials: Vec<Trial> = Sapi::ALL
        .into_iter()
        .map(|sapi| {
            let name = format!("ground::{}::one_failing_open_a_request", sapi.name());
            trial(name, &needs, move || one_failing_open_a_request(sapi))
        })
        .collect();
    let needs = [Need::Root, Need::Apache, Need::Fpm, Need::Curl, Need::OpenSsl];
    trials.push(trial("ground::fpm::tls_and_http2", &needs, tls_and_http2));
    trials.push(trial("ground::keep_alive_pipelining_and_reload", &needs, keep_alive_pipelining_and_reload));
    trials
}

fn one_failing_open_a_request(sapi: Sapi) -> Result<()> {
    let apache = Apache::start(&Setup::new(sapi, true))?;
    let site = WordPress::deploy(&apache)?;
    let page = apache.get("/")?;
    ensure!(page.status == 200 && page.text().contains("Post 5"), "the front page is {page:?}");
    ensure!(apache.get("/?feed=rss2")?.status == 200, "the feed fails");

    site.break_locale()?;
    let strace = Strace::on(&apache)?;
    for _ in 0..3 {
        ensure!(apache.get("/")?.status == 500, "the broken site does not answer 500");
    }
    let calls = strace.stop()?;
    let missing = site.missing().display().to_string();
    let opens = calls.lines().filter(|line| line.contains(&missing)).collect::<Vec<_>>();
    ensure!(opens.len() == 3, "3 requests made these opens of the missing file: {opens:#?}");
    ensure!(
        opens.iter().all(|line| line.contains("AT_FDCWD") && line.contains("O_RDONLY)") && line.contains("ENOENT")),
        "the opens have another shape than the facts say: {opens:#?}"
    );
    ensure!(apache.error_log().contains("class-wp-locale.phpp"), "the error log does not name the file");

    site.mend()?;
    let page = apache.get("/")?;
    ensure!(page.status == 200, "the mended site answers {}", page.status);
    Ok(())
}

fn tls_and_http2() -> Result<()> {
    let apache = Apache::start(&Setup { tls: true, ..Setup::new(Sapi::Fpm, true) })?;
    fs::write(apache.docroot().join("index.php"), "<?php echo PHP_SAPI;")?;
    ensure!(apache.get_http2("/")? == 200, "no answer over HTTP/2");
    ensure!(apache.get("/")?.text() == "fpm-fcgi", "php does not run under fpm");
    Ok(())
}

fn keep_alive_pipelining_and_reload() -> Result<()> {
    for sapi in Sapi::ALL {
        let mut apache = Apache::start(&Setup::new(sapi, false))?;
        fs::write(apache.docroot().join("n.php"), "<?php echo $_GET['n'];")?;
        let mut connection = apache.connect()?;
        connection.send_all(&["/n.php?n=1", "/n.php?n=2", "/n.php?n=3"])?;
        let bodies = (0..3).map(|_| Ok(connection.receive()?.text())).collect::<Result<Vec<_>>>()?;
        ensure!(bodies == ["1", "2", "3"], "pipelined answers are {bodies:?}");
        ensure!(connection.get("/n.php?n=4")?.text() == "4", "the connection was not kept");
        apache.reload()?;
        ensure!(apache.get("/n.php?n=5")?.text() == "5", "no answer after a reload");
        apache.stop()?;
        ensure!(apache.get("/").is_err(), "it still answers after its stop");
    }
    Ok(())
}

/// strace on every process of a server.
struct Strace {
    server: Server,
    scratch: tempfile::TempDir,
}

impl Strace {
    fn on(apache: &Apache) -> Result<Self> {
        let scratch = crate::servers::scratch("watcher-it-strace-")?;
        let pids: Vec<u32> =
            apache.pids().into_iter().flat_map(|pid| process::children(pid).into_iter().chain([pid])).collect();
        let mut command = process::tied("strace");
        command.args(["-f", "-Z", "-s", "4096", "-e", "trace=open,openat,openat2,creat", "-o"]);
        command.arg(scratch.path().join("calls")).stdin(Stdio::null());
        for pid in &pids {
            command.args(["-p", &pid.to_string()]);
        }
        let log = scratch.path().join("log");
        let mut server = Server::start("strace", &mut command, &log, Signal::INT)?;
        server.wait_ready(Duration::from_secs(10), &log, || pids.iter().all(|pid| traced(*pid)))?;
        Ok(Self { server, scratch })
    }

    fn stop(mut self) -> Result<String> {
        self.server.stop()?;
        read(&self.scratch.path().join("calls"))
    }
}

fn traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}

fn read(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path).with_context(|| path.display().to_string())?).into_owned())
}
