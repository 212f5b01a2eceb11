//! What must not be found: opens that fail on a healthy site, each as a script that shows nothing wrong.

use super::Form;

/// The table: none has a finding.
pub fn forms() -> Vec<Form> {
    let mut forms = silenced();
    forms.extend(data());
    forms.extend(probes());
    // What Apache looks for has a name that nothing else has; so have locales and time zones.
    forms.extend(apache().into_iter().map(Form::harmless_by_name));
    forms
}

fn silenced() -> Vec<Form> {
    vec![
        Form::new("quiet_include", "<?php\n@include __DIR__ . '/gone.php';\n@include_once 'gone.php';"),
        Form::new(
            "quiet_include_in_a_function",
            "<?php\nfunction f() { return @include __DIR__ . '/gone.php'; }\nf();",
        ),
        Form::new("quiet_include_of_a_call", "<?php\nfunction f() { return include __DIR__ . '/gone.php'; }\n@f();"),
        Form::new("quiet_fopen", "<?php\n@fopen(__DIR__ . '/gone.txt', 'r');"),
        Form::new(
            "quiet_with_handler",
            "<?php\nset_error_handler(function () { return true; });\n@include __DIR__ . '/gone.php';",
        ),
    ]
}

/// Failing data files are their own, informational category that is not shown by default.
fn data() -> Vec<Form> {
    vec![
        Form::new("data_fopen", "<?php\nfopen(__DIR__ . '/gone.txt', 'r');"),
        Form::new("data_file_get_contents", "<?php\nfile_get_contents(__DIR__ . '/gone.json');"),
        Form::new("data_file_get_contents_of_php", "<?php\nfile_get_contents(__DIR__ . '/gone.php');"),
        Form::new("data_parse_ini_file", "<?php\nparse_ini_file(__DIR__ . '/gone.ini');"),
        Form::new("data_readfile", "<?php\nreadfile(__DIR__ . '/gone.txt');"),
        Form::new("data_file", "<?php\nfile('gone.txt');"),
        Form::new("data_opendir", "<?php\n@opendir(__DIR__ . '/gone');\n@scandir(__DIR__ . '/gone');"),
        Form::new(
            "data_in_a_class",
            "<?php\n$f = new SplFileInfo(__DIR__ . '/gone.txt');\ntry { $f->openFile(); } catch (RuntimeException $e) {}",
        ),
        Form::new("data_through_include_path", "<?php\nfopen('gone.php', 'r', true);"),
        // An include on the stack does not make this read one.
        Form::new("data_below_an_include", "<?php\ninclude __DIR__ . '/reads.php';")
            .file("reads.php", "<?php\nfile_get_contents(__DIR__ . '/gone.php');"),
    ]
}

fn probes() -> Vec<Form> {
    vec![
        Form::new(
            "probe_builtin_autoload",
            "<?php\nset_include_path(__DIR__);\nspl_autoload_register();\nclass_exists('Gone');",
        ),
        Form::new(
            "probe_psr0",
            "<?php\nspl_autoload_register(function ($class) { @include str_replace('_', '/', $class) . '.php'; });\nclass_exists('Some_Gone');",
        ),
        Form::new(
            "probe_roundcube",
            "<?php\nspl_autoload_register(function ($class) {\n    if ($f = @fopen(\"$class.php\", 'r', true)) { fclose($f); include \"$class.php\"; }\n});\nclass_exists('Gone');",
        ),
        Form::new(
            "probe_file_exists",
            "<?php\nif (file_exists(__DIR__ . '/gone.php')) { include __DIR__ . '/gone.php'; }",
        ).harmless_by_name(),
        Form::new("probe_resolve", "<?php\nif ($f = stream_resolve_include_path('gone.php')) { include $f; }").harmless_by_name(),
        Form::new("probe_locale", "<?php\nsetlocale(LC_ALL, 'xx_XX.UTF-8', 'probe_locale');").harmless_by_name(),
        Form::new(
            "probe_time_zone",
            "<?php\ntry { new DateTimeZone('Mars/probe_time_zone'); } catch (Exception $e) {}\n@date_default_timezone_set('No/probe_time_zone');",
        ).harmless_by_name(),
        Form::new("probe_session", "<?php\nsession_save_path(sys_get_temp_dir());\n@session_start();"),
    ]
}

fn apache() -> Vec<Form> {
    vec![
        Form::new("static_404", "").target("nothing.html").status(404),
        Form::new("script_404", "").target("nothing.php").status(404),
        Form::new("path_info", "<?php\necho 1;").target("index.php/some/path"),
        Form::new("static_file", "").file("page.html", "text").target("page.html"),
        Form::new("rewritten", "<?php\necho 1;")
            .htaccess("RewriteEngine On\nRewriteRule ^pretty$ index.php [L]\n")
            .target("pretty"),
    ]
}
