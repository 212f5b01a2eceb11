//! The matrix as a table, from the lines that the guests wrote.
//!
//! A line is `RUNG TEST RESULT MILLISECONDS [TEXT]` where RESULT is ok, failed or skipped; the suite in
//! `watcher/tests/kernel` writes them. Anything else in the results is a failure of the channel and shown as one.

use std::fmt;

use super::Summary;

/// One rung of one kernel.
#[derive(Debug, Default)]
pub struct Row {
    release: String,
    rung: String,
    passed: usize,
    skipped: usize,
    milliseconds: u64,
    /// Test and message.
    failures: Vec<(String, String)>,
    skips: Vec<(String, String)>,
}

impl Row {
    pub fn failed(release: &str, rung: &str, reason: String) -> Self {
        Self {
            release: release.to_owned(),
            rung: rung.to_owned(),
            failures: vec![("-".to_owned(), reason)],
            ..Self::default()
        }
    }
}

/// The rows of one guest, in the order in which its rungs ran.
pub fn rows(release: &str, lines: &[String]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        let mut words = line.splitn(5, ' ');
        let (rung, test) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (result, took) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let text = words.next().unwrap_or_default().to_owned();
        let at = rows.iter().position(|row| row.rung == rung).unwrap_or_else(|| {
            rows.push(Row { release: release.to_owned(), rung: rung.to_owned(), ..Row::default() });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.milliseconds += took.parse::<u64>().unwrap_or(0);
        match result {
            "ok" => row.passed += 1,
            "skipped" => {
                row.skipped += 1;
                row.skips.push((test.to_owned(), text));
            }
            "failed" => row.failures.push((test.to_owned(), text)),
            _ => row.failures.push(("-".to_owned(), format!("not a result: {line}"))),
        }
    }
    rows
}

#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for row in &self.rows {
            summary.passed += row.passed;
            summary.failed += row.failures.len();
            summary.skipped += row.skipped;
        }
        summary
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        // Guests end in any order; the table is by kernel. The sort is stable, so rungs keep theirs.
        rows.sort_by_key(|row| release_key(&row.release));
        writeln!(
            f,
            "{:<32} {:<11} {:>6} {:>6} {:>7} {:>8}",
            "kernel", "rung", "passed", "failed", "skipped", "seconds"
        )?;
        for row in &rows {
            writeln!(
                f,
                "{:<32} {:<11} {:>6} {:>6} {:>7} {:>8.1}",
                row.release,
                row.rung,
                row.passed,
                row.failures.len(),
                row.skipped,
                row.milliseconds as f64 / 1000.0
            )?;
        }
        for row in &rows {
            for (test, reason) in &row.skips {
                writeln!(f, "skipped: {} {} {test}: {reason}", row.release, row.rung)?;
            }
        }
        for row in &rows {
            for (test, reason) in &row.failures {
                writeln!(f, "failed: {} {} {test}: {reason}", row.release, row.rung)?;
            }
        }
        let Summary { passed, failed, skipped } = self.summary();
        writeln!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

fn release_key(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_in_the_results_is_a_failure() {
        let lines = ["fexit enoent ok 12", "fexit erofs skipped 0 no mounts", "fexit eacces failed 5 no event", "gar"];
        let mut report = Report::default();
        rows("6.12.1", &lines.map(str::to_owned)).into_iter().for_each(|row| report.add(row));
        assert_eq!(report.summary(), Summary { passed: 1, failed: 2, skipped: 1 });
    }
}
