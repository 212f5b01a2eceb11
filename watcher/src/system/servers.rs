//! What runs and lies on this host of Apache and PHP, for the doctor.

use std::path::PathBuf;

use super::{System, executable, kernel};

/// Names of server processes, or their beginnings.
const NAMES: [&str; 4] = ["apache2", "httpd", "php-fpm", "php-cgi"];
/// Where distributions put server programs and PHP's module for Apache, and how the names begin.
const PLACES: [(&str, &[&str]); 5] = [
    ("usr/sbin", &["apache2", "httpd", "php-fpm"]),
    ("usr/local/sbin", &["httpd", "php-fpm"]),
    ("usr/bin", &["php"]),
    ("usr/lib/apache2/modules", &["libphp"]),
    ("usr/lib64/httpd/modules", &["libphp"]),
];
/// Not PHP itself: helpers that share its name.
const HELPERS: [&str; 6] = ["phpize", "php-config", "phpdbg", "phpenmod", "phpdismod", "phpquery"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Main processes with the number of their workers.
    pub running: Vec<RunningServer>,
    pub installed: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningServer {
    pub pid: u32,
    pub name: Vec<u8>,
    pub executable: Option<Vec<u8>>,
    pub workers: usize,
}

impl System {
    pub fn servers(&self) -> Servers {
        Servers { running: self.running(), installed: self.installed() }
    }

    fn running(&self) -> Vec<RunningServer> {
        let processes = kernel::processes().unwrap_or_default();
        let is_server = |name: &[u8]| NAMES.iter().any(|known| name.starts_with(known.as_bytes()));
        let servers: Vec<_> = processes.iter().filter(|process| is_server(&process.comm)).collect();
        let is_worker = |pid, name: &Vec<u8>| servers.iter().any(|other| other.pid == pid && other.comm == *name);
        let mains = servers.iter().filter(|process| !is_worker(process.ppid, &process.comm));
        mains
            .map(|main| RunningServer {
                pid: main.pid,
                name: main.comm.clone(),
                executable: std::fs::read_link(self.root.join(format!("proc/{}/exe", main.pid)))
                    .ok()
                    .map(|path| executable(&path)),
                workers: servers.iter().filter(|process| process.ppid == main.pid && process.comm == main.comm).count(),
            })
            .collect()
    }

    fn installed(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for (directory, names) in PLACES {
            let entries = std::fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| {
                let name = entry.file_name();
                let name = name.to_str()?;
                let wanted = names.iter().any(|known| name.starts_with(known));
                let plain = !HELPERS.iter().any(|helper| name.starts_with(helper)) && !name.ends_with("ctl");
                (wanted && plain).then(|| entry.path())
            }));
        }
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn installed_servers_are_listed() {
        let root = tempfile::tempdir().expect("a scratch directory");
        for path in
            ["usr/sbin/apache2", "usr/sbin/apache2ctl", "usr/sbin/php-fpm8.2", "usr/bin/php8.2", "usr/bin/phpize"]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let expect = ["usr/bin/php8.2", "usr/sbin/apache2", "usr/sbin/php-fpm8.2"].map(|path| root.path().join(path));
        assert_eq!(System::at(root.path()).servers().installed, expect);
    }
}
