//! Precedence, and messages that lead to the place.

use super::*;

fn load(flags: Flags, environment: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::join(flags, &environment, Some((Path::new("a.toml"), file)))
}

fn refused(file: &str, expect: &str) {
    let error = load(Flags::default(), &[], file).expect_err("refused").to_string();
    assert!(error.starts_with(expect), "{error}");
}

#[test]
fn flags_beat_the_environment_and_that_the_file() {
    let file = "[sensor]\nrung = \"fexit\"\ncomm = [\"file\"]\npid = [1]\n[output]\nformat = \"json\"\n";
    let environment = [("SENSOR_RUNG", "kprobe"), ("SENSOR_COMM", "env, other"), ("CACHE", "ignored")];
    let flags = Flags { rung: Some("tracepoint".into()), ..Flags::default() };
    let config = load(flags, &environment, file).expect("valid");
    assert_eq!(config.sensor.rung, RungChoice::Only(Rung::Tracepoint));
    assert_eq!(config.sensor.scope.comms, ["env", "other"]);
    assert_eq!(config.sensor.scope.pids, [1]);
    assert_eq!(config.format, Format::Json);
}

#[test]
fn intervals_reach_the_pipeline() {
    let config = load(Flags::default(), &[], "[findings]\nupdate_seconds = 2\nmax = 7\n").expect("valid");
    assert_eq!(config.pipeline.limits.update_interval_ns, 2 * SECOND);
    assert_eq!(config.pipeline.limits.findings_max, 7);
    assert_eq!(config.pipeline.summary_interval_ns, 60 * SECOND);
}

#[test]
fn an_error_names_file_line_and_key() {
    refused("no_such_key = true\n", "a.toml:1: no_such_key: unknown field");
    refused("[sensor]\n\nrung = \"telepathy\"\n", "a.toml:3: sensor.rung: \"telepathy\" is no rung: use auto or");
    refused("[sensor]\npid = \"one\"\n", "a.toml:2: sensor.pid: invalid type");
    refused("[output]\nformat = 1\n", "a.toml:2: output.format: invalid type");
    refused("[findings]\nupdate_seconds = 0\n", "a.toml:2: findings.update_seconds: 0 is not from 1");
    refused("[sensor]\nring_bytes = 5000\n", "a.toml:2: sensor.ring_bytes: 5000 is no power of two");
    refused("[sensor]\n[sensor\n", "a.toml:2: sensor");
}

#[test]
fn the_environment_is_named_too() {
    let error = load(Flags::default(), &[("OUTPUT_EVENTS", "maybe")], "").expect_err("refused");
    assert_eq!(error.to_string(), "WATCHER_OUTPUT_EVENTS: \"maybe\" is not true or false");
}

#[test]
fn an_absent_file_is_named() {
    let flags = Flags { config: Some("/absent/watcher.toml".into()), ..Flags::default() };
    let error = Config::load(flags, &BTreeMap::new()).expect_err("refused").to_string();
    assert_eq!(error, "cannot read the configuration /absent/watcher.toml");
}
