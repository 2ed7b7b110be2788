//! `--expect-…`: what a response must have, from the command line of `run`.

use clap::Args;

use crate::check::{Check, Checks};

#[derive(Args, Clone, Debug)]
pub struct ExpectOptions {
    /// Status that counts as completed; may be given again. Without it every status below 400 does.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(100..=599))]
    pub expect_status: Vec<u16>,
    /// A field that responses must have, with this value or, without a colon, with any; may be given again.
    #[arg(long, value_name = "NAME: VALUE", value_parser = Check::header)]
    expect_header: Vec<Check>,
    /// Bytes that their bodies must have.
    #[arg(long, value_name = "N")]
    expect_body_bytes: Option<u64>,
    /// A text that their bodies must contain; may be given again.
    #[arg(long, value_name = "TEXT", value_parser = Check::body_text)]
    expect_body: Vec<Check>,
    /// The SHA-256 that their bodies must have.
    #[arg(long, value_name = "HEX", value_parser = Check::body_sha256)]
    expect_sha256: Option<Check>,
    /// Check one response in N, except for its status, which is always checked.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub check_every: u64,
}

impl ExpectOptions {
    /// # Errors
    /// More checks than are possible.
    pub fn checks(&self) -> Result<Checks, String> {
        let length = self.expect_body_bytes.map(Check::BodyBytes);
        let all = self.expect_header.iter().cloned().chain(length).chain(self.expect_body.iter().cloned());
        Checks::new(all.chain(self.expect_sha256.clone()).collect())
    }
}
