//! Tables and numbers for people, on a terminal and in Markdown.

/// A table whose first column is text and whose other columns are figures, but for those that are said to be words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    words: Vec<usize>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new(), words: vec![0] }
    }

    /// Columns that hold words and stand to the left.
    pub fn with_words(mut self, columns: &[usize]) -> Self {
        self.words.extend_from_slice(columns);
        self
    }

    pub fn header(&self) -> &[String] {
        &self.header
    }

    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Whether a column holds words.
    pub fn is_text(&self, column: usize) -> bool {
        self.words.contains(&column)
    }

    /// Adds a row; one that is too short leaves its last cells empty.
    pub fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All cells below the header.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().flatten().map(String::as_str)
    }

    /// Shortens cells that are longer than `columns` characters.
    pub fn clip(&mut self, columns: usize) {
        for cell in self.rows.iter_mut().flatten().filter(|cell| cell.chars().count() > columns) {
            *cell = cell.chars().take(columns.saturating_sub(1)).chain(['…']).collect();
        }
    }

    /// Columns padded to their widest cell, words to the left, figures to the right, under a rule.
    pub fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| self.lines().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for (number, row) in self.lines().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| pad(cell, width, !self.is_text(column)))
                .collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
            if number == 0 {
                out.push_str(&"─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
                out.push('\n');
            }
        }
        out
    }

    /// The same as a Markdown table.
    pub fn markdown(&self) -> String {
        let line = |row: &Vec<String>| {
            format!("| {} |\n", row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rule = (0..self.header.len())
            .map(|column| if self.is_text(column) { "---" } else { "---:" })
            .collect::<Vec<_>>()
            .join("|");
        let rows: String = self.rows.iter().map(line).collect();
        format!("{}|{rule}|\n{rows}", line(&self.header))
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.header).chain(&self.rows)
    }
}

fn pad(cell: &str, width: usize, right: bool) -> String {
    let space = " ".repeat(width.saturating_sub(cell.chars().count()));
    if right { space + cell } else { cell.to_owned() + &space }
}

/// A whole number in groups of three digits: `98,120`.
pub fn count_text(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rate, rounded to whole numbers.
pub fn rate_text(per_s: f64) -> String {
    // Rates of requests are far below 2^53, and a saturating conversion is right for anything else.
    count_text(per_s.round() as u64)
}

/// A duration with three digits and its unit.
pub fn duration_text(ns: u64) -> String {
    let value = ns as f64;
    let (scaled, unit) = match ns {
        0..1_000 => (value, "ns"),
        1_000..1_000_000 => (value / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        1_000_000_000.. => (value / 1e9, "s"),
    };
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$} {unit}")
}

/// A duration, or `n/a` where the samples do not support it.
pub fn quantile_text(ns: Option<u64>) -> String {
    ns.map_or_else(|| "n/a".to_owned(), duration_text)
}

#[cfg(test)]
mod tests {
    use super::{Table, count_text, duration_text, quantile_text, rate_text};

    fn table() -> Table {
        let mut table = Table::new(&["system", "requests/s", "p99"]);
        table.push(vec!["nginx".into(), "71,204".into(), "1.23 ms".into()]);
        table.push(vec!["haproxy".into(), "absent".into()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        let expected = "\
system   requests/s      p99
────────────────────────────
nginx        71,204  1.23 ms
haproxy      absent
";
        assert_eq!(table().text(), expected);
    }

    #[test]
    fn long_cells_are_clipped() {
        let mut table = table();
        table.clip(5);
        assert!(table.text().contains("hapr…") && table.text().contains("nginx "), "{}", table.text());
    }

    #[test]
    fn letters_beyond_ascii_take_one_column() {
        let mut table = Table::new(&["a", "b"]);
        table.push(vec!["µµ".into(), "1".into()]);
        assert_eq!(table.text(), "a   b\n─────\nµµ  1\n");
    }

    #[test]
    fn markdown_has_figures_to_the_right() {
        let expected =
            "| system | requests/s | p99 |\n|---|---:|---:|\n| nginx | 71,204 | 1.23 ms |\n| haproxy | absent |  |\n";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count_text), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(rate_text(70_123.6), "70,124");
        assert_eq!(duration_text(612_345), "612 µs");
        assert_eq!(quantile_text(None), "n/a");
    }
}
