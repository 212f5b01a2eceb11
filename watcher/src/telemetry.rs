//! The log, on stderr. What reaches it may come from a hostile process, so control characters are written out.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

use crate::{system::Clock, text::visible};

struct Stderr {
    clock: Clock,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let time = self.clock.now().wall(self.clock.boot_to_wall_ns());
            let line = format!("{} {:<5} {}\n", time.to_the_second(), record.level(), visible(text.as_bytes()));
            // There is nobody left to tell where stderr is closed.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Starts logging: what an operator should know, with `-v` how it comes about, with `-vv` everything.
pub fn init(verbosity: u8) {
    log::set_max_level(match verbosity {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
    // Set already where tests call this twice.
    let _ = log::set_boxed_logger(Box::new(Stderr { clock: Clock }));
}
