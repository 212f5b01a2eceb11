//! Every form in which a file can be missing, and every form that only looks like it, as tables: PHP source,
//! request, and the finding that must come of it or the silence.
//!
//! For each way of running PHP one server and one sensor play all forms, each in a directory of its own; then every
//! form is a trial of its own that judges what the sensor wrote about it.

mod benign;
mod failing;
mod stage;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::needs::{self, Need, trial};
use crate::sensor::Line;
use crate::servers::apache::{Apache, HOST, Sapi};
use stage::{MODES, Mode, Stage};

/// How often each form is requested: enough to meet several workers and a warm cache.
const REQUESTS: u64 = 3;

/// What a finding says without PHP's state.
const KERNEL_KEYS: [&str; 3] = ["finding.category", "file.path", "error.type"];

pub fn trials() -> Vec<Trial> {
    let servers = [Need::Root, Need::Apache, Need::Fpm, Need::Curl, Need::OpenSsl];
    let live = [servers.as_slice(), &[Need::Sensor]].concat();
    let mut trials = Vec::new();
    for mode in MODES {
        let php = Need::Php(mode.php);
        let servers = [servers.as_slice(), &[php]].concat();
        let live = [live.as_slice(), &[php]].concat();
        let name = format!("forms::{}::the_table_is_true", mode.name());
        trials.push(trial(name, &servers, move || the_table_is_true(mode)));
        for form in rows(mode).filter(Form::kernel_visible) {
            let name = format!("forms::{}::{}", mode.name(), form.name);
            trials.push(trial(name, &live, move || form.judge(mode, false)));
        }
        trials.extend(causes(mode, &[live.as_slice(), &[Need::PhpState]].concat()));
        let name = format!("forms::{}::nothing_else_is_found", mode.name());
        trials.push(trial(name, &live, move || nothing_else_is_found(mode)));
    }
    trials
}

/// The same rows with every key that PHP's own state gives, and those rows that only it can tell. Where that state is
/// not read they are one ignored trial.
fn causes(mode: Mode, needs: &[Need]) -> Vec<Trial> {
    if needs::missing(Need::PhpState).is_some() {
        return vec![trial(format!("forms::{}::causes", mode.name()), needs, || Ok(()))];
    }
    let cause = |form: Form| {
        trial(format!("forms::{}::causes::{}", mode.name(), form.name), needs, move || form.judge(mode, true))
    };
    rows(mode).map(cause).collect()
}

/// No finding names anything outside the forms' directories.
fn nothing_else_is_found(mode: Mode) -> Result<()> {
    let stage = Stage::played(mode)?;
    let names: Vec<String> = rows(mode).map(|form| format!("/{}/", form.name)).collect();
    let stray = stage.lines.iter().find(|line| {
        let text = line.json.to_string();
        line.is_finding() && !names.iter().any(|name| text.contains(name))
    });
    ensure!(stray.is_none(), "a finding of nothing: {}", stray.map(|line| line.json.to_string()).unwrap_or_default());
    Ok(())
}

/// The rows that this way of running PHP can be asked.
fn rows(mode: Mode) -> impl Iterator<Item = Form> {
    let all = failing::forms().into_iter().chain(benign::forms());
    // Prefork cannot speak HTTP/2. Versions with one digit after the point compare as texts.
    all.filter(move |form| form.ask != Ask::Http2 || mode.sapi == Sapi::Fpm).filter(move |form| form.since <= mode.php)
}

/// Without the sensor: every form answers what its row says.
fn the_table_is_true(mode: Mode) -> Result<()> {
    let apache = mode.start()?;
    let mut wrong = Vec::new();
    for form in rows(mode) {
        let before = apache.error_log().len();
        form.write(&apache, mode.sapi)?;
        let statuses = form.request(&apache);
        let log = apache.error_log().split_off(before);
        if !statuses.as_ref().is_ok_and(|all| all.iter().all(|status| *status == form.status)) {
            wrong.push(format!("{} answers {statuses:?} instead of {}: {log}", form.name, form.status));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// How the requests reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A connection for each.
    Alone,
    KeepAlive,
    Pipelined,
    /// TLS and HTTP/2 in front of FPM.
    Http2,
}

/// What lies in a form's directory.
#[derive(Clone, Debug)]
enum Entry {
    File(&'static str),
    Link(&'static str),
    Mode(u32),
}

/// One row of a table. In texts `{dir}` stands for the form's directory.
#[derive(Clone, Debug)]
pub struct Form {
    name: &'static str,
    entries: Vec<(&'static str, Entry)>,
    ini: Vec<(&'static str, &'static str)>,
    htaccess: String,
    target: &'static str,
    ask: Ask,
    /// The first version of PHP that behaves so.
    since: &'static str,
    status: u16,
    /// Keys and values of the one finding; empty: there must be none.
    expect: Vec<(&'static str, String)>,
    /// The name of what fails to open says that nothing is broken.
    harmless_by_name: bool,
    /// Opens that one request makes, where the finding counts opens.
    opens: Option<u64>,
}

impl Form {
    /// A script and nothing to find.
    pub fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            entries: vec![("index.php", Entry::File(source))],
            ini: Vec::new(),
            htaccess: String::new(),
            target: "index.php",
            ask: Ask::Alone,
            since: "7.0",
            status: 200,
            expect: Vec::new(),
            harmless_by_name: false,
            opens: None,
        }
    }

    pub fn file(mut self, name: &'static str, text: &'static str) -> Self {
        self.entries.push((name, Entry::File(text)));
        self
    }

    pub fn link(mut self, name: &'static str, target: &'static str) -> Self {
        self.entries.push((name, Entry::Link(target)));
        self
    }

    pub fn mode(mut self, name: &'static str, mode: u32) -> Self {
        self.entries.push((name, Entry::Mode(mode)));
        self
    }

    pub fn ini(mut self, key: &'static str, value: &'static str) -> Self {
        self.ini.push((key, value));
        self
    }

    pub fn htaccess(mut self, lines: &str) -> Self {
        self.htaccess.push_str(lines);
        self
    }

    pub fn target(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    pub fn ask(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }

    pub fn harmless_by_name(mut self) -> Self {
        self.harmless_by_name = true;
        self
    }

    pub fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One more key of the finding.
    pub fn says(mut self, key: &'static str, value: &str) -> Self {
        self.expect.push((key, value.to_owned()));
        self
    }

    /// The finding is a missing include of `file` by `script:line`, once a request.
    pub fn misses(mut self, file: &str, kind: &str, script: &str, line: u32) -> Self {
        self.opens = Some(1);
        self.says("finding.category", "missing_include")
            .says("file.path", file)
            .says("error.type", "ENOENT")
            .says("php.include.kind", kind)
            .says("code.file.path", script)
            .says("code.line.number", &line.to_string())
    }

    /// The usual case of [`Form::misses`], whose script ends with 500.
    pub fn requires(self, kind: &str, line: u32) -> Self {
        self.misses("{dir}/gone.php", kind, "{dir}/index.php", line).status(500)
    }

    /// How many opens a request makes where it is not one.
    pub fn opens(mut self, opens: u64) -> Self {
        self.opens = Some(opens);
        self
    }

    fn path(&self) -> String {
        format!("/{}/{}", self.name, self.target)
    }

    /// Whether the system call alone tells what this is: an include that fails at an open, or an open whose name says
    /// that it is harmless.
    fn kernel_visible(&self) -> bool {
        if self.expect.is_empty() { self.harmless_by_name } else { self.opens.is_some() }
    }

    /// Judges what the sensor wrote about this form while all forms were requested: with its cause, or only what the
    /// kernel sees.
    fn judge(&self, mode: Mode, cause: bool) -> Result<()> {
        let stage = Stage::played(mode)?;
        let dir = stage.docroot.join(self.name).display().to_string();
        let statuses = &stage.statuses[self.name];
        ensure!(statuses.iter().all(|status| *status == self.status), "{} answers {statuses:?}", self.path());
        let own = format!("/{}/", self.name);
        let findings: Vec<&Line> =
            stage.lines.iter().filter(|line| line.is_finding() && line.json.to_string().contains(&own)).collect();
        let Some(last) = findings.last() else {
            ensure!(self.expect.is_empty(), "no finding; events: {}", stage.events(&own));
            return Ok(());
        };
        ensure!(!self.expect.is_empty(), "a finding where nothing is broken: {}", last.json);
        let other = findings.iter().find(|line| line.text("finding.id") != last.text("finding.id"));
        ensure!(
            other.is_none(),
            "two findings: {} and {}",
            last.json,
            other.map(|line| &line.json).unwrap_or(&last.json)
        );

        let mut expected: Vec<(&str, String)> =
            self.expect.iter().map(|(key, value)| (*key, value.replace("{dir}", &dir))).collect();
        if !cause {
            expected.retain(|(key, _)| KERNEL_KEYS.contains(key));
        } else if self.expect.iter().any(|(key, _)| *key == "code.file.path") {
            expected.extend([("http.request.method", "GET".to_owned()), ("url.path", self.path())]);
            if mode.sapi == Sapi::ModPhp {
                expected.push(("server.address", HOST.to_owned()));
            }
            expected.push(("finding.requests", REQUESTS.to_string()));
        }
        if let Some(opens) = self.opens {
            expected.push(("finding.count", (opens * REQUESTS).to_string()));
        }
        let wrong: Vec<String> = expected
            .iter()
            .filter(|(key, value)| &shown(last, key) != value)
            .map(|(key, value)| format!("{key} is {} instead of {value:?}", last.json[*key]))
            .collect();
        ensure!(wrong.is_empty(), "{}; in {}", wrong.join(", "), last.json);
        Ok(())
    }

    fn request(&self, apache: &Apache) -> Result<Vec<u16>> {
        let count = usize::try_from(REQUESTS)?;
        let target = self.path();
        let target = target.as_str();
        match self.ask {
            Ask::Alone => (0..count).map(|_| Ok(apache.get(target)?.status)).collect(),
            Ask::KeepAlive => {
                let mut connection = apache.connect()?;
                (0..count).map(|_| Ok(connection.get(target)?.status)).collect()
            }
            Ask::Pipelined => {
                let mut connection = apache.connect()?;
                connection.send_all(&vec![target; count])?;
                (0..count).map(|_| Ok(connection.receive()?.status)).collect()
            }
            Ask::Http2 => (0..count).map(|_| apache.get_http2(target)).collect(),
        }
    }

    fn write(&self, apache: &Apache, sapi: Sapi) -> Result<()> {
        let dir = &apache.docroot().join(self.name);
        let inside = apache.docroot_inside().join(self.name).display().to_string();
        let mut htaccess = self.htaccess.clone();
        let mut ini = String::new();
        for (key, value) in &self.ini {
            let value = value.replace("{dir}", &inside);
            match sapi {
                Sapi::ModPhp => htaccess.push_str(&format!("php_value {key} \"{value}\"\n")),
                Sapi::Fpm => ini.push_str(&format!("{key} = \"{value}\"\n")),
            }
        }
        stage::write(dir, ".htaccess", &htaccess)?;
        stage::write(dir, ".user.ini", &ini)?;
        // The script comes last: nothing is asked for before it is whole.
        for (name, entry) in self.entries.iter().rev() {
            let path = dir.join(name);
            match entry {
                Entry::File(text) => stage::write(dir, name, text)?,
                Entry::Link(target) => std::os::unix::fs::symlink(target, &path)?,
                Entry::Mode(mode) => {
                    use std::os::unix::fs::PermissionsExt as _;
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
                }
            }
        }
        Ok(())
    }
}

/// A value as the tables write it: strings as they are, numbers in digits, nothing for nothing.
fn shown(line: &Line, key: &str) -> String {
    match &line.json[key] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}
