//! The four ways of running PHP. On each stage all forms are played once, and what the sensor wrote is kept.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::rows;
use crate::sensor::{Line, Watcher};
use crate::servers::apache::{Apache, Sapi, Setup};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub sapi: Sapi,
    pub opcache: bool,
}

pub const MODES: [Mode; 4] = [
    Mode { sapi: Sapi::ModPhp, opcache: false },
    Mode { sapi: Sapi::ModPhp, opcache: true },
    Mode { sapi: Sapi::Fpm, opcache: false },
    Mode { sapi: Sapi::Fpm, opcache: true },
];

static STAGES: [OnceLock<Result<Stage, String>>; 4] = [const { OnceLock::new() }; 4];

impl Mode {
    pub fn name(self) -> String {
        format!("{}::{}", self.sapi.name(), if self.opcache { "opcache" } else { "cold" })
    }
}

/// What happened on a stage.
#[derive(Debug)]
pub struct Stage {
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
    let apache = Apache::start(&Setup { tls: mode.sapi == Sapi::Fpm, ..Setup::new(mode.sapi, mode.opcache) })?;
    let watcher = Watcher::on(&apache.pids())?;
    let mut statuses = HashMap::new();
    for form in rows(mode.sapi) {
        form.write(&apache.docroot().join(form.name), mode.sapi)?;
        statuses.insert(form.name, form.request(&apache)?);
    }
    // No pause: the drain must bring every open and every count that is still on its way.
    let ended = watcher.terminate()?;
    ensure!(ended.status.code() == Some(0), "the sensor ended with {}: {}", ended.status, ended.stderr);
    Ok(Stage { docroot: apache.docroot(), statuses, lines: ended.lines })
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
