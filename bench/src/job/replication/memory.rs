//! Memory per row of the catalog's shape in one replica: what the kernel counts, and what the tables say themselves.

use std::fs;

use super::rows::Catalog;
use crate::failure::Failure;
use crate::statistics::slope;

/// Rows at which memory is looked at.
const STEPS: [u64; 6] = [0, 20_000, 40_000, 60_000, 80_000, 100_000];
/// Bytes of a page of this architecture's kernel.
const PAGE_BYTES: u64 = 4096;

/// Bytes of one more row: slopes over [`STEPS`] by least squares.
#[derive(Clone, Copy, Debug)]
pub struct PerRow {
    pub rss_bytes: f64,
    pub estimate_bytes: f64,
}

/// Loads rows and looks at the process. To be called before anything else took and gave back much memory, which would
/// be used again without the kernel noticing.
///
/// # Errors
/// The kernel does not say how much memory the process has.
pub fn measure(catalog: &Catalog) -> Result<PerRow, Failure> {
    let mut tables = catalog.tables();
    let (mut resident, mut estimated, mut row) = (Vec::new(), Vec::new(), 0);
    for rows in STEPS {
        while row < rows {
            let key = format!("article-{row:07}");
            let update = tables.edit(catalog.table, &key, Some(catalog.record(row, row)), 0, row);
            tables.apply(&update);
            row += 1;
        }
        resident.push((rows as f64, resident_bytes()? as f64));
        estimated.push((rows as f64, tables.bytes_estimate() as f64));
    }
    let of = |points: &[(f64, f64)]| slope(points).map_or(0.0, |(slope, ..)| slope);
    Ok(PerRow { rss_bytes: of(&resident), estimate_bytes: of(&estimated) })
}

fn resident_bytes() -> Result<u64, Failure> {
    let path = "/proc/self/statm";
    let text = fs::read_to_string(path).map_err(|error| Failure::file(path.as_ref(), &error))?;
    let pages: Option<u64> = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    pages.map(|pages| pages * PAGE_BYTES).ok_or_else(|| Failure::Failed(format!("{path} reads `{}`", text.trim())))
}
