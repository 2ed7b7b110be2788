//! `twintier init`: a site of one's own to begin with, as files that explain themselves.
//!
//! The files are those of `profiles/starter`, which the tests serve: what is written is what works.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Every file of the starter site: its path below the new directory, and its text.
macro_rules! starter {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../profiles/starter/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = starter![
    "twintier.toml",
    "site.statements",
    "browse.toml",
    "notes/code/application.toml",
    "notes/code/authority.toml",
    "notes/code/documents/note.toml",
    "notes/code/views/start.toml",
    "notes/code/views/note.toml",
    "notes/code/forms/note.toml",
    "notes/code/forms/sign-in.toml",
    "notes/code/actions/note-write.toml",
    "notes/code/actions/sign-in.toml",
    "notes/code/actions/sign-out.toml",
    "notes/code/templates/layout.html",
    "notes/code/templates/start.html",
    "notes/code/templates/note.html",
    "notes/code/templates/note-form.html",
    "notes/code/templates/sign-in.html",
    "notes/code/templates/error.html",
    "static/style.css",
];

/// Writes the starter site into `directory`, which is made if it is missing, and returns what to do next.
///
/// # Errors
/// There is a file already where one is to be written (nothing is written then), or the directory cannot be written.
pub fn write(directory: &Path) -> io::Result<String> {
    let named = |path: &Path, error: &io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Some(taken) = FILES.iter().map(|(path, _)| directory.join(path)).find(|path| path.exists()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "{} is there already, and nothing was written; name a directory that is new or empty",
                taken.display()
            ),
        ));
    }
    for (path, text) in FILES {
        let path = directory.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
        }
        // Never over a file that has appeared since.
        let mut file = fs::File::create_new(&path).map_err(|error| named(&path, &error))?;
        file.write_all(text.as_bytes()).map_err(|error| named(&path, &error))?;
    }
    Ok(next_steps(directory))
}

fn next_steps(directory: &Path) -> String {
    let mut text = format!("{} files in {}. Now:\n\n", FILES.len(), directory.display());
    for (command, what) in [
        (format!("cd {}", directory.display()), ""),
        ("twintier check --profile twintier.toml".into(), "what is made of the files, and what it costs"),
        ("twintier serve --profile twintier.toml".into(), "then http://127.0.0.1:8080/; Ctrl-C ends it"),
        (
            "loadgen browse browse.toml http://127.0.0.1:8080 --users 10 --duration 10".into(),
            "in another terminal: how fast it is",
        ),
        (
            "twintier deploy --admin 127.0.0.1:8081 notes/code".into(),
            "publishes what you changed in the code tables, while it runs",
        ),
    ] {
        if !what.is_empty() {
            let _ = writeln!(text, "  # {what}");
        }
        let _ = writeln!(text, "  {command}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::FILES;

    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }

    #[test]
    fn no_file_of_the_starter_is_forgotten() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/starter");
        let mut found = Vec::new();
        walk(&root, &mut found);
        let on_disk: BTreeSet<String> =
            found.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
        let written: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(written, on_disk);
    }
}
