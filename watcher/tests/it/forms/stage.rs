//! The four ways of running PHP. On each stage all forms are played once, and what the sensor wrote is kept.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::rows;
use crate::sensor::{Line, Watcher};
use crate::servers::apache::{Apache, Sapi, Setup};
use crate::servers::php::{Php, SYSTEM};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub php: &'static str,
    pub sapi: Sapi,
    pub opcache: bool,
}

pub const MODES: [Mode; 8] = [
    Mode { php: SYSTEM, sapi: Sapi::ModPhp, opcache: false },
    Mode { php: SYSTEM, sapi: Sapi::ModPhp, opcache: true },
    Mode { php: SYSTEM, sapi: Sapi::Fpm, opcache: false },
    Mode { php: SYSTEM, sapi: Sapi::Fpm, opcache: true },
    Mode { php: "7.4", sapi: Sapi::ModPhp, opcache: true },
    Mode { php: "7.4", sapi: Sapi::Fpm, opcache: false },
    Mode { php: "8.4", sapi: Sapi::ModPhp, opcache: false },
    Mode { php: "8.4", sapi: Sapi::Fpm, opcache: true },
];

static STAGES: [OnceLock<Result<Stage, String>>; MODES.len()] = [const { OnceLock::new() }; MODES.len()];

impl Mode {
    pub fn name(self) -> String {
        let opcache = if self.opcache { "opcache" } else { "cold" };
        format!("php{}::{}::{opcache}", self.php, self.sapi.name())
    }

    pub fn start(self) -> Result<Apache> {
        Apache::start(&Setup {
            php: Php::version(self.php),
            tls: self.sapi == Sapi::Fpm,
            ..Setup::new(self.sapi, self.opcache)
        })
    }
}

/// What happened on a stage.
#[derive(Debug)]
pub struct Stage {
    /// As the servers see it.
    pub docroot: PathBuf,
    /// By form.
    pub statuses: HashMap<&'static str, Vec<u16>>,
    pub lines: Vec<Line>,
}

impl Stage {
    /// The record of a mode; the first caller plays all forms.
    pub fn played(mode: Mode) -> Result<&'static Self> {
        let index = MODES.iter().position(|other| *other == mode).context("a mode without a stage")?;
        let stage = STAGES[index].get_or_init(|| play(mode).map_err(|error| format!("{error:#}")));
        stage.as_ref().map_err(|error| anyhow!("the forms could not be played: {error}"))
    }

    /// The event lines that carry this text, for messages.
    pub fn events(&self, text: &str) -> String {
        let lines = self.lines.iter().filter(|line| line.is_event()).map(|line| line.json.to_string());
        lines.filter(|line| line.contains(text)).collect::<Vec<_>>().join("\n")
    }
}

fn play(mode: Mode) -> Result<Stage> {
    let apache = mode.start()?;
    let watcher = Watcher::on(&apache.pids())?;
    let mut statuses = HashMap::new();
    for form in rows(mode) {
        form.write(&apache, mode.sapi)?;
        statuses.insert(form.name, form.request(&apache)?);
    }
    // No pause: the drain must bring every open and every count that is still on its way.
    let ended = watcher.terminate()?;
    ensure!(ended.status.code() == Some(0), "the sensor ended with {}: {}", ended.status, ended.stderr);
    Ok(Stage { docroot: apache.docroot_inside(), statuses, lines: ended.lines })
}

/// Writes a file and the directories above it; an empty text writes none.
pub fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().context("a file without a directory")?)?;
    if !text.is_empty() {
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}
