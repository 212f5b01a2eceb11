//! `tidy`: the architecture's invariants as code, over the sources as they are in the checkout.
//!
//! A rule is a function from the sources to violations; each has a test that shows it catching one. Rules about what
//! a module may use look at the paths that its code names, with comments, text and unit tests taken out.

mod circles;
mod form;
mod source;
mod uses;

use std::{fmt, fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{place, shell};
use source::Source;

/// No options.
#[derive(clap::Args)]
pub struct Args {}

/// Something that an invariant does not allow.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    line: usize,
    text: String,
}

impl Violation {
    fn new(source: &Source, line: usize, text: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

type Rule = fn(&[Source]) -> Vec<Violation>;

const RULES: &[Rule] = &[
    form::top_level,
    form::no_objects,
    form::no_private_paths,
    form::opens_with_docs,
    form::short_enough,
    uses::only_sensor_uses_aya,
    uses::only_system_reads_the_host,
    uses::only_edges_serialize,
    uses::core_is_sans_io,
    circles::no_import_circles,
];

pub fn run(_args: &Args) -> Result<()> {
    check()?;
    eprintln!("tidy: the sources keep all {} rules", RULES.len());
    Ok(())
}

/// Prints every violation; fails if there is one.
pub fn check() -> Result<()> {
    let sources = sources()?;
    let violations: Vec<Violation> = RULES.iter().flat_map(|rule| rule(&sources)).collect();
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("tidy found {} violations: see the list above", violations.len());
    }
    Ok(())
}

/// What git tracks or would track, so that a new file is seen before it is committed.
fn sources() -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.current_dir(place::root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = shell::read(&mut git).context("the checkout's files cannot be listed: run tidy in a git clone")?;
    let mut sources = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        match fs::read(place::root().join(name)) {
            Ok(bytes) => sources.push(Source::new(name, bytes)),
            // Deleted and not yet committed, or a link to nowhere in a fixture.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources.dedup_by(|a, b| a.path == b.path);
    Ok(sources)
}

#[cfg(test)]
mod check {
    use super::{Rule, Source};

    /// Expects the rule to object to exactly these lines, as `path:line`.
    pub fn check(rule: Rule, files: &[(&str, &str)], expect: &[&str]) {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text.as_bytes().to_vec())).collect();
        let found: Vec<String> = rule(&sources).iter().map(|found| format!("{}:{}", found.path, found.line)).collect();
        assert_eq!(found, expect);
    }
}
