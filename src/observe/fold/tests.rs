//! What a folded log keeps, whatever its length.

use super::*;

fn folded(log: &str) -> Vec<(String, u32)> {
    let lines = fold(log, &Redactor::default()).into_lines();
    lines.into_iter().map(|line| (line.text.as_str().to_owned(), line.count)).collect()
}

/// A word without digits, a different one for each number.
fn word(number: usize) -> String {
    number.to_string().bytes().map(|digit| char::from(digit + 49)).collect()
}

#[test]
fn lines_that_differ_in_numbers_and_ids_are_one_and_status_codes_are_not() {
    let log = "2026-03-24T16:20:00.01Z GET /items/17 200 14ms id=3f9a8c71\n\
               2026-03-24T16:21:00.02Z GET /items/18 200 9ms id=aa01b2c3\n\
               2026-03-24T16:22:00.03Z GET /items/18 503 9ms id=aa01b2c4\n\
               2026-03-24T16:23:00.04Z dial tcp 10.0.0.7:80: connect: connection refused\n\
               2026-03-24T16:24:00.05Z dial tcp 10.0.0.9:80: connect: connection refused\n";
    assert_eq!(
        folded(log),
        [
            ("GET /items/17 200 14ms id=3f9a8c71".to_owned(), 2),
            ("GET /items/18 503 9ms id=aa01b2c4".to_owned(), 1),
            ("dial tcp 10.0.0.7:80: connect: connection refused".to_owned(), 2),
        ]
    );
    let folded = fold(log, &Redactor::default());
    assert_eq!(folded.groups[0].last_at.unwrap().to_string(), "2026-03-24T16:21:00.02Z");
    assert!(folded.joined().as_str().contains("10.0.0.9"), "the last of a trouble that varies can be quoted too");
}

#[test]
fn the_last_lines_are_kept_and_long_ones_cut_verbatim() {
    let log: Vec<String> = (0..200).map(|n| format!("step {} {}", word(n), "y ".repeat(2_000))).collect();
    let lines = folded(&log.join("\n"));
    assert_eq!(lines.len(), CHARS_MAX / (LINE_MAX_CHARS + 1));
    assert!(lines.last().unwrap().0.starts_with(&format!("step {}", word(199))));
    assert!(lines.iter().all(|(line, _)| line.chars().count() == LINE_MAX_CHARS));
    let short: Vec<String> = (0..200).map(|n| format!("step {}", word(n))).collect();
    assert_eq!(folded(&short.join("\n")).len(), LINES_MAX);
}

#[test]
fn one_line_of_trouble_survives_any_amount_of_noise() {
    let redactor = Redactor::default();
    let mut fold = Fold::new(&redactor);
    for n in 0..60_000 {
        if n == 20_000 {
            fold.push("2026-03-24T16:20:00Z could not open /etc/app/rates.yaml: permission denied");
        }
        // Half of it never repeats.
        fold.push(&if n % 2 == 0 { format!("request {n} took {n} ms") } else { format!("visit of {} ends", word(n)) });
        assert!(fold.held.len() <= HELD_MAX);
    }
    let folded = fold.finish();
    let signal = folded.groups.iter().find(|g| g.lines[0].as_str().contains("rates.yaml")).expect("it is kept");
    assert_eq!(signal.level, Level::Error);
    assert_eq!(folded.groups.iter().map(|group| group.count).max(), Some(30_000));
    assert!(folded.left_out > 29_000, "{}", folded.left_out);
    assert_eq!(folded.lines, 60_001);
}

#[test]
fn among_endless_trouble_the_first_the_last_and_the_worst_are_kept() {
    let redactor = Redactor::default();
    let mut fold = Fold::new(&redactor);
    for n in 0..20_000 {
        if n == 9_999 {
            fold.push("FATAL disk quota exceeded");
        }
        fold.push(&format!("ERROR cannot reach {}", word(n)));
    }
    let text = fold.finish().joined();
    for kept in [format!("reach {}\n", word(0)), "FATAL disk quota exceeded".into(), format!("reach {}", word(19_999))]
    {
        assert!(text.as_str().contains(&kept), "{kept} in {text}");
    }
}

#[test]
fn stack_traces_are_kept_whole_and_counted_as_one() {
    let java = "ERROR cart failed\njava.lang.IllegalStateException: no stock 17\n\tat shop.Cart.add(Cart.java:41)\n\tat shop.Main.main(Main.java:9)\n\
                Caused by: java.io.IOException: broken pipe\n\tat shop.Net.send(Net.java:7)\n\t... 12 more\n";
    let python = "Traceback (most recent call last):\n  File \"/app/main.py\", line 9, in <module>\n    run()\nKeyError: 'REGION'\n";
    let chained = format!("{python}During handling of the above exception, another exception occurred:\n{python}");
    assert_eq!(fold(&chained, &Redactor::default()).groups[0].lines.len(), 9);
    let go = "panic: runtime error: index out of range [3]\ngoroutine 1 [running]:\nmain.serve(0xc000010000)\n\t/app/main.go:17 +0x1d\n";
    let log = format!("{java}{python}{go}ready\n{java}{python}{go}ready\n");
    let folded = fold(&log, &Redactor::default());
    let shown: Vec<(usize, u32)> = folded.groups.iter().map(|group| (group.lines.len(), group.count)).collect();
    assert_eq!(shown, [(1, 2), (6, 2), (4, 2), (4, 2), (1, 2)]);
    assert_eq!(folded.groups[2].lines[3].as_str(), "KeyError: 'REGION'");
    let deep: String = (0..400).map(|n| format!("\tat shop.Deep.{}(Deep.java:{n})\n", word(n))).collect();
    let folded = fold(&format!("java.lang.StackOverflowError\n{deep}"), &Redactor::default());
    let group = &folded.groups[0];
    assert_eq!((group.lines.len(), group.left_out), (HEAD_MAX + TAIL_MAX, 401 - HEAD_MAX - TAIL_MAX));
    assert!(group.lines[0].as_str().ends_with("StackOverflowError") && group.lines[27].as_str().contains(&word(399)));
}

#[test]
fn a_private_key_over_several_lines_is_gone() {
    let log =
        "loading\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\ndone";
    let text: Vec<String> = folded(log).into_iter().map(|(line, _)| line).collect();
    assert!(!text.iter().any(|line| line.contains("MIIE") || line.contains("kiG9")), "{text:?}");
    assert_eq!(text.last().unwrap(), "done");
    let endless = format!("-----BEGIN PRIVATE KEY-----\n{}", "line\n".repeat(KEY_LINES_MAX + 1));
    assert_eq!(folded(&endless).last().unwrap().0, "line", "what never ends hides no more than a key is long");
}
