//! The report: made from the files of run directories and from nothing else, so that the same files give the same
//! bytes. Each run gets a page of its own, `report.html` in its directory, and a section of RESULTS.md with pictures
//! beside it.
//!
//! [`run`] and [`material`] read, [`comparison`] and [`generator`] say what it comes to in chapters of [`document`],
//! from [`tables`], [`pictures`], [`courses`] and [`costs`].

pub mod capacity;
pub mod comparison;
pub mod costs;
pub mod courses;
pub mod document;
#[cfg(test)]
pub mod fixture;
pub mod generator;
pub mod histograms;
pub mod intervals;
pub mod material;
pub mod page;
pub mod pictures;
pub mod run;
mod sections;
pub mod tables;
pub mod tiers;

use std::fs;
use std::path::{Path, PathBuf};

use crate::evaluate::Comparison;
use crate::failure::Failure;

use document::Picture;
use run::Run;
use sections::Sections;

pub use tables::terminal;

/// Name of a run's page in its directory.
pub const PAGE: &str = "report.html";

/// What is written, and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// RESULTS.md.
    pub out: PathBuf,
    /// Sections of other runs that `out` has already stay as they are: each says when, on what and from which commit it
    /// was measured.
    pub keep: bool,
    /// The page goes here instead of into the run directory.
    pub html: Option<PathBuf>,
    /// Folder of the pictures that `out` refers to, relative to its own.
    pub plots: String,
}

/// Writes the pages and the report of some run directories. The directory of a load generator's run has a page alone.
///
/// # Errors
/// A run was cut short before its first trial, or a file cannot be read or written.
pub fn write(folders: &[PathBuf], options: &Options) -> Result<(), Failure> {
    if let (Some(html), true) = (&options.html, folders.len() > 1) {
        return Err(Failure::Usage(format!(
            "--html {} is one page of one run, and {} directories were given",
            html.display(),
            folders.len()
        )));
    }
    let mut sections = Sections::default();
    if options.keep && options.out.is_file() {
        let text = fs::read_to_string(&options.out).map_err(|error| Failure::file(&options.out, &error))?;
        sections = Sections::parse(&text);
    }
    let mut any = false;
    for folder in folders {
        let to = options.html.clone().unwrap_or_else(|| folder.join(PAGE));
        if generator::is_run(folder) {
            write_file(&to, &generator::page(folder)?.html())?;
            continue;
        }
        let run = Run::read(folder)?;
        write_file(&to, &page::page(&run)?.html())?;
        let place = format!("{}/{}", options.plots, pictures::key(&[&run.name]));
        let (section, pictures) = page::section(&run, &place)?;
        sections.put(&run.name, section);
        let root = options.out.parent().unwrap_or(Path::new(""));
        write_pictures(&root.join(place), &pictures)?;
        any = true;
    }
    if any {
        fs::write(&options.out, sections.markdown()).map_err(|error| Failure::file(&options.out, &error))?;
        println!("{}", options.out.display());
    }
    Ok(())
}

/// Writes the page of a run that has just ended into its directory; its path.
///
/// # Errors
/// A file cannot be read or written.
pub fn write_page(folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join(PAGE);
    let html = page::page(&Run::read(folder)?)?.html();
    fs::write(&path, html).map_err(|error| Failure::file(&path, &error))?;
    Ok(path)
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::file(path, &error))?;
    println!("{}", path.display());
    Ok(())
}

/// Writes the pictures of a run into its folder and removes those of an earlier report that are no longer there.
fn write_pictures(folder: &Path, pictures: &[Picture]) -> Result<(), Failure> {
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten() {
            let name = entry.file_name();
            let kept = pictures.iter().any(|picture| *picture.name == *name);
            if !kept && Path::new(&name).extension().is_some_and(|end| end == "svg") {
                fs::remove_file(entry.path()).map_err(|error| Failure::file(&entry.path(), &error))?;
            }
        }
    }
    if !pictures.is_empty() {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    }
    for picture in pictures {
        let path = folder.join(&picture.name);
        fs::write(&path, &picture.text).map_err(|error| Failure::file(&path, &error))?;
    }
    Ok(())
}

/// An invalid run has no headline, and the command that made it does not end well.
///
/// # Errors
/// [`Failure::Invalid`], naming the systems.
pub fn refuse_invalid(comparison: &Comparison) -> Result<(), Failure> {
    let invalid: Vec<String> = comparison
        .systems
        .iter()
        .filter(|system| system.verdict == "invalid")
        .map(|system| {
            let first = system.reasons.first().map_or("no reason given", String::as_str);
            let more = match system.reasons.len() {
                0 | 1 => String::new(),
                count => format!("; {} more in compare.json", count - 1),
            };
            format!("\n  {} at {}: {first}{more}", system.name, system.case.label())
        })
        .collect();
    if invalid.is_empty() {
        Ok(())
    } else {
        Err(Failure::Invalid(format!("no figures may be quoted of{}", invalid.concat())))
    }
}

#[cfg(test)]
mod accessible_tests;
#[cfg(test)]
mod browser_tests;
#[cfg(test)]
mod tests;
