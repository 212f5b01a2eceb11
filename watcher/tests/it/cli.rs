//! The command line's promises: exit codes, messages that name the object, clean ends, streams that replay.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::needs::{Need, trial};
use crate::process;
use crate::sensor::{BINARY, SOON, Watcher};
use crate::servers::apache::{Apache, Sapi, Setup};

const LIVE: [Need; 3] = [Need::Root, Need::Apache, Need::Sensor];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("cli::unknown_rung_is_bad_usage", &[], || refuses(&["run", "--rung", "telepathy"], 2, "telepathy")),
        trial("cli::unknown_option_is_bad_usage", &[], || refuses(&["run", "--no-such"], 2, "--no-such")),
        trial("cli::no_command_is_bad_usage", &[], || refuses(&[], 2, "Usage")),
        trial("cli::pid_of_nothing_is_bad_usage", &[Need::Root, Need::Sensor], pid_of_nothing_is_bad_usage),
        trial("cli::unreadable_config_is_bad_usage", &[], unreadable_config_is_bad_usage),
        trial("cli::recordings_that_cannot_be_replayed", &[], recordings_that_cannot_be_replayed),
        trial("cli::no_privileges_is_a_host_that_cannot", &[Need::Root, Need::Sensor], no_privileges),
        trial("cli::duration_ends_by_itself", &[Need::Root, Need::Sensor], duration_ends_by_itself),
        trial("cli::an_idle_sensor_counts_nothing", &[Need::Root, Need::Sensor], an_idle_sensor_counts_nothing),
        trial("cli::signals_drain_and_end", &LIVE, signals_drain_and_end),
        trial("cli::a_recording_replays_to_the_same_lines", &LIVE, a_recording_replays_to_the_same_lines),
        trial("cli::sigkill_leaves_nothing_attached", &LIVE, sigkill_leaves_nothing_attached),
        trial("cli::two_sensors_at_once", &LIVE, two_sensors_at_once),
        trial("cli::doctor_speaks_json", &[Need::Root, Need::Sensor], doctor_speaks_json),
        trial("cli::human_output_hides_no_control_characters", &LIVE, human_output_hides_no_control_characters),
    ]
}

fn watcher(args: &[&str]) -> Result<Output> {
    Command::new(BINARY).args(args).stdin(Stdio::null()).output().with_context(|| format!("could not start {BINARY}"))
}

/// The command ends with this code, says why on stderr and nothing on stdout.
fn refuses(args: &[&str], code: i32, reason: &str) -> Result<()> {
    let output = watcher(args)?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{args:?} ended with {}: {log}", output.status);
    ensure!(log.contains(reason), "{args:?} does not mention {reason:?}: {log}");
    ensure!(output.stdout.is_empty(), "{args:?} wrote {:?}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn pid_of_nothing_is_bad_usage() -> Result<()> {
    // Above the highest pid that any kernel gives out.
    refuses(&["run", "--no-store", "--duration", "1", "--pid", "4194305"], 2, "4194305")
}

fn unreadable_config_is_bad_usage() -> Result<()> {
    let scratch = crate::servers::scratch("watcher-it-config-")?;
    let absent = scratch.path().join("absent.toml");
    refuses(&["run", "--config", &absent.to_string_lossy()], 2, "absent.toml")?;
    let wrong = scratch.path().join("wrong.toml");
    fs::write(&wrong, "no_such_key = true\n")?;
    refuses(&["run", "--config", &wrong.to_string_lossy()], 2, "no_such_key")
}

fn recordings_that_cannot_be_replayed() -> Result<()> {
    let scratch = crate::servers::scratch("watcher-it-recording-")?;
    let refuse = |name: &str, bytes: Option<&[u8]>| -> Result<()> {
        let path = scratch.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes)?;
        }
        refuses(&["replay", &path.to_string_lossy()], 2, name)
    };
    refuse("absent", None)?;
    refuse("empty", Some(b""))?;
    refuse("text", Some(b"this is no recording, however long it may be made to look\n"))?;
    refuse("noise", Some(&(0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>()))?;
    fs::create_dir(scratch.path().join("directory"))?;
    refuse("directory", None)
}

fn no_privileges() -> Result<()> {
    // A copy: the build directory may lie where other users cannot reach.
    let scratch = crate::servers::scratch("watcher-it-user-")?;
    let copy = scratch.path().join("watcher");
    fs::copy(BINARY, &copy)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=www-data", "--regid=www-data", "--clear-groups", "--inh-caps=-all", "--"]).arg(&copy);
    command.args(["run", "--no-store", "--duration", "1"]).stdin(Stdio::null());
    let output = command.output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3), "it ended with {}: {log}", output.status);
    let says = ["CAP_BPF", "root", "privilege"].iter().any(|word| log.contains(word));
    ensure!(says, "it does not say what is missing: {log}");
    Ok(())
}

fn duration_ends_by_itself() -> Result<()> {
    let start = Instant::now();
    let output = watcher(&["run", "--no-store", "--duration", "1", "--comm", "watcher-it-none"])?;
    let (took, log) = (start.elapsed(), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(0), "it ended with {}: {log}", output.status);
    ensure!(log.contains("watching"), "the log does not say when it watches: {log}");
    // No upper bound: the kernel detaches tracepoints only after a grace period, seconds on a busy machine.
    ensure!(took.as_secs_f64() >= 1.0, "one second took {took:?}");
    Ok(())
}

/// What the sensor does to prove itself at start must not show up in what it counts, least of all as loss.
fn an_idle_sensor_counts_nothing() -> Result<()> {
    let args = ["run", "--no-store", "--format", "json", "--events", "--duration", "2", "--comm", "watcher-it-none"];
    let output = watcher(&args)?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line)?;
        ensure!(json["schema"] == "watcher.status.v1", "an idle sensor reports {line}");
        ensure!(json["state"] != "degraded", "an idle sensor is degraded: {line}");
        for key in ["lost", "failed_opens", "not_shown"] {
            ensure!(json[key].as_object().is_some_and(serde_json::Map::is_empty), "{key} is not empty: {line}");
        }
    }
    Ok(())
}

/// An Apache without a page: each request for `/x/` makes one failing open of `.htaccess` there. PHP is not needed.
struct Ground {
    apache: Apache,
}

impl Ground {
    fn start() -> Result<Self> {
        let apache = Apache::start(&Setup::new(Sapi::ModPhp, false))?;
        fs::write(apache.docroot().join("broken.php"), "<?php\nrequire __DIR__ . '/gone.php';\n")?;
        fs::write(apache.docroot().join("hostile.php"), "<?php\ninclude \"/gone\\n\\x1b[31m\\x07.php\";\n")?;
        Ok(Self { apache })
    }

    fn break_once(&self) -> Result<()> {
        let status = self.apache.get("/broken.php")?.status;
        ensure!(status == 500, "the broken page answers {status}");
        Ok(())
    }

    /// The sensor reports the broken page.
    fn seen_by(&self, watcher: &Watcher) -> Result<()> {
        self.break_once()?;
        watcher
            .wait_for("the finding", SOON, |line| line.is_finding() && line.text("file.path").ends_with("/gone.php"))?;
        Ok(())
    }
}

fn signals_drain_and_end() -> Result<()> {
    let ground = Ground::start()?;
    for number in [Signal::TERM, Signal::INT] {
        let watcher = Watcher::on(&ground.apache.pids())?;
        for _ in 0..50 {
            ground.break_once()?;
        }
        // No pause: what is still on its way must be drained, to the last open.
        let ended = watcher.end_with(number)?;
        ensure!(ended.status.code() == Some(0), "{number:?} ends it with {}: {}", ended.status, ended.stderr);
        let last = ended.lines.iter().rfind(|line| line.is_finding()).context("no finding")?;
        ensure!(last.number("finding.count") == Some(50), "50 opens before {number:?} became {}", last.json);
        ensure!(
            ended.lines.last().is_some_and(|line| line.text("state") == "stopping"),
            "no status `stopping` at the end"
        );
    }
    Ok(())
}

fn a_recording_replays_to_the_same_lines() -> Result<()> {
    let ground = Ground::start()?;
    let scratch = crate::servers::scratch("watcher-it-recording-")?;
    let file = scratch.path().join("stream");
    let pid = ground.apache.pid().to_string();
    let file_name = file.to_string_lossy().into_owned();
    let log = scratch.path().join("log");
    let mut command = process::tied(BINARY);
    command.args(["record", "--pid", &pid, &file_name]);
    let mut recorder = process::Server::start("watcher record", &mut command, &log, Signal::TERM)?;
    recorder.wait_ready(SOON, &log, || fs::read_to_string(&log).is_ok_and(|text| text.contains("watching")))?;
    let live = Watcher::on(&ground.apache.pids())?;
    for _ in 0..20 {
        ground.break_once()?;
    }
    let live = live.terminate()?;
    let status = recorder.stop()?;
    ensure!(status.code() == Some(0), "the recorder ended with {status}: {}", fs::read_to_string(&log)?);

    let args = ["replay", "--format", "json", "--events", &file_name];
    let (first, second) = (watcher(&args)?, watcher(&args)?);
    ensure!(first.status.code() == Some(0), "the replay fails: {}", String::from_utf8_lossy(&first.stderr));
    ensure!(first.stdout == second.stdout, "two replays of one stream differ");
    // Another sensor saw the same opens: the same findings with the same totals, whatever the times.
    let total = |text: &str| -> Option<(String, String, u64)> {
        let json: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = json.iter().rfind(|value| value["schema"] == "watcher.finding.v1")?;
        let word = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        Some((word("finding.fingerprint"), word("file.path"), last["finding.count"].as_u64()?))
    };
    let live: Vec<String> = live.lines.iter().map(|line| line.json.to_string()).collect();
    let (live, replayed) = (total(&live.join("\n")), total(&String::from_utf8_lossy(&first.stdout)));
    ensure!(live.is_some() && live == replayed, "live {live:?}, replayed {replayed:?}");

    truncated_and_future(&file)
}

/// The same recording, from a version to come and cut short.
fn truncated_and_future(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let (future, version) = (file.with_file_name("future"), &mut bytes[8..10]);
    version.copy_from_slice(&4242u16.to_le_bytes());
    fs::write(&future, &bytes)?;
    refuses(&["replay", &future.to_string_lossy()], 2, "future")?;
    refuses(&["replay", &future.to_string_lossy()], 2, "4242")?;

    let bytes = fs::read(file)?;
    let cut = file.with_file_name("cut");
    fs::write(&cut, &bytes[..bytes.len() - 3])?;
    let output = watcher(&["replay", "--format", "json", &cut.to_string_lossy()])?;
    let log = String::from_utf8_lossy(&output.stderr);
    // A recorder that was killed leaves such a file: what is whole is replayed, and the rest is mentioned.
    ensure!(matches!(output.status.code(), Some(0 | 2)), "a cut recording ends with {}: {log}", output.status);
    ensure!(log.contains("cut"), "a cut recording is not mentioned: {log}");
    Ok(())
}

fn sigkill_leaves_nothing_attached() -> Result<()> {
    let ground = Ground::start()?;
    let watcher = Watcher::on(&ground.apache.pids())?;
    ensure!(!programs_of(watcher.pid())?.is_empty(), "the running sensor shows no programs in its descriptors");
    ground.seen_by(&watcher)?;
    let programs = programs_of(watcher.pid())?;
    let ended = watcher.end_with(Signal::KILL)?;
    ensure!(ended.status.code().is_none(), "it survived SIGKILL: {}", ended.status);
    // The kernel frees programs a moment after their last descriptor.
    if let Some(loaded) = loaded_programs() {
        let left = || loaded_programs().unwrap_or_default().into_iter().filter(|id| programs.contains(id)).count();
        ensure!(programs.iter().any(|id| loaded.contains(id)) || left() == 0, "bpftool lists other programs");
        process::wait_until("the end of the killed sensor's programs", SOON, || left() == 0)?;
    }
    // Whatever was left would count twice in its successor.
    let next = Watcher::on(&ground.apache.pids())?;
    ground.seen_by(&next)
}

/// Ids of the programs that a process holds, from the descriptors it has open.
fn programs_of(pid: u32) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u64>().ok()));
    }
    Ok(ids)
}

/// Ids of all loaded programs, where bpftool is there to ask.
fn loaded_programs() -> Option<Vec<u64>> {
    let output = Command::new("bpftool").args(["--json", "prog", "list"]).output().ok()?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(json.as_array()?.iter().filter_map(|program| program["id"].as_u64()).collect())
}

fn two_sensors_at_once() -> Result<()> {
    let ground = Ground::start()?;
    let (first, second) = (Watcher::on(&ground.apache.pids())?, Watcher::on(&ground.apache.pids())?);
    for watcher in [&first, &second] {
        ground.seen_by(watcher)?;
    }
    for ended in [first.terminate()?, second.terminate()?] {
        let last = ended.lines.iter().rfind(|line| line.is_finding()).context("no finding")?;
        ensure!(last.number("finding.count") == Some(2), "each sensor sees both requests, one says {}", last.json);
    }
    Ok(())
}

fn doctor_speaks_json() -> Result<()> {
    let output = watcher(&["doctor", "--format", "json"])?;
    ensure!(output.status.code() == Some(0), "it ended with {}: {output:?}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    for rung in ["fexit", "kprobe", "tracepoint"] {
        ensure!(text.contains(rung), "no verdict on {rung}: {text}");
    }
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(json["schema"].is_string(), "no schema in {line}");
    }
    Ok(())
}

fn human_output_hides_no_control_characters() -> Result<()> {
    let ground = Ground::start()?;
    let scratch = crate::servers::scratch("watcher-it-human-")?;
    let (out, log) = (scratch.path().join("out"), scratch.path().join("log"));
    let mut child = process::tied(BINARY)
        .args(["run", "--no-store", "--pid", &ground.apache.pid().to_string()])
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&log)?)
        .spawn()?;
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    let watched = process::wait_until("watching", SOON, || String::from_utf8_lossy(&read(&log)).contains("watching"));
    let asked = watched.and_then(|()| ground.apache.get("/hostile.php").map(|_| ()));
    let shown = asked.and_then(|()| {
        process::wait_until("the finding", SOON, || String::from_utf8_lossy(&read(&out)).contains("gone"))
    });
    process::signal(child.id(), Signal::TERM)?;
    let status = process::wait_exit(&mut child, Duration::from_secs(10))?;
    shown.with_context(|| String::from_utf8_lossy(&read(&log)).into_owned())?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    let bytes = [read(&out), read(&log)].concat();
    let hostile = bytes.iter().filter(|byte| **byte < 0x20 && **byte != b'\n' && **byte != b'\t').count();
    ensure!(hostile == 0, "{hostile} control characters reach a pipe: {}", bytes.escape_ascii());
    Ok(())
}
