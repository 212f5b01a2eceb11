//! Debian's WordPress in a document root of its own, with the one edit that this project exists for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::apache::{Apache, HOST};
use super::mariadb::{self, DATABASE, PASSWORD, USER};
use super::php::Php;
use crate::process;

pub const SOURCE: &str = "/usr/share/wordpress";

/// The site's tables are the same for every copy, so one installation serves all.
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();

/// A classic theme that shows the loop; Debian ships WordPress without one.
const THEME: [(&str, &str); 3] = [
    ("style.css", "/*\nTheme Name: Plain\n*/\n"),
    ("functions.php", "<?php\nadd_theme_support('title-tag');\n"),
    (
        "index.php",
        "<!doctype html><html><head><?php wp_head(); ?></head><body>\n\
         <?php while (have_posts()) { the_post(); the_title('<h2>', '</h2>'); the_content(); } ?>\n\
         <?php wp_footer(); ?></body></html>\n",
    ),
];

/// Fills the database as the browser's installation form does. Mail to the new administrator is suppressed.
const INSTALL: &str = r#"<?php
define('WP_INSTALLING', true);
function wp_new_blog_notification() {}
require getcwd() . '/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('Shop', 'admin', 'admin@shop.example', true, '', 'secret');
switch_theme('plain');
for ($i = 1; $i <= 5; $i++) {
    wp_insert_post(['post_title' => "Post $i", 'post_content' => str_repeat("Words of post $i. ", 40),
        'post_status' => 'publish', 'post_author' => 1]);
}
echo 'installed';
"#;

/// A site below an Apache's document root.
#[derive(Debug)]
pub struct WordPress {
    root: PathBuf,
}

impl WordPress {
    /// Copies the site into the server's document root and makes sure that its database is filled.
    pub fn deploy(apache: &Apache) -> Result<Self> {
        let database = mariadb::shared()?;
        let site = Self { root: apache.docroot() };
        // -L: Debian's tree links into other packages; an edit must never reach those.
        let mut copy = Command::new("cp");
        process::run(copy.args(["-rL", "--reflink=auto"]).arg(format!("{SOURCE}/.")).arg(&site.root))?;
        let theme = site.root.join("wp-content/themes/plain");
        fs::create_dir_all(&theme)?;
        for (name, text) in THEME {
            fs::write(theme.join(name), text)?;
        }
        fs::write(site.root.join("wp-config.php"), config(&database.socket))?;
        let installed = INSTALLED.get_or_init(|| site.install(apache).map_err(|error| format!("{error:#}")));
        installed.as_ref().map_err(|error| anyhow!("WordPress could not be installed: {error}"))?;
        Ok(site)
    }

    fn install(&self, apache: &Apache) -> Result<()> {
        let script = apache.dir().join("install.php");
        fs::write(&script, INSTALL)?;
        let mut php = Command::new(Php::system().cli);
        php.arg("-c").arg(apache.dir().join("php.ini")).arg(&script).current_dir(&self.root);
        let said = process::run(php.env("PHP_INI_SCAN_DIR", ""))?;
        ensure!(said.ends_with("installed"), "the installation said {said:?}");
        Ok(())
    }

    pub fn settings(&self) -> PathBuf {
        self.root.join("wp-settings.php")
    }

    /// The file that the broken site asks for.
    pub fn missing(&self) -> PathBuf {
        self.root.join("wp-includes/class-wp-locale.phpp")
    }

    /// The incident: one letter too many in an include.
    pub fn break_locale(&self) -> Result<()> {
        self.edit("/class-wp-locale.php'", "/class-wp-locale.phpp'")
    }

    pub fn mend(&self) -> Result<()> {
        self.edit("/class-wp-locale.phpp'", "/class-wp-locale.php'")
    }

    /// Replaces the file by a new one, as a deployment does, so that no worker reads half of it.
    fn edit(&self, from: &str, to: &str) -> Result<()> {
        let path = self.settings();
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        ensure!(text.matches(from).count() == 1, "{} does not have {from} once", path.display());
        let new = path.with_extension("php.new");
        fs::write(&new, text.replace(from, to))?;
        Ok(fs::rename(&new, &path)?)
    }
}

fn config(socket: &Path) -> String {
    format!(
        "<?php\ndefine('DB_NAME', '{DATABASE}');\ndefine('DB_USER', '{USER}');\ndefine('DB_PASSWORD', '{PASSWORD}');\n\
         define('DB_HOST', 'localhost:{socket}');\ndefine('DB_CHARSET', 'utf8mb4');\ndefine('DB_COLLATE', '');\n\
         define('WP_HOME', 'http://{HOST}');\ndefine('WP_SITEURL', 'http://{HOST}');\n\
         define('DISABLE_WP_CRON', true);\ndefine('WP_HTTP_BLOCK_EXTERNAL', true);\n\
         define('AUTOMATIC_UPDATER_DISABLED', true);\ndefine('WP_DEFAULT_THEME', 'plain');\n\
         define('ABSPATH', __DIR__ . '/');\n$table_prefix = 'wp_';\nrequire_once ABSPATH . 'wp-settings.php';\n",
        socket = socket.display(),
    )
}
