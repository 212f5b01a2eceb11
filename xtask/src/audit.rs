//! The dependencies: their licences, versions that came twice, and where cargo-deny is installed the advisories. All
//! but the last works offline, from cargo's own metadata for the platform that we ship.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{place, shell};

/// Licences that a program under MIT OR Apache-2.0 may contain.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that come in two versions, with the reason why that cannot be helped yet.
const TWICE: &[(&str, &str)] = &[("syn", "runs at build time only; num_enum, of aya-log, still wants the older one")];

pub fn run() -> Result<()> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut metadata = shell::cargo(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target]);
    let metadata: Value = serde_json::from_str(&shell::read(&mut metadata)?).context("cargo metadata is not JSON")?;
    let crates = external_crates(&metadata)?;

    let mut problems = Vec::new();
    for Crate { name, version, licence } in &crates {
        if !is_allowed(licence) {
            problems.push(format!("{name} {version} is under `{licence}`, which is not among the allowed licences"));
        }
    }
    let mut versions = BTreeMap::<&str, BTreeSet<&str>>::new();
    for Crate { name, version, .. } in &crates {
        versions.entry(name).or_default().insert(version);
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        if !TWICE.iter().any(|(listed, _)| listed == name) {
            let versions = Vec::from_iter(versions.iter().copied()).join(" and ");
            problems.push(format!("{name} comes as {versions}: bring them together, or list it with the reason"));
        }
    }
    problems.iter().for_each(|problem| println!("{problem}"));
    if !problems.is_empty() {
        bail!("the dependency audit found {} problems: see the list above", problems.len());
    }
    eprintln!("audit: {} dependencies, licences and versions in order", crates.len());
    advisories()
}

fn advisories() -> Result<()> {
    if place::on_path("cargo-deny").is_none() {
        eprintln!("audit: cargo-deny is not installed, so advisories are not looked up");
        return Ok(());
    }
    shell::run(Command::new("cargo-deny").current_dir(place::root()).args(["check", "advisories"]))
}

struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// Those that the workspace really uses on this platform; `packages` alone lists every platform's.
fn external_crates(metadata: &Value) -> Result<Vec<Crate>> {
    let list = |value: &Value| value.as_array().cloned().context("cargo metadata has an unknown form");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<String> = list(&metadata["resolve"]["nodes"])?.iter().map(|node| text(&node["id"])).collect();
    let mut crates = Vec::new();
    for package in list(&metadata["packages"])? {
        // A path dependency has no source: it is ours.
        if !package["source"].is_null() && used.contains(&text(&package["id"])) {
            let [name, version, licence] = ["name", "version", "license"].map(|key| text(&package[key]));
            crates.push(Crate { name, version, licence });
        }
    }
    Ok(crates)
}

/// Evaluates an SPDX expression; a `/` between licences is the old way to write OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any_of(&mut words);
    allowed && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> bool {
    let mut allowed = all_of(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    match words.next() {
        Some("(") => {
            let allowed = any_of(words);
            words.next_if_eq(&")").is_some() && allowed
        }
        Some(licence) if words.next_if_eq(&"WITH").is_some() => {
            let exception = words.next().unwrap_or_default();
            LICENCES.contains(&format!("{licence} WITH {exception}").as_str())
        }
        Some(licence) => LICENCES.contains(&licence),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_licence_expressions() {
        for good in [
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0-only) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT", "MIT)", "GPL-2.0-only WITH LLVM-exception"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn leaves_out_our_own_and_other_platforms_crates() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "ours", "name": "watcher", "version": "1", "license": "MIT", "source": null},
                {"id": "used", "name": "libc", "version": "1", "license": "MIT", "source": "registry"},
                {"id": "windows", "name": "windows-sys", "version": "1", "license": "MIT", "source": "registry"},
            ],
            "resolve": {"nodes": [{"id": "ours"}, {"id": "used"}]},
        });
        let names: Vec<String> = external_crates(&metadata).unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["libc"]);
    }
}
