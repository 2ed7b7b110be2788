//! The output of other load generators as text: which tool wrote it, and what it says. Units are converted, figures are
//! taken as they are printed, and beside them stands how the tool counts latency: their percentiles are not ours.

mod h2load;
mod json;
mod unit;
mod vegeta;
mod wrk;

use crate::load::Load;

/// What is looked for, for the sentence that refuses everything else.
const EXPECTED: &str = "the output of wrk, wrk2 (with or without --latency), h2load, `oha --output-format json`, \
    `k6 run --summary-export` or handleSummary's JSON, `vegeta report` as text or with -type=json";

/// Reads the output of whichever tool wrote it.
///
/// # Errors
/// It is of none of them; what was expected, as one sentence.
pub fn read(text: &str) -> Result<Load, String> {
    let found = if text.trim_start().starts_with('{') {
        json::read(text)
    } else {
        wrk::read(text).or_else(|| h2load::read(text)).or_else(|| vegeta::read_text(text))
    };
    found.ok_or_else(|| format!("not an output that is known here; expected {EXPECTED}"))
}

#[cfg(test)]
mod tests;
