//! Failing opens that are part of healthy operation, told by name: programs look for optional files by opening them.
//! They are counted by reason and not shown. Each rule has its source; names are matched only with the errno that
//! the harmless case has, so an unreadable `.htaccess` stays visible.

use crate::{
    enrich::Event,
    record::names::{ENOENT, EPERM},
};

/// Why an open is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quiet {
    /// Apache looks for `.htaccess` in each directory of the path, and below files too (ENOTDIR).
    Htaccess,
    /// PHP tries `php-<sapi>.ini` and `php.ini` in several directories at start (main/php_ini.c).
    PhpIni,
    /// Servers look for the pid file of an earlier run.
    PidFile,
    /// glibc looks for locales and message catalogues, most of which no system has.
    Locale,
    /// PHP asks the system for time zones by any name that a script gives.
    TimeZone,
    /// libnss-systemd looks for users in drop-in directories.
    UserDb,
    /// Kernel files: present or not with the kernel's configuration.
    Pseudo,
    /// Change lists that DokuWiki writes with a page's first edit.
    ChangeLog,
    /// Of no kind that a detector knows.
    Other,
}

impl Quiet {
    pub const ALL: [Self; 9] = [
        Self::Htaccess,
        Self::PhpIni,
        Self::PidFile,
        Self::Locale,
        Self::TimeZone,
        Self::UserDb,
        Self::Pseudo,
        Self::ChangeLog,
        Self::Other,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Htaccess => "htaccess",
            Self::PhpIni => "php_ini",
            Self::PidFile => "pid_file",
            Self::Locale => "locale",
            Self::TimeZone => "time_zone",
            Self::UserDb => "userdb",
            Self::Pseudo => "pseudo_file",
            Self::ChangeLog => "change_log",
            Self::Other => "other",
        }
    }
}

const ENOTDIR: u32 = 20;

/// The reason why this open is harmless, where its name tells.
pub fn quiet(event: &Event) -> Option<Quiet> {
    let open = &event.open;
    let path = open.best_path();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let absent = matches!(open.errno, ENOENT | ENOTDIR);
    let below = |directories: &[&str]| directories.iter().any(|directory| path.starts_with(directory.as_bytes()));
    match () {
        () if name == b".htaccess" && absent => Some(Quiet::Htaccess),
        () if is_php_ini(name) && absent => Some(Quiet::PhpIni),
        () if name.ends_with(b".pid") && absent => Some(Quiet::PidFile),
        () if below(&["/usr/lib/locale/", "/usr/share/locale/", "/usr/share/locale-langpack/"]) && absent => {
            Some(Quiet::Locale)
        }
        () if below(&["/usr/share/zoneinfo/"]) && absent => Some(Quiet::TimeZone),
        () if below(&[
            "/run/systemd/userdb/",
            "/run/userdb/",
            "/etc/userdb/",
            "/usr/lib/userdb/",
            "/run/host/userdb/",
        ]) =>
        {
            Some(Quiet::UserDb)
        }
        () if below(&["/proc/", "/sys/", "/dev/"]) && open.errno != EPERM => Some(Quiet::Pseudo),
        () if name.ends_with(b".changes") && absent => Some(Quiet::ChangeLog),
        () => None,
    }
}

/// `php.ini` and `php-<sapi>.ini`.
fn is_php_ini(name: &[u8]) -> bool {
    let stem = name.strip_suffix(b".ini").and_then(|stem| stem.strip_prefix(b"php"));
    stem.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::test::event;

    #[test]
    fn healthy_servers_stay_quiet() {
        let check = |path: &str, errno, expect| assert_eq!(quiet(&event(path, errno, 0)), expect, "{path}");
        check("/var/www/html/.htaccess", ENOENT, Some(Quiet::Htaccess));
        check("/var/www/html/index.php/.htaccess", ENOTDIR, Some(Quiet::Htaccess));
        check("/var/www/html/.htaccess", 13, None);
        check("/usr/bin/php-apache2handler.ini", ENOENT, Some(Quiet::PhpIni));
        check("/etc/php/8.2/fpm/php-fpm-fcgi.ini", ENOENT, Some(Quiet::PhpIni));
        check("/etc/php/8.2/apache2/php.ini", ENOENT, Some(Quiet::PhpIni));
        check("/srv/phpunit.ini", ENOENT, None);
        check("/run/apache2/apache2.pid", ENOENT, Some(Quiet::PidFile));
        check("/usr/lib/locale/C.UTF-8/LC_CTYPE", ENOENT, Some(Quiet::Locale));
        check("/usr/share/zoneinfo/Mars/Base", ENOENT, Some(Quiet::TimeZone));
        check("/run/systemd/userdb/io.systemd.NameServiceSwitch", ENOENT, Some(Quiet::UserDb));
        check("/sys/fs/cgroup/cpu.max", ENOENT, Some(Quiet::Pseudo));
        check("/var/www/html/wp-includes/class-wp-locale.phpp", ENOENT, None);
    }
}
