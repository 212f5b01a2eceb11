//! The scope as the operator sets it: the default names, `--comm`, `--pid`, `--cgroup`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use libc::O_RDONLY;

use crate::{
    child::Child,
    event::Attempt,
    suite::{self, Context, Test},
    sys,
};

pub const TESTS: &[Test] = &[
    Test::new("scopes::default_names", default_names, once),
    Test::new("scopes::comm_narrows", comm_narrows, once),
    Test::new("scopes::pid", pid, when_told),
    Test::new("scopes::cgroup", cgroup, moved),
    Test::new("scopes::container", container, contained),
];

/// Arguments: a word that makes the path unique among the processes of one test.
fn once(child: &Child) -> anyhow::Result<()> {
    let word = child.arguments.first().map_or("plain", |word| word);
    child.each_call(|call| Ok((child.path(&format!("{word}-{call}")), O_RDONLY)))
}

fn default_names(context: &Context<'_>) -> anyhow::Result<()> {
    let mut sensor = context.own_sensor(&[])?;
    for name in ["apache2", "httpd", "php-fpm", "php-fpm8.2", "php-fpm7.4", "php-cgi", "php-cgi8.2"] {
        let attempts = context.opener_as(name, &[name])?.finish()?;
        suite::check(&mut sensor, &attempts).with_context(|| format!("{name} is watched by default"))?;
    }
    context.opener_as("other", &["other"])?.finish()?;
    context.opener_as("apachectl", &["apachectl"])?.finish()?;
    context.fence_of(&mut sensor, "apache2")?;
    suite::nothing_else(&sensor, &context.dir, |event| {
        !event["file.path"].as_str().is_some_and(|path| path.contains("/other-") || path.contains("/apachectl-"))
    })?;
    sensor.stop().map(drop)
}

fn comm_narrows(context: &Context<'_>) -> anyhow::Result<()> {
    let (one, two) = (format!("k1{}", std::process::id()), format!("k2{}", std::process::id()));
    let mut sensor = context.own_sensor(&["--comm", &one, "--comm", &two])?;
    for name in [&one, &two] {
        let attempts = context.opener_as(name, &[name])?.finish()?;
        suite::check(&mut sensor, &attempts)?;
    }
    context.opener_as("apache2", &["outside"])?.finish()?;
    context.fence_of(&mut sensor, &one)?;
    suite::nothing_else(&sensor, &context.dir, |event| {
        !event["file.path"].as_str().is_some_and(|path| path.contains("/outside-"))
    })?;
    sensor.stop().map(drop)
}

fn when_told(child: &Child) -> anyhow::Result<()> {
    child.say(&serde_json::json!({ "ready": true }))?;
    child.wait_for_go()?;
    once(child)?;
    let pid = sys::fork(|| i32::from(child.miss("fork-of-pid").is_err()))?;
    ensure!(sys::wait(pid)? == 0, "the fork failed");
    Ok(())
}

/// One process by its number, whatever its name, and its forks; not its like.
fn pid(context: &Context<'_>) -> anyhow::Result<()> {
    let mut opener = context.opener_as("other", &["chosen"])?;
    opener.line()?;
    let mut like = context.opener_as("other", &["like"])?;
    like.line()?;
    let mut sensor = context.own_sensor(&["--pid", &opener.pid().to_string()])?;
    like.go()?;
    like.finish()?;
    opener.go()?;
    let attempts = opener.finish()?;
    suite::check(&mut sensor, &attempts)?;
    suite::nothing_else(&sensor, &context.dir, |event| attempts.iter().any(|attempt| attempt.is_meant_by(event)))?;
    sensor.stop().map(drop)
}

/// A directory of the unified hierarchy, removed at the end.
struct Group(PathBuf);

impl Group {
    fn make(name: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|words| words.get(2) == Some(&"cgroup2"))
            .and_then(|words| words.get(1).map(PathBuf::from))
            .context("no cgroup2 is mounted")?;
        let group = root.join(name);
        fs::create_dir_all(group.join("below")).context("cannot make a cgroup")?;
        Ok(Self(group))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("below"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Arguments: a word, and the cgroup to go to.
fn moved(child: &Child) -> anyhow::Result<()> {
    let group = child.arguments.get(1).context("no cgroup was given")?;
    if !group.is_empty() {
        fs::write(PathBuf::from(group).join("cgroup.procs"), "0")?;
    }
    once(child)
}

fn cgroup(context: &Context<'_>) -> anyhow::Result<()> {
    let group = Group::make(&format!("watcher-test-{}", std::process::id()))?;
    let inside = group.0.display().to_string();
    let below = group.0.join("below").display().to_string();
    let mut sensor = context.own_sensor(&["--cgroup", &inside])?;
    // A watched name, so that the cgroup is what decides.
    context.opener_as("apache2", &["outside", ""])?.finish()?;
    let attempts = context.opener_as("apache2", &["inside", &inside])?.finish()?;
    suite::check(&mut sensor, &attempts).context("a process of the cgroup")?;
    let attempts = context.opener_as("apache2", &["below", &below])?.finish()?;
    suite::check(&mut sensor, &attempts).context("a process of a cgroup below it")?;
    suite::nothing_else(&sensor, &context.dir, |event| {
        !event["file.path"].as_str().is_some_and(|path| path.contains("/outside-"))
    })?;
    sensor.stop().map(drop)
}

/// Argument: the cgroup to go to. Stays while the sensor looks at it.
fn contained(child: &Child) -> anyhow::Result<()> {
    let group = child.arguments.first().context("no cgroup was given")?;
    fs::write(PathBuf::from(group).join("cgroup.procs"), "0")?;
    child.miss("in-a-container")?;
    child.wait_for_go()
}

/// A cgroup named as Docker's systemd driver names those of its containers.
fn container(context: &Context<'_>) -> anyhow::Result<()> {
    let id = format!("{:064x}", 0xc0ffee_u64 << 32 | u64::from(std::process::id()));
    let group = Group::make(&format!("docker-{id}.scope"))?;
    let mut opener = context.opener(&[&group.0.display().to_string()])?;
    let attempt = Attempt::parse(&opener.line()?)?;
    let event = context.rung.sensor.borrow_mut().wait_for("the event of a process in a container", |line| {
        line["schema"] == "watcher.event.v1" && attempt.is_meant_by(line)
    })?;
    opener.go()?;
    opener.finish()?;
    ensure!(event["container.id"] == id.as_str(), "container.id is {}, expected {id}", event["container.id"]);
    let cgroup = event["process.linux.cgroup"].as_str().unwrap_or_default();
    ensure!(cgroup.ends_with(&format!("/docker-{id}.scope")), "process.linux.cgroup is {cgroup}");
    Ok(())
}
