//! `watcher replay FILE`: production minus the sensor. The same stream gives the same bytes, on any machine.

use std::{io, path::PathBuf};

use anyhow::Result;

use super::run::{OutputArgs, stdout};
use crate::{
    config::{self, Config, Flags},
    pipeline::Pipeline,
    record::{Body, Input, Reader},
    sinks::Sink,
};

#[derive(clap::Args)]
pub struct Args {
    /// Recording to read
    file: PathBuf,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub fn run(args: Args) -> Result<()> {
    let Args { file, config, output } = args;
    let flags = Flags { config, format: output.format, events: output.events, all: output.all, ..Flags::default() };
    let config = Config::load(flags, &config::environment())?;
    let mut reader = Reader::open(&file)?;
    let header = reader.header();
    log::debug!("recorded by watcher {} on Linux {}", header.watcher, header.kernel);
    let mut sink = stdout(config.format);
    match replay(&mut reader, Pipeline::new(config.pipeline), &mut *sink) {
        // Whoever read the results has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(())
        }
        done => done,
    }
}

fn replay(reader: &mut Reader, mut pipeline: Pipeline, sink: &mut dyn Sink) -> Result<()> {
    let mut last = reader.header().start;
    let mut outputs = Vec::new();
    let mut stopped = false;
    loop {
        let (more, end) = match reader.next_frame() {
            Ok(Some(frame)) => {
                last = frame.time;
                stopped = frame.body == Body::Other(Input::Shutdown);
                pipeline.handle(frame.body.into_input(), frame.time, &mut outputs);
                (true, Ok(()))
            }
            Ok(None) => (false, Ok(())),
            Err(error) => (false, Err(error)),
        };
        if !more && !stopped {
            // The recorder was killed: what it had seen counts all the same.
            pipeline.handle(Input::Shutdown, last, &mut outputs);
        }
        outputs.drain(..).try_for_each(|output| sink.deliver(&output))?;
        if !more {
            sink.flush()?;
            return Ok(end?);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{pipeline::PipelineConfig, sinks::Json};

    /// A stream from a real run (a script with a silenced, a plain and a fatal include of nothing, three times) prints
    /// what it printed then. A recording that can no longer be read is a broken promise: keep the old decoder.
    #[test]
    fn an_old_recording_replays_to_the_same_bytes() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
        let mut reader = Reader::open(&directory.join("missing-include.watch")).expect("readable for ever");
        let mut printed = Vec::new();
        let pipeline = Pipeline::new(PipelineConfig { events: true, ..PipelineConfig::default() });
        replay(&mut reader, pipeline, &mut Json::new(&mut printed)).expect("replayed");
        let expect = include_str!("../../tests/fixtures/recordings/missing-include.jsonl");
        assert_eq!(String::from_utf8(printed).expect("text"), expect);
    }
}
