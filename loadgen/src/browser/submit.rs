//! Sending a form of the current page.

use super::html::{Encoding, Field, get_path};
use super::url::{encode_form, with_crlf};
use super::{Browser, Effect, Fetch, Purpose, Role, State, World};
use crate::scenario::FormStep;

const URL_TYPE: &str = "application/x-www-form-urlencoded";
/// What parts a multipart body; the same in all of them, so that sessions depend on nothing but their number.
const BOUNDARY: &str = "----loadgen-form-9c1f0b7e5d3a4826";
const MULTIPART_TYPE: &str = "multipart/form-data; boundary=----loadgen-form-9c1f0b7e5d3a4826";

impl Browser {
    /// Fills and sends a form of the current page.
    ///
    /// # Errors
    /// Why that is impossible.
    pub(super) fn submit(
        &mut self,
        world: &World<'_>,
        step: usize,
        form: &FormStep,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let wanted = self.fill(world, &form.action, true);
        let values: Vec<(&str, String)> =
            form.fields.iter().map(|(name, text)| (name.as_str(), self.fill(world, text, false))).collect();
        let fits = |action: &Option<String>| match action {
            Some(action) => action.contains(&wanted),
            // Which other host does not matter, unless the scenario asks for one.
            None => wanted.is_empty(),
        };
        let Some(found) = self.page.forms.iter().find(|form| fits(&form.action)) else {
            let what = if wanted.is_empty() { String::new() } else { format!(" whose action contains `{wanted}`") };
            return Err(format!("no form{what} on the page"));
        };
        let Some(action) = &found.action else { return Err("the form leads to another host".to_owned()) };
        let fields = found.filled(&values);
        let (path, post) = match (found.post, found.encoding) {
            (false, _) => (get_path(action, &fields), None),
            (true, Encoding::Url) => (action.clone(), Some((URL_TYPE, encode_form(&fields)))),
            (true, Encoding::Multipart) => (action.clone(), Some((MULTIPART_TYPE, multipart(&fields)))),
            (true, Encoding::Plain) => {
                return Err("the form is sent as text/plain, which is not spoken here".to_owned());
            }
        };
        self.page_started_ns = now_ns;
        self.state = State::Document(Purpose::FormAnswer);
        let (role, checks) = (Role::Document, form.checks);
        out.push(Effect::Fetch(Fetch { step, role, path, post, condition: None, redirects: 0, checks }));
        Ok(())
    }
}

/// Fields as `multipart/form-data` (RFC 7578, with names escaped as browsers do). A file is one that nobody chose.
fn multipart(fields: &[Field]) -> String {
    let mut out = String::new();
    for field in fields {
        let name = with_crlf(&field.name).replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22");
        let rest = if field.file {
            "; filename=\"\"\r\nContent-Type: application/octet-stream\r\n\r\n".to_owned()
        } else {
            format!("\r\n\r\n{}", with_crlf(&field.value))
        };
        out.push_str(&format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{rest}\r\n"));
    }
    out.push_str(&format!("--{BOUNDARY}--\r\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::{BOUNDARY, MULTIPART_TYPE, multipart};
    use crate::browser::html::Field;

    #[test]
    fn multipart_bodies_have_a_part_a_field() {
        let field =
            |name: &str, value: &str, file| Field { name: name.into(), value: value.into(), file, button: false };
        let expected = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"a%22b\"\r\n\r\nx\r\ny\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"f\"; filename=\"\"\r\nContent-Type: application/octet-stream\r\n\r\n\r\n\
             --{BOUNDARY}--\r\n"
        );
        assert_eq!(multipart(&[field("a\"b", "x\ny", false), field("f", "", true)]), expected);
        assert!(MULTIPART_TYPE.ends_with(BOUNDARY));
    }
}
