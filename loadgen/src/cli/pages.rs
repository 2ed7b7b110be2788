//! Options of `browse` about pages.

use clap::Args;

use crate::page_slo::PageSlo;

#[derive(Args, Clone, Debug)]
pub struct PageOptions {
    /// How fast pages shall load, as in load<1s; with a share, as in load<1s,share>95%, exit code 3 if fewer do. Without
    /// it the scenario's [slo] counts.
    #[arg(long, value_name = "SLO")]
    pub page_slo: Option<PageSlo>,
}
