//! The outage that started the project, live: WordPress, one letter too many in an include, a site that answers 500.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::needs::{Need, SITE, trial};
use crate::sensor::{Line, SOON, Watcher};
use crate::servers::apache::{Apache, HOST, Sapi, Setup};
use crate::servers::wordpress::WordPress;

/// How often the broken site is asked.
const REQUESTS: u64 = 25;

pub fn trials() -> Vec<Trial> {
    let causes = [SITE.as_slice(), &[Need::PhpState]].concat();
    let mut trials = Vec::new();
    for sapi in Sapi::ALL {
        for (opcache, mode) in [(false, "cold"), (true, "opcache")] {
            let name = |case: &str| format!("incident::{}::{mode}::{case}", sapi.name());
            trials.push(trial(name("the_missing_file_is_named"), &SITE, move || {
                the_missing_file_is_named(sapi, opcache)
            }));
            trials.push(trial(name("the_cause_is_named"), &causes, move || the_cause_is_named(sapi, opcache)));
        }
    }
    trials
}

struct Stage {
    apache: Apache,
    site: WordPress,
    watcher: Watcher,
}

/// A healthy site under a sensor that has found nothing, then broken; the finding of the first broken request.
fn broken(sapi: Sapi, opcache: bool) -> Result<(Stage, Line)> {
    let apache = Apache::start(&Setup::new(sapi, opcache))?;
    let site = WordPress::deploy(&apache)?;
    let watcher = Watcher::on(&apache.pids())?;
    for _ in 0..3 {
        let status = apache.get("/")?.status;
        ensure!(status == 200, "the healthy site answers {status}");
    }
    site.break_locale()?;
    let missing = site.missing().display().to_string();
    let asked = Instant::now();
    let status = apache.get("/")?.status;
    ensure!(status == 500, "the broken site answers {status}");
    let finding = watcher.wait_for("a finding that names the file", SOON, |line| {
        line.is_finding() && line.text("file.path") == missing
    })?;
    let delay = finding.at - asked;
    ensure!(delay < Duration::from_secs(1), "the finding came {delay:?} after the request");
    let first = watcher.findings().first().cloned().context("no finding")?;
    ensure!(first.text("file.path") == missing, "the healthy site has a finding: {}", first.json);
    Ok((Stage { apache, site, watcher }, finding))
}

fn the_missing_file_is_named(sapi: Sapi, opcache: bool) -> Result<()> {
    let (Stage { apache, site, watcher }, finding) = broken(sapi, opcache)?;
    let expected = [
        ("finding.change", "opened"),
        ("finding.category", "missing_include"),
        ("error.type", "ENOENT"),
        ("file.path_resolution", "absolute"),
        ("file.requested_path", &site.missing().display().to_string()),
    ];
    expect(&finding, &expected)?;
    ensure!(!finding.text("finding.summary").is_empty(), "no sentence: {}", finding.json);
    ensure!(finding.text("finding.summary").contains("class-wp-locale.phpp"), "the sentence does not name the file");

    // Apache closes the connection after each 500 of mod_php: the workers change.
    for number in 1..REQUESTS {
        let status = apache.get("/")?.status;
        ensure!(status == 500, "request {number} answers {status}");
    }
    let id = finding.text("finding.id").to_owned();
    // Growth to the tenfold is told at once, the rest at the latest when the sensor ends.
    watcher.wait_for("ten of the requests counted", SOON, |line| {
        line.text("finding.id") == id && line.number("finding.count").is_some_and(|count| count >= 10)
    })?;
    site.mend()?;
    ensure!(apache.get("/")?.status == 200, "the mended site fails");

    let ended = watcher.terminate()?;
    ensure!(ended.status.code() == Some(0), "the sensor ended with {}: {}", ended.status, ended.stderr);
    let findings: Vec<&Line> = ended.lines.iter().filter(|line| line.is_finding()).collect();
    ensure!(findings.iter().all(|line| line.text("finding.id") == id), "other findings: {findings:#?}");
    let last = findings.last().and_then(|line| line.number("finding.count"));
    ensure!(last == Some(REQUESTS), "{REQUESTS} requests became {last:?}");
    let events: u64 = ended
        .lines
        .iter()
        .filter(|line| line.is_event() && line.text("file.path") == site.missing().to_string_lossy())
        .filter_map(|line| line.number("count"))
        .sum();
    ensure!(events == REQUESTS, "{REQUESTS} requests became events that stand for {events} opens");
    Ok(())
}

/// What PHP's own state adds: who asked, from where, in which request.
fn the_cause_is_named(sapi: Sapi, opcache: bool) -> Result<()> {
    let (Stage { site, watcher, .. }, finding) = broken(sapi, opcache)?;
    let settings = site.settings().display().to_string();
    let mut expected = vec![
        ("finding.severity", "critical"),
        ("code.file.path", settings.as_str()),
        ("php.include.kind", "require_once"),
        ("http.request.method", "GET"),
        ("url.path", "/"),
    ];
    if sapi == Sapi::ModPhp {
        expected.push(("server.address", HOST));
    }
    expect(&finding, &expected)?;
    ensure!(finding.number("code.line.number") == Some(156), "the line is {}", finding.json["code.line.number"]);
    ensure!(finding.number("finding.requests") == Some(1), "requests are {}", finding.json["finding.requests"]);
    ensure!(finding.text("php.version").starts_with("8.2."), "the version is {}", finding.json["php.version"]);
    let suggestion = finding.text("suggestion.path");
    ensure!(suggestion.ends_with("/wp-includes/class-wp-locale.php"), "the suggestion is {suggestion:?}");
    ensure!(watcher.terminate()?.status.code() == Some(0), "the sensor fails at its end");
    Ok(())
}

/// Compares string keys, all of them before it complains.
pub fn expect(line: &Line, expected: &[(&str, &str)]) -> Result<()> {
    let wrong: Vec<String> = expected
        .iter()
        .filter(|(key, value)| line.text(key) != *value)
        .map(|(key, value)| format!("{key} is {} instead of {value:?}", line.json[*key]))
        .collect();
    ensure!(wrong.is_empty(), "{}; in {}", wrong.join(", "), line.json);
    Ok(())
}
