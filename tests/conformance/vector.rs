//! A vector: a transcript, and what the server behind the proxy must have received.

use std::path::Path;

use super::notation;

/// One vector.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Where it is written, for messages: `file:line`.
    pub place: String,
    pub name: String,
    /// What the client does, in order.
    pub steps: Vec<Step>,
    pub fate: Fate,
    /// What the server receives, in order.
    pub upstream: Vec<Upstream>,
    /// A request may arrive in part; it never becomes whole.
    pub partial: bool,
    /// The upstream connection must (or must not) serve the next request.
    pub upstream_kept: Option<bool>,
    /// What the server answers to its first request, its second one and so on; the last one holds for all that follow.
    pub scripts: Vec<Vec<Act>>,
}

/// What the client does.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Ends its half of the connection.
    HalfClose,
    Answer(Answer),
    /// After a 101: exactly these bytes.
    Raw(Vec<u8>),
}

/// What the client must get.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// One of these: more than one where the RFC leaves the choice.
    pub statuses: Vec<u16>,
    /// The answer must be seen to break off.
    pub cut: bool,
    pub body: Option<Vec<u8>>,
    pub fields: Vec<Field>,
}

/// What must hold of one field of a message or its trailers.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub rule: Rule,
}

#[derive(Clone, Debug)]
pub enum Rule {
    Absent,
    Present,
    /// Once, with this value.
    Value(String),
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It serves another request.
    Kept,
    /// It ends without another byte.
    Closed,
}

/// A request that the server must have received.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub method: String,
    pub target: String,
    /// `None`: any one.
    pub host: Option<String>,
    pub framing: String,
    pub body: Vec<u8>,
    pub fields: Vec<Field>,
}

/// What the server does when a request has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Send(Vec<u8>),
    /// Answers once the head is there, without waiting for the body. Comes first.
    Early,
    /// For a moment nothing more may arrive.
    Quiet,
    /// From here on sends back what it gets.
    Echo,
    Close,
    /// What it answers when no script says otherwise: 200 with the body `ok`.
    Usual,
}

impl Vector {
    /// All that the client sends.
    pub fn sent(&self) -> usize {
        let sends = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.len()),
            Step::HalfClose | Step::Answer(_) | Step::Raw(_) => None,
        });
        sends.sum()
    }
}

/// All vectors, in the order of their files' names.
///
/// # Panics
/// With every mistake in the files, each with its place.
pub fn all() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/vectors");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    paths.sort();
    let (mut vectors, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        notation::read(&name, &std::fs::read_to_string(&path).unwrap(), &mut vectors, &mut faults);
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    vectors
}
