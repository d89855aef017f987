//! How the binary ends: 0 done, 1 failed, 2 wrong usage; and nothing but results on stdout.

use std::process::Command;

#[test]
fn each_command_line_ends_as_the_help_says() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/scenarios/oom-loop");
    let nowhere = ["--config", "/no/such/firstlook.yaml"];
    let table: &[(i32, &[&str])] = &[
        (0, &["--help"]),
        (0, &["--version"]),
        (0, &["eval", "--help"]),
        (0, &["policy", "schema"]),
        (0, &["rbac"]),
        (0, &["eval", "--json", scenario]),
        (0, &["prompt", "--scenario", scenario]),
        (0, &["prompt", "--scenario", scenario, "--json"]),
        (1, &["prompt", "--incident", "i4f9a01c2d7e8", nowhere[0], nowhere[1]]),
        (3, &["look", "--scenario", "oom-loop"]),
        (1, &["run", nowhere[0], nowhere[1]]),
        (1, &["check", nowhere[0], nowhere[1]]),
        (1, &["report", nowhere[0], nowhere[1]]),
        (1, &["audit", "verify", nowhere[0], nowhere[1]]),
        (1, &["eval", "/no/such/folder"]),
        (1, &["demo", "--once", "--scenario", "no-such-scenario"]),
        (2, &[]),
        (2, &["nonsense"]),
        (2, &["run", "--nonsense"]),
        (2, &["eval"]),
        (2, &["eval", "--model", "scriptd", scenario]),
        (2, &["eval", "--turn-timeout", "soon", scenario]),
        (2, &["eval", "--turn-timeout", "9999999999999999999m", scenario]),
        (2, &["demo", "--listen", "nowhere"]),
        (2, &["audit"]),
    ];
    for (code, arguments) in table {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstlook"));
        let done = command.args(*arguments).env_remove("FIRSTLOOK_CONFIG").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status.code(), Some(*code), "{arguments:?}\n{out}\n{err}");
        match code {
            0 | 3 => assert!(!out.trim().is_empty(), "{arguments:?} prints no result"),
            // `check` prints its findings as results.
            1 if arguments[0] == "check" => assert!(out.contains("FAIL"), "{out}"),
            _ => assert!(out.is_empty() && !err.trim().is_empty(), "{arguments:?}\n{out}\n{err}"),
        }
    }
}
