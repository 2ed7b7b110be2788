//! What is said again and again is said a few times, and then how often.

use std::collections::HashMap;

use super::line::{Field, Line};

/// Lines of the same place and message in one window; more are counted.
const LINES_MAX: u64 = 10;
/// How long a window lasts.
const WINDOW_NS: u64 = 10_000_000_000;
/// Messages that are remembered; a message beyond them is written each time.
const MESSAGES_MAX: usize = 512;

#[derive(Debug)]
struct Window {
    until_ns: u64,
    written: u64,
    /// The latest line that was left out, and how many were.
    left_out: Option<(Line, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Repeats {
    windows: HashMap<(String, String), Window>,
}

impl Repeats {
    /// The line, if it is to be written; one that is left out is remembered.
    pub fn admit(&mut self, line: Line, now_ns: u64) -> Option<Line> {
        // Whoever asks for these wants all of them.
        if line.level >= log::Level::Debug {
            return Some(line);
        }
        let key = (line.place.clone(), line.message.clone());
        if self.windows.len() >= MESSAGES_MAX && !self.windows.contains_key(&key) {
            return Some(line);
        }
        let window = self.windows.entry(key).or_insert(Window {
            until_ns: now_ns.saturating_add(WINDOW_NS),
            written: 0,
            left_out: None,
        });
        if window.written < LINES_MAX {
            window.written += 1;
            return Some(line);
        }
        let count = window.left_out.as_ref().map_or(0, |(_, count)| *count) + 1;
        window.left_out = Some((line, count));
        None
    }

    /// Ends the windows that are over: the last line that each left out, with `repeated`, and how many they are in all.
    pub fn end(&mut self, now_ns: u64) -> (Vec<Line>, u64) {
        let (mut lines, mut all) = (Vec::new(), 0);
        self.windows.retain(|_, window| {
            if window.until_ns > now_ns {
                return true;
            }
            if let Some((mut line, count)) = window.left_out.take() {
                line.fields.push(("repeated".into(), Field::Count(count)));
                lines.push(line);
                all += count;
            }
            false
        });
        lines.sort_by_key(|line| line.unix_ms);
        (lines, all)
    }

    /// When the next window ends.
    pub fn next_ns(&self) -> Option<u64> {
        self.windows.values().map(|window| window.until_ns).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, LINES_MAX, Line, MESSAGES_MAX, Repeats, WINDOW_NS};
    use log::Level;

    fn line(message: &str, unix_ms: u64) -> Line {
        let (thread, place) = ("worker-0".into(), "front".into());
        Line { level: Level::Warn, unix_ms, thread, place, message: message.into(), fields: Vec::new() }
    }

    #[test]
    fn what_repeats_is_counted_and_told_once() {
        let mut repeats = Repeats::default();
        let admitted = (0..LINES_MAX + 5).filter(|at| repeats.admit(line("again", *at), 100).is_some()).count();
        assert_eq!(admitted as u64, LINES_MAX);
        assert!(repeats.admit(line("another", 0), 100).is_some(), "each message counts for itself");
        assert_eq!(repeats.next_ns(), Some(100 + WINDOW_NS));
        assert_eq!(repeats.end(99 + WINDOW_NS), (Vec::new(), 0));
        let (told, all) = repeats.end(100 + WINDOW_NS);
        assert_eq!((told.len(), all, told[0].unix_ms), (1, 5, LINES_MAX + 4));
        assert_eq!(told[0].fields, [("repeated".to_owned(), Field::Count(5))]);
        assert!(repeats.admit(line("again", 0), 101 + WINDOW_NS).is_some(), "a new window");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..MESSAGES_MAX * 2 {
            assert!(repeats.admit(line(&number.to_string(), 0), 0).is_some());
        }
        assert_eq!(repeats.windows.len(), MESSAGES_MAX);
    }
}
