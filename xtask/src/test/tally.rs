//! Counting what test programs print: libtest's summary, and the plain closing line of our own suites.

use anyhow::Result;

#[derive(Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub seconds: f64,
    /// Names of the tests that did not run, where the program names them.
    pub skips: Vec<String>,
    /// Commands that failed apart from their tests.
    pub problems: Vec<String>,
    /// What the command that runs has said so far.
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    summaries: u32,
    counts: [u64; 3],
    /// A plain closing line stands for the whole command, whatever it printed before.
    closed: bool,
}

impl Tally {
    /// Looks at one line of a test program's stdout.
    pub fn read(&mut self, line: &str) {
        if let Some(counts) = plain_summary(line) {
            self.seen = Seen { summaries: self.seen.summaries + 1, counts, closed: true };
        } else if let Some(counts) = libtest_summary(line) {
            self.seen.summaries += 1;
            if !self.seen.closed {
                self.seen.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        } else if let Some(name) = ignored(line) {
            self.skips.push(name.to_owned());
        }
    }

    /// A command that ends badly without a failed test, or that ran no tests, is itself a failure.
    pub fn end_command(&mut self, command: &str, ended: Result<bool>) {
        let Seen { summaries, counts: [passed, failures, skipped], .. } = std::mem::take(&mut self.seen);
        self.passed += passed;
        self.failed += failures;
        self.skipped += skipped;
        let problem = match ended {
            Err(error) => format!("{error:#}"),
            Ok(false) if failures == 0 => format!("`{command}` failed, and no test did"),
            Ok(true) if summaries == 0 => format!("`{command}` ran no tests"),
            Ok(_) => return,
        };
        self.failed += 1;
        self.problems.push(problem);
    }

    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.skips.extend_from_slice(&other.skips);
        self.problems.extend_from_slice(&other.problems);
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s`
fn libtest_summary(line: &str) -> Option<[u64; 3]> {
    let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    summary(counts, ';', ["passed", "failed", "ignored"])
}

/// `3 passed, 0 failed, 1 skipped`, alone on its line
fn plain_summary(line: &str) -> Option<[u64; 3]> {
    let counts = summary(line, ',', ["passed", "failed", "skipped"])?;
    (line.split(',').count() == counts.len()).then_some(counts)
}

fn summary(text: &str, separator: char, words: [&str; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut counts = [0; 3];
    for (count, word) in counts.iter_mut().zip(words) {
        let (number, found) = parts.next()?.trim().split_once(' ')?;
        *count = (found == word).then(|| number.parse().ok())??;
    }
    Some(counts)
}

/// `test live::http2 ... ignored, no mod_http2`
fn ignored(line: &str) -> Option<&str> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    verdict.starts_with("ignored").then_some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], ended: Result<bool>, expect: (u64, u64, u64, usize)) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        tally.end_command("cargo test", ended);
        assert_eq!((tally.passed, tally.failed, tally.skipped, tally.problems.len()), expect);
    }

    #[test]
    fn sums_libtest_summaries() {
        let good = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let bad = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        check(&[good, "noise", bad], Ok(false), (13, 2, 3, 0));
    }

    #[test]
    fn reads_the_plain_closing_line_and_nothing_like_it() {
        check(&["4 passed, 0 failed, 1 skipped"], Ok(true), (4, 0, 1, 0));
        let rung = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured";
        check(&[rung, rung, "4 passed, 0 failed, 2 skipped"], Ok(true), (4, 0, 2, 0));
        check(
            &["6.1 fexit: 4 passed, 0 failed, 1 skipped", "4 passed, 0 failed, 1 skipped, more"],
            Ok(true),
            (0, 1, 0, 1),
        );
    }

    #[test]
    fn a_command_that_fails_or_tests_nothing_is_a_failure() {
        check(&[], Ok(true), (0, 1, 0, 1));
        check(&["test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured"], Ok(false), (1, 1, 0, 1));
        check(&[], Err(anyhow::anyhow!("cannot start cargo")), (0, 1, 0, 1));
    }

    #[test]
    fn names_what_did_not_run() {
        let mut tally = Tally::default();
        tally.read("test [no mod_http2] forms::http2 ... ignored");
        tally.read("test forms::tls ... ignored, no openssl");
        tally.read("test forms::plain ... ok");
        assert_eq!(tally.skips, ["[no mod_http2] forms::http2", "forms::tls"]);
    }
}
