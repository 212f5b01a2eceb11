//! The doctor's report, for a person and as JSON.

use serde_json::{Value, json};

use crate::{
    doctor::{CheckState, Report},
    text::{escaped, visible, wrap},
};

const WIDTH: usize = 80;

/// One line of JSON, `watcher.doctor.v1`.
pub fn json(report: &Report) -> String {
    let rungs: Vec<Value> = report.rungs.iter().flatten().map(|verdict| {
        json!({ "rung": verdict.rung.name(), "verdict": verdict.verdict.name(), "reason": verdict.reason, "cost": verdict.rung.cost() })
    }).collect();
    let checks: Vec<Value> = report
        .checks
        .iter()
        .map(|check| json!({ "name": check.name, "state": check.state.name(), "detail": check.detail }))
        .collect();
    let running: Vec<Value> = report
        .servers
        .running
        .iter()
        .map(|server| {
            let mut object =
                json!({ "process.pid": server.pid, "process.comm": escaped(&server.name), "workers": server.workers });
            if let (Some(executable), Some(object)) = (&server.executable, object.as_object_mut()) {
                object.insert("process.executable.path".to_owned(), escaped(executable).into());
            }
            object
        })
        .collect();
    let installed: Vec<_> = report.servers.installed.iter().map(|path| path.to_string_lossy()).collect();
    let mut object = json!({
        "schema": "watcher.doctor.v1",
        "version": report.watcher,
        "kernel": report.kernel,
        "arch": report.arch,
        "can_run": report.can_run(),
        "rungs": rungs,
        "checks": checks,
        "servers.running": running,
        "servers.installed": installed,
    });
    if let (Err(reason), Some(object)) = (&report.rungs, object.as_object_mut()) {
        object.insert("rungs.reason".to_owned(), reason.as_str().into());
        object.insert("rungs.untried".to_owned(), json!(["fexit", "kprobe", "tracepoint"]));
    }
    format!("{object}\n")
}

/// Text for 80 columns.
pub fn text(report: &Report) -> String {
    let mut text = Text(String::new());
    let can = if report.can_run() { "the sensor can run here" } else { "the sensor cannot run here" };
    text.line(&format!("watcher {} on Linux {} ({}): {can}", report.watcher, report.kernel, report.arch));
    text.line("\nhooks, best first");
    match &report.rungs {
        Ok(rungs) => rungs.iter().for_each(|verdict| {
            text.item(verdict.rung.name(), verdict.verdict.name(), &verdict.reason);
            text.item("", "", &format!("costs {}", verdict.rung.cost()));
        }),
        Err(reason) => text.item("none", "not tried", reason),
    }
    text.line("\nthis host");
    for check in &report.checks {
        let state = if check.state == CheckState::Fine { "" } else { check.state.name() };
        text.item(check.name, state, &check.detail);
    }
    text.line("\nservers");
    for server in &report.servers.running {
        let executable = server.executable.as_deref().map_or("executable unseen".into(), visible);
        let detail = format!("pid {}, {} workers, {executable}", server.pid, server.workers);
        text.item(&visible(&server.name), "running", &detail);
    }
    for path in &report.servers.installed {
        text.item("", "installed", &visible(path.as_os_str().as_encoded_bytes()));
    }
    if report.servers.running.is_empty() {
        text.item("", "", "no Apache or PHP server runs; the sensor would wait for one to start");
    }
    text.0
}

struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn item(&mut self, name: &str, state: &str, detail: &str) {
        for (at, line) in wrap(detail, WIDTH - 27).iter().enumerate() {
            let (name, state) = if at == 0 { (name, state) } else { ("", "") };
            self.line(format!("  {name:<12} {state:<11} {}", visible(line.as_bytes())).trim_end());
        }
    }
}
