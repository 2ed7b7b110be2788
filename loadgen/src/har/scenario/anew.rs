//! Addresses that a session makes anew, such as that of an order: where a form's redirect ends is extracted there, and the
//! later steps use what they find.

/// What was found so far.
#[derive(Default)]
pub struct Anew {
    made: Vec<Made>,
}

/// A segment of a path that the recorded session was given.
struct Made {
    /// The path up to the segment, with its slash.
    prefix: String,
    segment: String,
    name: String,
}

impl Anew {
    /// The page at `path` is what a form led to. If its last segment was in no address `before` and leads on in one `after`,
    /// it has a name from now on; the `extract` for it.
    pub fn found<'p>(
        &mut self,
        path: &str,
        mut before: impl Iterator<Item = &'p str>,
        mut after: impl Iterator<Item = &'p str>,
    ) -> Option<String> {
        let bare = path.split('?').next().unwrap_or(path);
        let (folder, segment) = bare.rsplit_once('/')?;
        let prefix = format!("{folder}/");
        let made = Made { prefix, segment: segment.to_owned(), name: format!("made_{}", self.made.len() + 1) };
        let here = |other: &str| made.rest(other).is_some();
        // What is the same page again leads nowhere.
        if segment.is_empty() || before.any(here) || !after.any(|other| here(other) && other != path) {
            return None;
        }
        let prefix = super::quoted(&self.used_in(&made.prefix, super::braced));
        let extract = format!("extract = [{{ name = \"{}\", from = \"address\", prefix = {prefix} }}]", made.name);
        self.made.push(made);
        Some(extract)
    }

    /// A path as a template; `literal` writes what stands in it as it is.
    pub fn used_in(&self, path: &str, literal: impl Fn(&str) -> String) -> String {
        let fits = self.made.iter().rev().find_map(|made| Some((made, made.rest(path)?)));
        match fits {
            Some((made, rest)) => {
                format!(
                    "{}{{{}}}{}",
                    self.used_in(&made.prefix, &literal as &dyn Fn(&str) -> String),
                    made.name,
                    literal(rest)
                )
            }
            None => literal(path),
        }
    }

    /// The template for a field that holds just such a segment.
    pub fn value(&self, value: &str) -> Option<String> {
        self.made.iter().find(|made| made.segment == value).map(|made| format!("{{{}}}", made.name))
    }
}

impl Made {
    /// What follows the segment in a path that has it.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.prefix.as_str())?.strip_prefix(self.segment.as_str())?;
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::Anew;

    #[test]
    fn a_segment_that_is_new_and_leads_on_gets_a_name() {
        let mut anew = Anew::default();
        let mut found = |path, before: &[&'static str], after: &[&'static str]| {
            anew.found(path, before.iter().copied(), after.iter().copied())
        };
        assert_eq!(found("/orders/7", &["/orders/7?x"], &["/orders/7/pay"]), None);
        assert_eq!(found("/orders/7", &["/orders/70"], &["/orders/7", "/orders/71"]), None);
        assert_eq!(found("/orders/", &[], &["/orders/7"]), None);
        let extract = found("/orders/7?new", &["/orders/70", "/orders"], &["/orders/7/pay"]).unwrap();
        assert_eq!(extract, "extract = [{ name = \"made_1\", from = \"address\", prefix = \"/orders/\" }]");
        let extract = found("/orders/7/parts/9", &[], &["/orders/7/parts/9?x"]).unwrap();
        assert!(extract.contains("\"made_2\"") && extract.contains("\"/orders/{made_1}/parts/\""), "{extract}");
        let template = |path: &str| anew.used_in(path, str::to_owned);
        assert_eq!(template("/orders/7/pay?a"), "/orders/{made_1}/pay?a");
        assert_eq!(template("/orders/7/parts/9"), "/orders/{made_1}/parts/{made_2}");
        assert_eq!(template("/orders/70"), "/orders/70");
        assert_eq!((anew.value("7").unwrap().as_str(), anew.value("70")), ("{made_1}", None));
    }
}
