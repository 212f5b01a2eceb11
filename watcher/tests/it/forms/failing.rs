//! What must be found: a script, and the file, kind, script and line that the finding names.

use super::{Ask, Form};

const GONE: &str = "{dir}/gone.php";
const SCRIPT: &str = "{dir}/index.php";

/// The table. A script's second line is the first after `<?php`.
pub fn forms() -> Vec<Form> {
    let mut forms = kinds();
    forms.extend(paths());
    forms.extend(places());
    forms.extend(settings());
    forms.extend(requests());
    forms.extend(other_causes());
    forms.extend(classes());
    forms
}

fn kinds() -> Vec<Form> {
    vec![
        Form::new("include", "<?php\ninclude __DIR__ . '/gone.php';")
            .misses(GONE, "include", SCRIPT, 2)
            .says("finding.severity", "warning"),
        Form::new("include_once", "<?php\n\ninclude_once __DIR__ . '/gone.php';").misses(
            GONE,
            "include_once",
            SCRIPT,
            3,
        ),
        Form::new("require", "<?php\nrequire __DIR__ . '/gone.php';")
            .requires("require", 2)
            .says("finding.severity", "critical"),
        Form::new("require_once", "<?php\n\n\nrequire_once __DIR__ . '/gone.php';").requires("require_once", 4),
        Form::new("twice_in_a_request", "<?php\nfor ($i = 0; $i < 2; $i++) {\n    include __DIR__ . '/gone.php';\n}")
            .misses(GONE, "include", SCRIPT, 3)
            .opens(2),
        // Silence does not keep a require from being fatal.
        Form::new("silenced_require", "<?php\n@require __DIR__ . '/gone.php';").requires("require", 2),
    ]
}

fn paths() -> Vec<Form> {
    vec![
        Form::new("relative", "<?php\nrequire 'gone.php';").requires("require", 2),
        Form::new("relative_below", "<?php\nrequire 'lib/gone.php';")
            .misses("{dir}/lib/gone.php", "require", SCRIPT, 2)
            .status(500),
        Form::new("relative_with_dot", "<?php\nrequire './gone.php';").requires("require", 2),
        Form::new("relative_with_dots", "<?php\nrequire '../relative_with_dots/gone.php';").requires("require", 2),
        Form::new("absolute_outside", "<?php\nrequire '/nowhere/at/all/absolute_outside/gone.php';")
            .misses("/nowhere/at/all/absolute_outside/gone.php", "require", SCRIPT, 2)
            .status(500),
        // PHP follows links itself before it opens, so the file that is named is the one that the link means.
        Form::new("through_a_linked_directory", "<?php\nrequire __DIR__ . '/link/gone.php';")
            .file("real/here.php", "<?php\n")
            .link("link", "real")
            .misses("{dir}/real/gone.php", "require", SCRIPT, 2)
            .status(500),
        Form::new("dangling_link", "<?php\nrequire __DIR__ . '/dangling.php';")
            .link("dangling.php", "nowhere.php")
            .misses("{dir}/nowhere.php", "require", SCRIPT, 2)
            .status(500),
        Form::new("changed_directory", "<?php\nchdir(__DIR__ . '/sub');\nrequire 'gone.php';")
            .file("sub/here.php", "<?php\n")
            .misses("{dir}/sub/gone.php", "require", SCRIPT, 3)
            .status(500),
        Form::new("hostile_name", "<?php\nrequire __DIR__ . \"/a\\nb\\x1b[31m.php\";")
            .misses("{dir}/a\nb\u{1b}[31m.php", "require", SCRIPT, 2)
            .status(500),
        Form::new("include_path", "<?php\nset_include_path('/nowhere:' . __DIR__ . '/lib');\nrequire 'gone.php';")
            .misses(GONE, "require", SCRIPT, 3)
            .status(500),
    ]
}

fn places() -> Vec<Form> {
    vec![
        Form::new("in_a_function", "<?php\nfunction load() {\n    require __DIR__ . '/gone.php';\n}\nload();")
            .requires("require", 3)
            .says("code.function.name", "load"),
        Form::new(
            "in_a_method",
            "<?php\nnamespace App;\nclass Loader {\n    function load() { require __DIR__ . '/gone.php'; }\n}\n(new Loader)->load();",
        )
        .requires("require", 4)
        .says("code.function.name", "App\\Loader::load"),
        Form::new(
            "in_a_static_method",
            "<?php\nclass Loader {\n    static function load() {\n        require __DIR__ . '/gone.php';\n    }\n}\nLoader::load();",
        )
        .requires("require", 4)
        .says("code.function.name", "Loader::load"),
        Form::new("in_a_closure", "<?php\n$load = function () {\n    require __DIR__ . '/gone.php';\n};\n$load();")
            .requires("require", 3),
        Form::new("in_a_callback", "<?php\narray_map(function ($file) {\n    require __DIR__ . $file;\n}, ['/gone.php']);")
            .requires("require", 3),
        Form::new(
            "in_a_generator",
            "<?php\nfunction files() {\n    yield 1;\n    yield require __DIR__ . '/gone.php';\n}\nforeach (files() as $file);",
        )
        .requires("require", 4),
        Form::new("in_an_included_file", "<?php\nrequire __DIR__ . '/one.php';")
            .file("one.php", "<?php\nrequire __DIR__ . '/two.php';")
            .file("two.php", "<?php\n\n\nrequire __DIR__ . '/gone.php';")
            .misses(GONE, "require", "{dir}/two.php", 4)
            .status(500),
        Form::new(
            "in_an_autoloader",
            "<?php\nspl_autoload_register(function ($class) {\n    require __DIR__ . \"/$class.php\";\n});\nnew gone;",
        )
        .requires("require", 3),
        Form::new(
            "in_an_autoloader_that_warns",
            "<?php\nspl_autoload_register(function ($class) {\n    include __DIR__ . \"/$class.php\";\n});\nnew gone;",
        )
        .requires("include", 3),
        Form::new("in_a_shutdown_function", "<?php\nregister_shutdown_function(function () {\n    include __DIR__ . '/gone.php';\n});")
            .misses(GONE, "include", SCRIPT, 3),
        Form::new("in_a_destructor", "<?php\nclass D { function __destruct() {\n    include __DIR__ . '/gone.php';\n} }\n$d = new D;\nunset($d);")
            .misses(GONE, "include", SCRIPT, 3),
        Form::new("deep_in_calls", "<?php\nfunction down($n) {\n    if ($n) { down($n - 1); return; }\n    require __DIR__ . '/gone.php';\n}\ndown(60);")
            .requires("require", 4),
        // The script is the file that holds the eval, whatever PHP calls the evaluated piece.
        Form::new("in_eval", "<?php\n\neval(\"require __DIR__ . '/gone.php';\");").requires("require", 3),
        Form::new("auto_prepend", "<?php\necho 1;")
            .ini("auto_prepend_file", GONE)
            .says("finding.category", "missing_include")
            .says("file.path", GONE)
            .says("error.type", "ENOENT")
            .opens(1)
            .status(500),
        Form::new("auto_append", "<?php\necho 1;")
            .ini("auto_append_file", GONE)
            .says("finding.category", "missing_include")
            .says("file.path", GONE)
            .opens(1),
    ]
}

fn settings() -> Vec<Form> {
    const REQUIRE: &str = "<?php\nrequire __DIR__ . '/gone.php';";
    vec![
        Form::new("display_errors_on", REQUIRE).ini("display_errors", "1").requires("require", 2).status(200),
        Form::new("log_errors_off", REQUIRE).ini("log_errors", "0").requires("require", 2),
        Form::new("error_reporting_zero", "<?php\nerror_reporting(0);\nrequire __DIR__ . '/gone.php';").requires("require", 3),
        Form::new("error_reporting_zero_by_ini", REQUIRE).ini("error_reporting", "0").requires("require", 2),
        Form::new("error_reporting_zero_include", "<?php\nerror_reporting(0);\ninclude __DIR__ . '/gone.php';")
            .misses(GONE, "include", SCRIPT, 3),
        Form::new(
            "error_handler_throws",
            "<?php\nset_error_handler(function ($n, $text) { throw new ErrorException($text); });\ninclude __DIR__ . '/gone.php';",
        )
        .requires("include", 3),
        Form::new(
            "error_handler_throws_and_is_caught",
            "<?php\nset_error_handler(function ($n, $text) { throw new ErrorException($text); });\n\
             try {\n    require __DIR__ . '/gone.php';\n} catch (ErrorException $e) {\n    http_response_code(503);\n}",
        )
        .requires("require", 4)
        .status(503),
        Form::new(
            "error_handler_swallows",
            "<?php\nset_error_handler(function () { return true; });\ninclude __DIR__ . '/gone.php';",
        )
        .misses(GONE, "include", SCRIPT, 3),
        Form::new("output_already_sent", "<?php\necho str_repeat('x', 70000);\nflush();\nrequire __DIR__ . '/gone.php';")
            .requires("require", 4)
            .status(200),
        // PHP 8 throws, and the application may go on.
        Form::new("caught", "<?php\ntry {\n    require __DIR__ . '/gone.php';\n} catch (Error $e) {\n    echo 'fallback';\n}")
            .since("8.0")
        .misses(GONE, "require", SCRIPT, 3),
    ]
}

fn requests() -> Vec<Form> {
    const REQUIRE: &str = "<?php\nrequire __DIR__ . '/gone.php';";
    // Apache closes the connection after a 500 of mod_php, so these answer 200.
    const INCLUDE: &str = "<?php\ninclude __DIR__ . '/gone.php';";
    vec![
        Form::new("keep_alive", INCLUDE).ask(Ask::KeepAlive).misses(GONE, "include", SCRIPT, 2),
        Form::new("pipelined", INCLUDE).ask(Ask::Pipelined).misses(GONE, "include", SCRIPT, 2),
        Form::new("tls_and_http2", REQUIRE).ask(Ask::Http2).requires("require", 2),
    ]
}

/// Includes that fail for another reason than a file that is not there.
fn other_causes() -> Vec<Form> {
    vec![
        Form::new("unreadable_file", "<?php\nrequire __DIR__ . '/secret.php';")
            .mode("secret.php", 0)
            .file("secret.php", "<?php\n")
            .status(500)
            .says("finding.category", "permission_denied")
            .says("file.path", "{dir}/secret.php")
            .says("error.type", "EACCES")
            .says("php.include.kind", "require")
            .says("code.file.path", SCRIPT)
            .says("code.line.number", "2")
            .opens(1),
        Form::new("unreadable_directory", "<?php\nrequire __DIR__ . '/closed/file.php';")
            .mode("closed", 0o700)
            .file("closed/file.php", "<?php\n")
            .status(500)
            .says("finding.category", "permission_denied")
            .says("file.path", "{dir}/closed/file.php")
            .says("code.file.path", SCRIPT)
            .opens(1),
        Form::new("static_file_unreadable", "")
            .mode("page.html", 0)
            .file("page.html", "text")
            .target("page.html")
            .status(403)
            .says("finding.category", "permission_denied")
            .says("file.path", "{dir}/page.html"),
        Form::new("htaccess_unreadable", "<?php\necho 1;")
            .mode(".htaccess", 0)
            .htaccess("Options -Indexes\n")
            .status(403)
            .says("finding.category", "permission_denied")
            .says("file.path", "{dir}/.htaccess"),
        Form::new("password_file_missing", "<?php\necho 1;")
            .htaccess("AuthType Basic\nAuthName x\nAuthUserFile /nowhere/password_file_missing/htpasswd\nRequire valid-user\n")
            .status(401),
        Form::new(
            "descriptors_exhausted",
            "<?php\n$was = posix_getrlimit();\n$hard = (int) $was['hard openfiles'] ?: -1;\n\
             posix_setrlimit(POSIX_RLIMIT_NOFILE, 3, $hard);\ninclude __DIR__ . '/lib.php';\n\
             posix_setrlimit(POSIX_RLIMIT_NOFILE, $was['soft openfiles'], $hard);",
        )
        .file("lib.php", "<?php\n")
        .says("finding.category", "fd_exhausted")
        .says("error.type", "EMFILE")
        .says("file.path", "{dir}/lib.php")
        .says("code.file.path", SCRIPT)
        .says("code.line.number", "5"),
        // These make no failing open: PHP finds out by looking, or the open succeeds.
        Form::new("not_a_directory", "<?php\nrequire __DIR__ . '/file.php/gone.php';")
            .file("file.php", "<?php\n")
            .status(500)
            .says("file.path", "{dir}/file.php/gone.php")
            .says("code.file.path", SCRIPT)
            .says("php.include.kind", "require"),
        Form::new("link_loop", "<?php\nrequire __DIR__ . '/loop.php';")
            .link("loop.php", "loop.php")
            .status(500)
            .says("file.path", "{dir}/loop.php")
            .says("code.file.path", SCRIPT)
            .says("php.include.kind", "require"),
        Form::new("a_directory", "<?php\nrequire __DIR__ . '/lib';")
            .file("lib/here.php", "<?php\n")
            .status(500)
            .says("file.path", "{dir}/lib")
            .says("code.file.path", SCRIPT)
            .says("php.include.kind", "require"),
        Form::new("open_basedir", "<?php\nrequire '/etc/open_basedir/gone.php';")
            .ini("open_basedir", "{dir}")
            .status(500)
            .says("file.path", "/etc/open_basedir/gone.php")
            .says("code.file.path", SCRIPT)
            .says("php.include.kind", "require"),
    ]
}

/// A class whose file no loader found: no open fails.
fn classes() -> Vec<Form> {
    const COMPOSER: &str = "<?php\nspl_autoload_register(function ($class) {\n    $file = __DIR__ . '/src/' . \
        strtr($class, '\\\\', '/') . '.php';\n    if (file_exists($file)) { include $file; }\n});\n";
    vec![
        Form::new("class_of_an_autoloader", "<?php\nrequire __DIR__ . '/loader.php';\n\nnew App\\Gone();")
            .file("loader.php", COMPOSER)
            .status(500)
            .says("finding.category", "missing_class")
            .says("php.class", "App\\Gone")
            .says("code.file.path", SCRIPT)
            .says("code.line.number", "4"),
        Form::new("class_of_a_parent", "<?php\nrequire __DIR__ . '/loader.php';\nclass Child extends GoneParent {}")
            .file("loader.php", COMPOSER)
            .status(500)
            .says("finding.category", "missing_class")
            .says("php.class", "GoneParent")
            .says("code.file.path", SCRIPT)
            .says("code.line.number", "3"),
        Form::new("class_of_a_static_call", "<?php\nrequire __DIR__ . '/loader.php';\nGoneStatic::call();")
            .file("loader.php", COMPOSER)
            .status(500)
            .says("finding.category", "missing_class")
            .says("php.class", "GoneStatic")
            .says("code.file.path", SCRIPT)
            .says("code.line.number", "3"),
        Form::new("class_caught", "<?php\ntry { new Gone(); } catch (Error $e) { echo 'fallback'; }"),
        Form::new(
            "class_asked_for",
            "<?php\nrequire __DIR__ . '/loader.php';\nvar_dump(class_exists('App\\\\Optional'));",
        )
        .file("loader.php", COMPOSER),
    ]
}
