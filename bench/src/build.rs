//! Finds the sibling programs, building them first when the lab was started by cargo.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;
use crate::process::{Interrupt, Order, Process};

/// DuckDB from source takes 20 minutes on two cores; twice that is a build that hangs.
const BUILD_DEADLINE: Duration = Duration::from_secs(90 * 60);

/// The folder of the source: where `profiles/` is. Asked of cargo, then of the working directory and the folders
/// above it, then of those above this program.
///
/// # Errors
/// Nowhere.
pub fn source_root() -> Result<PathBuf, Failure> {
    let from_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let starts = [from_cargo, std::env::current_dir().ok(), std::env::current_exe().ok()];
    let is_root = |folder: &&Path| folder.join("profiles/quickstart.toml").is_file();
    let found = starts.iter().flatten().find_map(|start| start.ancestors().find(is_root).map(Path::to_path_buf));
    found.ok_or_else(|| {
        Failure::Usage(
            "profiles/quickstart.toml is not in this folder or one above it; start bench in the project's folder"
                .into(),
        )
    })
}

/// The folder that holds `twintier` and `loadgen`.
///
/// # Errors
/// The build fails.
pub fn sibling_folder(root: &Path, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::Failed(format!("this program's path is unknown: {error}")))?;
    let folder = own.parent().unwrap_or(Path::new(".")).to_path_buf();
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(folder) };
    // target/debug/bench wants its siblings optimised all the same: an unoptimised system is not worth measuring.
    let target = folder.parent().unwrap_or(&folder).to_path_buf();
    build(Path::new(&cargo), root, &target, interrupt)?;
    Ok(target.join("release"))
}

fn build(cargo: &Path, root: &Path, target: &Path, interrupt: &Interrupt) -> Result<(), Failure> {
    let manifest = root.join("Cargo.toml").to_string_lossy().into_owned();
    let target_text = target.to_string_lossy().into_owned();
    // The lab itself is named, too: cargo unites the features of what it builds together, and only with this set of
    // packages does DuckDB from source get the features that it had when cargo built the lab alone. Otherwise it would
    // be compiled a second time.
    let packages = ["--package", "twintier", "--package", "loadgen", "--package", "bench"];
    let mut arguments = vec!["build", "--release", "--manifest-path", &manifest, "--target-dir", &target_text];
    arguments.extend(packages);
    let prebuilt = std::env::var_os("DUCKDB_LIB_DIR").is_some();
    if prebuilt {
        arguments.extend(["--no-default-features", "--features", "twintier/appliance"]);
    }
    let what = if prebuilt {
        "with the DuckDB library in DUCKDB_LIB_DIR"
    } else {
        "with DuckDB from source: the first time takes some 20 minutes on two cores"
    };
    eprintln!("building twintier and loadgen {what}");
    let style =
        ProgressStyle::with_template("  {spinner} {elapsed_precise}  {msg}").expect("invariant: a constant template");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    let log = target.join("bench-build");
    let mut process = Process::start(&Order::new("cargo", cargo, &arguments, &log))?;
    let started = Instant::now();
    let status = interrupt.wait_for(BUILD_DEADLINE, || {
        bar.set_message(last_line(&log.join("cargo.err")));
        process.ended()
    })?;
    bar.finish_and_clear();
    match status {
        Some(status) if status.success() => {
            eprintln!("  built in {:.0} s", started.elapsed().as_secs_f64());
            Ok(())
        }
        Some(_) | None => Err(Failure::Failed(format!(
            "twintier and loadgen could not be built; all of it is in {}{}",
            log.display(),
            process.quote()
        ))),
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("cargo starts").to_owned()
}
