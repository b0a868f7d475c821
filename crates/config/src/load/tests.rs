//! Starts with all kinds of command lines and files.

use super::*;

fn start(args: &[&str]) -> Result<StartPlan, ConfigError> {
    start_with_stdin(args, "")
}

fn start_with_stdin(args: &[&str], stdin: &str) -> Result<StartPlan, ConfigError> {
    from_args_and(args.iter().map(OsString::from), &mut stdin.as_bytes())
}

fn shown_of(settings: &Settings, name: &str) -> String {
    let spec = lookup(name.as_bytes()).expect(name);
    String::from_utf8(settings.show(spec)).unwrap()
}

/// The reason of the only problem.
fn refusal(outcome: Result<StartPlan, ConfigError>) -> String {
    let error = outcome.expect_err("refused");
    assert_eq!(error.problems.len(), 1, "{error}");
    error.problems[0].reason.to_string()
}

fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn nothing_given_is_the_defaults() {
    let plan = start(&[]).unwrap();
    assert_eq!(plan.settings, Settings::default());
    assert_eq!(plan.action, Action::Start);
    assert!(plan.config_file.is_none());
    assert_eq!(plan.settings.dir(), std::env::current_dir().unwrap().canonicalize().unwrap());
}

#[test]
fn options_take_one_value_or_several_in_one_argument_or_more() {
    let plan =
        start(&["--port", "7000", "--bind", "127.0.0.1", "::1", "--timeout 5", "--requirepass", "a b"])
            .unwrap();
    assert_eq!(plan.settings.port(), 7000);
    assert_eq!(plan.settings.bind().len(), 2);
    assert_eq!(plan.settings.timeout(), 5);
    assert_eq!(plan.settings.requirepass(), b"a b");
    assert_eq!(start(&["--requirepass", "--port"]).unwrap().settings.requirepass(), b"--port");
    assert_eq!(start(&["--PORT", "7000"]).unwrap().settings.port(), 7000);
    assert_eq!(start(&["--port", "1", "--port", "2"]).unwrap().settings.port(), 2);
}

#[test]
fn a_bare_save_turns_snapshots_off() {
    assert_eq!(start(&["--save", "--port", "7000"]).unwrap().settings.port(), 7000);
    assert_eq!(start(&["--save", "--port", "7000"]).unwrap().settings.save(), []);
    assert_eq!(start(&["--port", "7000", "--save"]).unwrap().settings.save(), []);
    assert_eq!(start(&["--save", "", "--appendonly", "no"]).unwrap().settings.save(), []);
    assert_eq!(start(&["--cache"]).unwrap().settings.save(), []);
    assert_eq!(start(&["--cache", "--save", "60 1"]).unwrap().settings.save().len(), 1);
    assert_eq!(start(&["--port", "7000"]).unwrap().settings.save().len(), 3);
}

#[test]
fn help_version_and_check_are_actions() {
    for (args, action) in [
        (&["-h"][..], Action::Help),
        (&["--help"], Action::Help),
        (&["-v"], Action::Version),
        (&["--version"], Action::Version),
        (&["--check-config"], Action::CheckConfig),
        (&["--check-config", "--port", "5"], Action::CheckConfig),
        (&["--port", "5", "--check-config"], Action::CheckConfig),
    ] {
        assert_eq!(start(args).unwrap().action, action, "{args:?}");
    }
}

#[test]
fn file_then_stdin_then_options_override_one_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "a.conf", "port 1\r\ntimeout 2\r\nhz 20\r\n\r\n# c\r\n");
    let plan = start_with_stdin(&[&path, "--hz", "30", "-"], "timeout 3\nhz 25").unwrap();
    let settings = plan.settings;
    assert_eq!((settings.port(), settings.timeout(), settings.hz()), (1, 3, 30));
    assert_eq!(plan.config_file.unwrap().path(), Path::new(&path));
    assert_eq!(start_with_stdin(&["-"], "port 9").unwrap().settings.port(), 9);
}

#[test]
fn an_error_shows_source_line_text_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "a.conf", "timeout 5\n\nmaxmemory 1zz\nport x\n");
    let error = start(&[&path]).unwrap_err().to_string();
    let expected = format!(
        "\n*** FATAL CONFIG FILE ERROR (Larder {}) ***\nReading the configuration file '{path}', at line 3\n\
         >>> 'maxmemory 1zz'\nargument must be a memory value",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(error, expected);
    let error = start(&["--timeout", "1", "--port", "99999"]).unwrap_err().to_string();
    assert!(error.ends_with(
        "Reading the command line, at option 2\n>>> '--port 99999'\nargument must be between 0 and 65535 inclusive"
    ));
}

#[test]
fn checking_finds_every_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "a.conf", "port x\nfoo 1\ntimeout 1\nmaxmemory-policy sometimes\n");
    let error = check_config(Path::new(&path)).unwrap_err();
    assert_eq!(error.problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(start(&[&path, "--check-config", "--hz", "x"]).unwrap_err().problems.len(), 4);
    assert_eq!(start(&["--check-config", &path]).unwrap_err().problems.len(), 3);
}

#[test]
fn an_unknown_option_names_the_nearest_one() {
    assert_eq!(refusal(start(&["--maxmemry", "5"])), "unknown option 'maxmemry': did you mean 'maxmemory'?");
    assert_eq!(refusal(start(&["--port=5"])), "unknown option 'port=5': write 'port' and its value apart");
    assert_eq!(refusal(start(&["--qqqqqqqq"])), "unknown option 'qqqqqqqq': larder --help lists all options");
    assert!(refusal(start(&["-x"])).starts_with("expected '--'"));
    assert!(refusal(start(&["--"])).starts_with("the name of an option"));
}

#[test]
fn wrong_counts_and_quotes_are_refused_in_redis_words() {
    assert_eq!(refusal(start(&["--port"])), "wrong number of arguments");
    assert_eq!(refusal(start(&["--port", "1", "2"])), "wrong number of arguments");
    assert_eq!(refusal(from_text(b"port 5 # five")), "wrong number of arguments");
    assert_eq!(refusal(from_text(b"requirepass \"abc")), "Unbalanced quotes in configuration line");
    assert_eq!(
        refusal(from_text(b"client-output-buffer-limit normal 1")),
        "Wrong number of arguments in buffer limit configuration."
    );
    let bad = "Bad directive or wrong number of arguments";
    assert_eq!(refusal(from_text(b"include a b")), bad);
    assert_eq!(refusal(from_text(b"rename-command a")), bad);
    assert_eq!(refusal(from_text(b"user")), bad);
}

#[test]
fn a_secret_is_not_shown() {
    let error = from_text(b"requirepass sesame open").unwrap_err().to_string();
    assert!(!error.contains("sesame") && error.contains("requirepass"), "{error}");
    let error = start(&["--requirepass", "sesame", "open"]).unwrap_err().to_string();
    assert!(!error.contains("sesame") && error.contains("requirepass"), "{error}");
}

#[test]
fn what_tunes_something_absent_is_kept_with_a_warning() {
    let plan = from_text(b"repl-timeout 60\ncluster-node-timeout 7\nreplica-priority 5").unwrap();
    assert_eq!(shown_of(&plan.settings, "replica-priority"), "5");
    assert_eq!(plan.warnings.len(), 2);
    assert_eq!(plan.check_report().matches("Warning: ").count(), 2);
    assert!(plan.check_report().ends_with("\nOK\n"));
    assert!(plan.warnings[0].reason.text().ends_with("there is no cluster mode yet"));
    assert!(from_text(b"appendonly no\nreplicaof no one\nshutdown-timeout 10").unwrap().warnings.is_empty());
    assert_eq!(from_text(b"io-threads-do-reads yes").unwrap().warnings.len(), 1);
    assert_eq!(refusal(from_text(b"locale-collate nowhere")), "Invalid locale name");
}

#[test]
fn what_would_be_a_lie_is_refused_unless_it_is_redis_default() {
    assert_eq!(
        refusal(from_text(b"cluster-enabled yes")),
        "this version of Larder supports only cluster-enabled 'no': cluster mode is not there yet"
    );
    assert!(refusal(from_text(b"replicaof localhost 6379")).contains("replication is not there yet"));
    assert_eq!(from_text(b"set-proc-title yes").unwrap().warnings.len(), 1);
    assert!(refusal(from_text(b"loadmodule x.so")).contains("not in this version"));
    assert!(
        refusal(from_text(b"maxmemory-policy sometimes"))
            .starts_with("argument(s) must be one of the following: volatile-lru, ")
    );
}

#[test]
fn users_are_kept_line_by_line_and_their_rules_are_shown_to_nobody() {
    let plan = from_text(b"user default on nopass ~* &* +@all\ntimeout 0\nuser bob on >\"a b\"\n").unwrap();
    let words: Vec<_> = plan.users.iter().map(|user| user.words.concat()).collect();
    assert_eq!(words, [&b"defaultonnopass~*&*+@all"[..], b"bobon>a b"]);
    let problem = plan.users[1].problem(Reason::new("no")).to_string();
    assert!(problem.contains("line 3") && problem.contains("bob") && !problem.contains("a b"), "{problem}");
    assert!(!refusal(from_text(b"user")).is_empty());
    let error = from_text(b"user ann >sesame \"").unwrap_err().to_string();
    assert!(!error.contains("sesame"), "{error}");
}

#[test]
fn aliases_set_the_same_value() {
    assert_eq!(from_text(b"io-threads 4").unwrap().settings.threads(), 4);
    assert!(from_text(b"lua-time-limit 5000").unwrap().warnings.is_empty());
    assert_eq!(from_text(b"lua-time-limit 7").unwrap().settings.busy_reply_threshold(), 7);
}

#[test]
fn renames_are_collected_in_order() {
    let plan = from_text(b"rename-command FLUSHALL \"\"\nrename-command config c").unwrap();
    assert_eq!(plan.renames[0], Rename { command: b"FLUSHALL".to_vec(), new_name: vec![] });
    assert_eq!(plan.renames[1].new_name, b"c");
}

#[test]
fn includes_are_read_in_place_relative_to_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "one.inc", "port 1\nhz 11");
    file(&directory, "two.inc", "port 2");
    let root = directory.path().to_str().unwrap();
    let path = file(&directory, "a.conf", &format!("hz 12\ndir {root}\ninclude one.inc\ntimeout 9\n"));
    let settings = start(&[&path]).unwrap().settings;
    assert_eq!((settings.port(), settings.hz(), settings.timeout()), (1, 11, 9));
    let path = file(&directory, "b.conf", &format!("include {root}/*.inc\ninclude {root}/*.none\n"));
    assert_eq!(start(&[&path]).unwrap().settings.port(), 2);
    let path = file(&directory, "c.conf", &format!("include {root}/gone\n"));
    assert!(refusal(start(&[&path])).ends_with("No such file or directory"));
}

#[test]
fn an_error_in_an_included_file_names_that_file() {
    let directory = tempfile::tempdir().unwrap();
    let inner = file(&directory, "inner", "\nport x");
    let outer = file(&directory, "outer", &format!("include {inner}"));
    let error = start(&[&outer]).unwrap_err();
    assert_eq!((&error.problems[0].source, error.problems[0].line), (&Source::File(inner.into()), 2));
}

#[test]
fn cycles_and_deep_includes_end() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let path = file(&directory, "a", &format!("include {root}/b"));
    file(
        &directory,
        "b",
        &format!("include {root}/../{}/a", directory.path().file_name().unwrap().to_str().unwrap()),
    );
    assert!(refusal(start(&[&path])).ends_with("includes itself"));
    for depth in 0..40 {
        file(&directory, &format!("d{depth}"), &format!("include {root}/d{}", depth + 1));
    }
    assert!(refusal(start(&[&format!("{root}/d0")])).contains("deeper than"));
    // The same file twice, one after the other, is no cycle.
    file(&directory, "leaf", "port 7");
    let path = file(&directory, "twice", &format!("include {root}/leaf\ninclude {root}/leaf"));
    assert_eq!(start(&[&path]).unwrap().settings.port(), 7);
}

#[test]
fn missing_files_directories_and_huge_input_are_errors() {
    assert_eq!(
        refusal(start(&["/no/such/file"])),
        "can't open config file '/no/such/file': No such file or directory"
    );
    let directory = tempfile::tempdir().unwrap();
    assert!(refusal(start(&[directory.path().to_str().unwrap()])).ends_with("Is a directory"));
    assert_eq!(refusal(from_text(b"dir /no/such")), "No such file or directory");
    let long = [b"requirepass ".as_slice(), &vec![b'x'; LINE_BYTES_MAX]].concat();
    assert!(refusal(from_text(&long)).contains("longer than"));
    let path = directory.path().join("huge");
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
    assert!(refusal(start(&[path.to_str().unwrap()])).contains("larger than"));
}

#[test]
fn save_lines_and_output_limits_add_up() {
    let settings =
        from_text(b"client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit slave 4kb 5 6")
            .unwrap()
            .settings;
    let limits = settings.client_output_buffer_limit();
    assert_eq!(limits.of(crate::ClientClass::Normal).hard_bytes, 1);
    assert_eq!(limits.of(crate::ClientClass::Replica).hard_bytes, 4096);
    assert_eq!(limits.of(crate::ClientClass::PubSub).soft_seconds, 60);
    let rules = from_text(b"save 60 5\nsave 7 8 9 10").unwrap().settings.save().to_vec();
    let rules: Vec<_> = rules.iter().map(|rule| (rule.seconds, rule.changes)).collect();
    assert_eq!(rules, [(60, 5), (7, 8), (9, 10)]);
}

proptest::proptest! {
    #[test]
    fn any_text_ends_in_settings_or_errors(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = from_text(&text);
    }
}
