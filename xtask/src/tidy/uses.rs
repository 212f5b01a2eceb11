//! Rules about what a module of the user side may use.

use super::{Source, Violation};

/// The only user of aya is the sensor: another loader would change one module.
pub fn only_sensor_uses_aya(sources: &[Source]) -> Vec<Violation> {
    let outside =
        sources.iter().filter(|source| source.path.starts_with("watcher/") && source.module() != Some("sensor"));
    naming(outside, |path| {
        let first = path.split("::").next().unwrap_or(path);
        (path.contains("::") && (first == "aya" || first.starts_with("aya_"))).then_some("only `sensor` uses aya")
    })
}

/// Modules whose own files are their purpose: recordings, the store, the configuration, what sinks write.
const OWN_FILES: &[&str] = &["record", "store", "config", "sinks"];

/// Files that name a place under /proc without reading it.
const NAMES_PROC: &[(&str, &str)] = &[("watcher/src/sensor/selfcheck.rs", "opens what cannot exist anywhere")];

/// The host is read through `system`, which a fixture can stand in for.
pub fn only_system_reads_the_host(sources: &[Source]) -> Vec<Violation> {
    let outside = || sources.iter().filter(|source| source.module().is_some_and(|module| module != "system"));
    let without_files = outside().filter(|source| !OWN_FILES.contains(&source.module().unwrap_or_default()));
    let mut violations = naming(without_files, |path| {
        ["std::fs", "tokio::fs"]
            .iter()
            .any(|module| inside(path, module))
            .then_some("only `system` reads the file system (record, store, config and sinks their own files)")
    });
    // The core reads nothing at all: there a place under /proc is a pattern.
    let is_core = |source: &&Source| source.module().is_some_and(|module| CORE.contains(&module));
    let names_only = |source: &&Source| NAMES_PROC.iter().any(|(path, _)| *path == source.path);
    for source in outside().filter(|source| !is_core(source) && !names_only(source)) {
        for (line, text) in &source.literals {
            if text.contains("\"/proc") || text.contains("\"/sys/fs/cgroup") {
                violations.push(Violation::new(source, *line, "only `system` reads /proc and cgroups"));
            }
        }
    }
    violations
}

/// Modules that write what goes out or is kept, and `time`, whose points are fields of what they write.
const WRITERS: &[&str] = &["sinks", "store", "record", "time"];

/// What goes out or is kept has its form in one place each.
pub fn only_edges_serialize(sources: &[Source]) -> Vec<Violation> {
    let outside = sources.iter().filter(|source| source.module().is_some_and(|module| !WRITERS.contains(&module)));
    // Reading is another matter: a configuration is deserialized.
    let reads = |path: &str| ["serde::Deserialize", "serde::de"].iter().any(|module| inside(path, module));
    naming(outside, |path| {
        let serializes = ["serde", "serde_json"].iter().any(|name| inside(path, name)) && path.contains("::");
        (serializes && !reads(path)).then_some("only `sinks`, `store` and `record` serialize")
    })
}

/// The pipeline and what it composes: replay must be production minus the sensor.
const CORE: &[&str] = &["pipeline", "noise", "classify", "suggest", "aggregate", "finding"];

const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "std::io",
    "std::os::unix::net",
    "rustix",
];

/// `now` and what the host says are parameters of the core, never read by it.
pub fn core_is_sans_io(sources: &[Source]) -> Vec<Violation> {
    let core = sources.iter().filter(|source| source.module().is_some_and(|module| CORE.contains(&module)));
    naming(core, |path| {
        if path.ends_with("SystemTime::now") || path.ends_with("Instant::now") {
            return Some("the core has no clock: take `now` as a parameter");
        }
        IMPURE.iter().any(|module| inside(path, module)).then_some("the core has no I/O, no threads, no tokio")
    })
}

/// Whether the path is the module or something in it.
fn inside(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn naming<'a>(
    sources: impl Iterator<Item = &'a Source>,
    problem: impl Fn(&str) -> Option<&'static str>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        for (line, path) in source.paths() {
            violations.extend(problem(&path).map(|text| Violation::new(source, line, format!("`{path}`: {text}"))));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::{super::check::check, *};

    #[test]
    fn aya_stays_in_the_sensor() {
        let text = "//! x\nuse aya::Ebpf;\nfn f() { aya_log::init(); }\n";
        check(
            only_sensor_uses_aya,
            &[
                ("watcher/src/daemon.rs", text),
                ("watcher/src/sensor/load.rs", text),
                ("watcher/src/cli.rs", "let aya = 1;"),
            ],
            &["watcher/src/daemon.rs:2", "watcher/src/daemon.rs:3"],
        );
    }

    #[test]
    fn the_host_is_read_by_system() {
        let text = "use std::{fs::File, io};\nconst STAT: &str = \"/proc/self/stat\"; // \"/proc\"\n";
        check(
            only_system_reads_the_host,
            &[
                ("watcher/src/enrich/process.rs", text),
                ("watcher/src/record.rs", text),
                ("watcher/src/system.rs", text),
            ],
            &["watcher/src/enrich/process.rs:1", "watcher/src/enrich/process.rs:2", "watcher/src/record.rs:2"],
        );
    }

    #[test]
    fn the_edges_serialize() {
        let text =
            "use serde::{Deserialize, Serialize};\n#[derive(Deserialize)]\nstruct A;\nfn f() { serde_json::json!(1); }";
        check(
            only_edges_serialize,
            &[("watcher/src/config.rs", text), ("watcher/src/sinks/json.rs", text)],
            &["watcher/src/config.rs:1", "watcher/src/config.rs:4"],
        );
    }

    #[test]
    fn the_core_is_sans_io() {
        let text = "use std::time::{Duration, Instant};\nfn f() { Instant::now(); std::fs::read(x); tokio::spawn(y); }\n#[cfg(test)]\nmod tests { fn g() { std::fs::read(x); } }";
        check(
            core_is_sans_io,
            &[("watcher/src/classify/include.rs", text), ("watcher/src/daemon.rs", text)],
            &["watcher/src/classify/include.rs:2"; 3],
        );
    }
}
