//! The configuration file's form, and the environment in the same form.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Format, parse, parse_format, parse_ring, parse_rung};
use crate::sensor::RungChoice;

/// As written. Values that TOML's types do not check keep their place in the file for the message.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    sensor: RawSensor,
    output: RawOutput,
    findings: RawFindings,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawSensor {
    rung: Option<Spanned<String>>,
    comm: Option<Vec<String>>,
    pid: Option<Vec<u32>>,
    cgroup: Option<Vec<PathBuf>>,
    ring_bytes: Option<Spanned<u32>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawOutput {
    format: Option<Spanned<String>>,
    events: Option<bool>,
    all: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawFindings {
    update_seconds: Option<Spanned<u64>>,
    summary_seconds: Option<Spanned<u64>>,
    max: Option<Spanned<usize>>,
}

/// Validated; absent is left to the defaults.
#[derive(Debug, Default)]
pub struct FileConfig {
    pub sensor: Sensor,
    pub output: Output,
    pub findings: Findings,
}

#[derive(Debug, Default)]
pub struct Sensor {
    pub rung: Option<RungChoice>,
    pub comm: Option<Vec<String>>,
    pub pid: Option<Vec<u32>>,
    pub cgroup: Option<Vec<PathBuf>>,
    pub ring_bytes: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Output {
    pub format: Option<Format>,
    pub events: Option<bool>,
    pub all: Option<bool>,
}

#[derive(Debug, Default)]
pub struct Findings {
    pub update_seconds: Option<u64>,
    pub summary_seconds: Option<u64>,
    pub max: Option<usize>,
}

impl FileConfig {
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = Place { path, text };
        let raw: Raw = toml::from_str(text)
            .map_err(|error| place.error(error.span().unwrap_or_default(), None, error.message().to_owned()))?;
        let checked = |key: &'static str| move |(span, reason)| place.error(span, Some(key), reason);
        let Raw { sensor, output, findings } = raw;
        Ok(Self {
            sensor: Sensor {
                rung: check(sensor.rung, |rung| parse_rung(&rung)).map_err(checked("sensor.rung"))?,
                comm: sensor.comm,
                pid: sensor.pid,
                cgroup: sensor.cgroup,
                ring_bytes: check(sensor.ring_bytes, parse_ring).map_err(checked("sensor.ring_bytes"))?,
            },
            output: Output {
                format: check(output.format, |format| parse_format(&format)).map_err(checked("output.format"))?,
                events: output.events,
                all: output.all,
            },
            findings: Findings {
                update_seconds: check(findings.update_seconds, interval).map_err(checked("findings.update_seconds"))?,
                summary_seconds: check(findings.summary_seconds, interval)
                    .map_err(checked("findings.summary_seconds"))?,
                max: check(findings.max, findings_max).map_err(checked("findings.max"))?,
            },
        })
    }

    /// Takes over what the environment sets. Variables of other tools with the same prefix are left alone.
    pub fn override_with(&mut self, environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (name, value) in environment {
            self.set(name, value).map_err(|reason| ConfigError::Environment { name: name.clone(), reason })?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let list = || value.split(',').map(str::trim).filter(|part| !part.is_empty());
        match name {
            "SENSOR_RUNG" => self.sensor.rung = Some(parse_rung(value)?),
            "SENSOR_COMM" => self.sensor.comm = Some(list().map(str::to_owned).collect()),
            "SENSOR_PID" => {
                self.sensor.pid = Some(list().map(|pid| parse("a process id", pid)).collect::<Result<_, _>>()?);
            }
            "SENSOR_CGROUP" => self.sensor.cgroup = Some(list().map(PathBuf::from).collect()),
            "SENSOR_RING_BYTES" => self.sensor.ring_bytes = Some(parse_ring(parse("a number of bytes", value)?)?),
            "OUTPUT_FORMAT" => self.output.format = Some(parse_format(value)?),
            "OUTPUT_EVENTS" => self.output.events = Some(parse("true or false", value)?),
            "OUTPUT_ALL" => self.output.all = Some(parse("true or false", value)?),
            "FINDINGS_UPDATE_SECONDS" => self.findings.update_seconds = Some(interval(parse("a number", value)?)?),
            "FINDINGS_SUMMARY_SECONDS" => self.findings.summary_seconds = Some(interval(parse("a number", value)?)?),
            "FINDINGS_MAX" => self.findings.max = Some(findings_max(parse("a number", value)?)?),
            _ => {}
        }
        Ok(())
    }
}

fn interval(seconds: u64) -> Result<u64, String> {
    if (1..=86_400).contains(&seconds) { Ok(seconds) } else { Err(format!("{seconds} is not from 1 to 86400 seconds")) }
}

fn findings_max(max: usize) -> Result<usize, String> {
    if (1..=1_000_000).contains(&max) { Ok(max) } else { Err(format!("{max} is not from 1 to 1000000")) }
}

fn check<A, B>(
    value: Option<Spanned<A>>,
    check: impl Fn(A) -> Result<B, String>,
) -> Result<Option<B>, (Range<usize>, String)> {
    let checked = value.map(|value| {
        let span = value.span();
        check(value.into_inner()).map_err(|reason| (span, reason))
    });
    checked.transpose()
}

/// A file as far as messages need it.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn error(self, span: Range<usize>, key: Option<&str>, reason: String) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let key = key.map_or_else(|| self.key_at(line), str::to_owned);
        ConfigError::File { path: self.path.to_owned(), line, key, reason: reason.replace('\n', " ") }
    }

    /// The key of a line: the last table before it and what stands left of the equals sign.
    fn key_at(self, line: usize) -> String {
        let table = self.text.lines().take(line).filter_map(|text| text.trim().strip_prefix('[')?.split(']').next());
        let table = table.last().map(|table| table.trim_matches(['[', ']']).trim());
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        let key = text.split_once('=').map(|(key, _)| key.trim());
        match (table, key) {
            (Some(table), Some(key)) => format!("{table}.{key}"),
            (Some(only), None) | (None, Some(only)) => only.to_owned(),
            (None, None) => text.trim().to_owned(),
        }
    }
}
