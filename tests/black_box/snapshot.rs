//! Texts that people read, compared with the ones in `expected/`.

use std::path::PathBuf;

use crate::support::program::Ended;

/// Compares what a program said with `expected/NAME.txt`; `UPDATE_SNAPSHOTS=1` writes that file instead.
#[track_caller]
pub fn assert_text(name: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/black_box/expected").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        expected == text,
        "{name} says something else than expected. If it should, run this test again with UPDATE_SNAPSHOTS=1 and look at \
         the difference in version control.\n--- expected\n{expected}--- said\n{text}"
    );
}

/// A program that ended, as text.
pub fn ended(ended: &Ended) -> String {
    let code = ended.code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
    let stdout = if ended.stdout.is_empty() { String::new() } else { format!("stdout:\n{}", ended.stdout) };
    let stderr: String = ended.stderr.lines().filter_map(sentence).map(|line| line + "\n").collect();
    format!("exit {code}\n{stdout}stderr:\n{stderr}")
}

/// A line of standard error; of a line of the log what its error says, if it is one.
fn sentence(line: &str) -> Option<String> {
    if !line.starts_with("time=") {
        return Some(line.to_owned());
    }
    let (_, error) = line.split_once(" level=error ").and_then(|(_, rest)| rest.split_once(" error=\""))?;
    Some(error.strip_suffix('"').unwrap_or(error).replace("\\\"", "\""))
}
