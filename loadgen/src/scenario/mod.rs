//! Scenario files: who the users are and what a session does, compiled to a flat program.
//!
//! ```text
//!   [[steps]] kind = "get" | "form" | "poll" | "think"      a step of its own
//!             kind = "repeat"  times = [2, 5]  steps = […]   its steps, 2 to 5 times
//!             kind = "choice"  options = [{ weight = 3, steps = […] }, …]   one of them
//! ```
//! Texts may hold `{user}`, `{password}`, `{role}`, `{word:LIST}`, `{number:1-9}` and the names of values that an
//! earlier step extracted.

mod compile;
mod raw;

use serde::Deserialize;

use crate::check::Checks;
use crate::page_slo::PageSlo;

/// A compiled scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub users: Vec<User>,
    /// Word lists by index.
    pub words: Vec<Vec<String>>,
    /// Whether pages load their style sheets, scripts and images.
    pub assets: bool,
    /// Whether a user slot keeps its cache from one session to the next: returning visitors.
    pub returning: bool,
    pub page_slo: Option<PageSlo>,
    pub operations: Vec<Operation>,
    /// Names of the steps that make requests, by index.
    pub steps: Vec<String>,
    /// Names of the values that steps extract, by index.
    pub variables: Vec<String>,
    /// How many loops the program needs.
    pub loop_count: usize,
    /// What the pages of steps must have, by index.
    pub checks: Vec<Checks>,
}

/// Someone who signs in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    #[serde(default)]
    pub password: String,
    #[serde(default)]
    pub role: String,
}

/// One instruction. Targets are indexes of operations; the end of the list ends the session.
#[derive(Clone, Debug)]
pub enum Operation {
    Get {
        step: usize,
        path: Template,
        expect: Vec<u16>,
        /// Index of the checks of the page that it ends on.
        checks: Option<usize>,
        extract: Vec<Extract>,
    },
    Form {
        step: usize,
        form: FormStep,
    },
    Poll {
        step: usize,
        poll: PollStep,
    },
    Think {
        mean_ns: u64,
        constant: bool,
    },
    /// Continues at the first target whose cumulative weight is above a random number below the last.
    Choose {
        targets: Vec<(u64, usize)>,
    },
    Jump {
        to: usize,
    },
    Begin {
        counter: usize,
        times: [u32; 2],
    },
    /// Goes back until the counter is used up.
    Again {
        counter: usize,
        to: usize,
    },
}

impl Operation {
    /// The step that a request of this operation belongs to.
    pub fn step(&self) -> Option<usize> {
        match self {
            Self::Get { step, .. } | Self::Form { step, .. } | Self::Poll { step, .. } => Some(*step),
            Self::Think { .. } | Self::Choose { .. } | Self::Jump { .. } | Self::Begin { .. } | Self::Again { .. } => {
                None
            }
        }
    }

    /// The statuses that it expects; empty for every one below 400.
    pub fn expect(&self) -> &[u16] {
        match self {
            Self::Get { expect, .. } => expect,
            Self::Form { form, .. } => &form.expect,
            Self::Poll { .. }
            | Self::Think { .. }
            | Self::Choose { .. }
            | Self::Jump { .. }
            | Self::Begin { .. }
            | Self::Again { .. } => &[],
        }
    }

    /// The values that it takes from the page it ends on.
    pub fn extract(&self) -> &[Extract] {
        match self {
            Self::Get { extract, .. } => extract,
            Self::Form { form, .. } => &form.extract,
            Self::Poll { .. }
            | Self::Think { .. }
            | Self::Choose { .. }
            | Self::Jump { .. }
            | Self::Begin { .. }
            | Self::Again { .. } => &[],
        }
    }
}

/// Open a page (or stay on the current one), fill one of its forms, and send it.
#[derive(Clone, Debug)]
pub struct FormStep {
    /// `None`: the form is on the current page.
    pub path: Option<Template>,
    /// What the form's action must contain; empty for the first form.
    pub action: Template,
    pub fields: Vec<(String, Template)>,
    /// Statuses of the answer to the form, before redirects are followed.
    pub expect: Vec<u16>,
    /// Index of the checks of the page that it ends on.
    pub checks: Option<usize>,
    pub extract: Vec<Extract>,
}

/// Ask again until the answer says so.
#[derive(Clone, Debug)]
pub struct PollStep {
    pub path: Template,
    /// A JSON pointer; without it the texts are looked for in the body.
    pub pointer: Option<String>,
    /// Any of these ends the wait.
    pub until: Vec<String>,
    pub every_ns: u64,
    pub timeout_ns: u64,
}

/// A value taken from the page that a step ended on.
#[derive(Clone, Debug)]
pub struct Extract {
    pub variable: usize,
    pub from: Source,
    pub optional: bool,
}

/// Where a value is found.
#[derive(Clone, Debug)]
pub enum Source {
    /// The part after `prefix` in a link of the page, up to `/`, `?` or the end.
    Link { prefix: Template, pick: Pick },
    /// The same in the page's own address.
    Address { prefix: Template },
    /// A string or number in a JSON body.
    Json { pointer: String },
}

/// Which of several links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    First,
    Last,
    #[default]
    Random,
}

/// Text with holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    UserName,
    Password,
    Role,
    Word(usize),
    Number(u64, u64),
    Variable(usize),
}
