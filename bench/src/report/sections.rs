//! The sections of a report, one a run, so that runs of several days can stand in one file.

/// Before the sections.
const PREFACE: &str = "How it is measured: [bench/README.md](bench/README.md).\n";
/// Begins a section; its name and a back quote follow.
const BEGIN: &str = "\n## `";

/// Sections by name, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sections(Vec<(String, String)>);

impl Sections {
    /// Reads what [`Self::markdown`] wrote.
    pub fn parse(text: &str) -> Self {
        let mut sections = Vec::new();
        for section in text.split(BEGIN).skip(1) {
            if let Some((name, _)) = section.split_once('`') {
                sections.push((name.to_owned(), format!("{BEGIN}{section}")));
            }
        }
        Self(sections)
    }

    /// Sets a run's section; one that was there keeps its place.
    pub fn put(&mut self, name: &str, text: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = text,
            None => self.0.push((name.to_owned(), text)),
        }
    }

    pub fn markdown(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|(name, _)| format!("`{name}`")).collect();
        let mut out = format!(
            "# Results\n\nWritten by `bench report` from the run directories {}; made again from the same files it is the same byte for byte.\n{PREFACE}",
            names.join(", ")
        );
        for (_, text) in &self.0 {
            out.push_str(text);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Sections;

    #[test]
    fn what_is_kept_stays_as_it_was() {
        let mut sections = Sections::default();
        sections.put("one", "\n## `one`\n\n### Part\n\n1\n".into());
        sections.put("two", "\n## `two`\n\n2\n".into());
        let text = sections.markdown();
        assert!(text.contains("directories `one`, `two`;"));
        let mut again = Sections::parse(&text);
        assert_eq!((&again, again.markdown()), (&sections, text));
        again.put("one", "\n## `one`\n\nnewer\n".into());
        let text = again.markdown();
        assert!(text.contains("\n## `one`\n\nnewer\n\n## `two`\n\n2\n") && !text.contains("### Part"), "{text}");
    }
}
