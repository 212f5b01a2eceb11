//! File, environment and flags to one validated struct of component configurations. A flag beats the environment,
//! that beats the file, that beats the built-in value. An error names the file, the line and the key.

mod file;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use thiserror::Error;

use crate::{
    aggregate::Limits,
    pipeline::PipelineConfig,
    sensor::{Rung, RungChoice, Scope, SensorConfig},
    time::SECOND,
};
use file::FileConfig;

/// Largest configuration file that is read.
const FILE_MAX: u64 = 1 << 20;
/// Prefix of the environment's variables: `WATCHER_` and section and key, as in `WATCHER_SENSOR_RUNG`.
const PREFIX: &str = "WATCHER_";

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Config {
    pub sensor: SensorConfig,
    pub pipeline: PipelineConfig,
    pub format: Format,
    pub duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Blocks for a person
    #[default]
    Human,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the configuration {} has more than {FILE_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}:{line}: {key}: {reason}", path.display())]
    File { path: PathBuf, line: usize, key: String, reason: String },
    #[error("{PREFIX}{name}: {reason}")]
    Environment { name: String, reason: String },
    #[error("--{name}: {reason}")]
    Flag { name: &'static str, reason: String },
}

/// What the command line says; `None` and empty lists are left to the environment and the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub format: Option<Format>,
    pub duration: Option<u64>,
    pub events: bool,
    pub all: bool,
    pub rung: Option<String>,
    pub comm: Vec<String>,
    pub pid: Vec<u32>,
    pub cgroup: Vec<PathBuf>,
    pub ring_bytes: Option<u32>,
    pub verbosity: u8,
}

/// The environment as far as it is the configuration's.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)))
        .collect()
}

impl Config {
    /// Reads the file that the flags or the environment name, and joins all three.
    pub fn load(flags: Flags, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let path = flags.config.clone().or_else(|| environment.get("CONFIG").map(PathBuf::from));
        let text = path.as_deref().map(read).transpose()?;
        Self::join(flags, environment, path.as_deref().zip(text.as_deref()))
    }

    fn join(
        flags: Flags,
        environment: &BTreeMap<String, String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Self, ConfigError> {
        let mut merged = FileConfig::default();
        if let Some((path, text)) = file {
            merged = FileConfig::parse(path, text)?;
        }
        merged.override_with(environment)?;
        let rung = match flags.rung {
            Some(rung) => parse_rung(&rung).map_err(|reason| ConfigError::Flag { name: "rung", reason })?,
            None => merged.sensor.rung.unwrap_or_default(),
        };
        let ring_bytes = match flags.ring_bytes {
            Some(bytes) => Some(parse_ring(bytes).map_err(|reason| ConfigError::Flag { name: "ring-bytes", reason })?),
            None => merged.sensor.ring_bytes,
        };
        if flags.duration == Some(0) {
            return Err(ConfigError::Flag { name: "duration", reason: "must be at least one second".to_owned() });
        }
        let sensor = SensorConfig {
            rung,
            scope: Scope {
                comms: first(flags.comm, merged.sensor.comm),
                pids: first(flags.pid, merged.sensor.pid),
                cgroups: first(flags.cgroup, merged.sensor.cgroup),
            },
            ring_bytes,
            verbose_bpf: flags.verbosity > 0,
        };
        let default = PipelineConfig::default();
        let seconds = |seconds: Option<u64>, default| seconds.map_or(default, |seconds| seconds * SECOND);
        let pipeline = PipelineConfig {
            events: flags.events || merged.output.events.unwrap_or_default(),
            all: flags.all || merged.output.all.unwrap_or_default(),
            limits: Limits {
                update_interval_ns: seconds(merged.findings.update_seconds, default.limits.update_interval_ns),
                findings_max: merged.findings.max.unwrap_or(default.limits.findings_max),
                ..default.limits
            },
            summary_interval_ns: seconds(merged.findings.summary_seconds, default.summary_interval_ns),
            ..default
        };
        let format = flags.format.or(merged.output.format).unwrap_or_default();
        Ok(Self { sensor, pipeline, format, duration: flags.duration.map(Duration::from_secs) })
    }
}

fn first<T>(flags: Vec<T>, file: Option<Vec<T>>) -> Vec<T> {
    if flags.is_empty() { file.unwrap_or_default() } else { flags }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let error = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(error)?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

fn parse_rung(name: &str) -> Result<RungChoice, String> {
    if name == "auto" {
        return Ok(RungChoice::Auto);
    }
    let known = Rung::LADDER.into_iter().find(|rung| rung.name() == name);
    known.map(RungChoice::Only).ok_or_else(|| {
        let names: Vec<_> = Rung::LADDER.iter().map(|rung| rung.name()).collect();
        format!("\"{name}\" is no rung: use auto or one of {}", names.join(", "))
    })
}

fn parse_ring(bytes: u32) -> Result<u32, String> {
    if bytes.is_power_of_two() && (4_096..=1 << 30).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{bytes} is no power of two from 4096 to 1 GiB"))
    }
}

fn parse_format(name: &str) -> Result<Format, String> {
    clap::ValueEnum::from_str(name, false).map_err(|_| format!("\"{name}\" is no format: use human or json"))
}

fn parse<T: FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not {what}"))
}

#[cfg(test)]
mod tests;
