//! Lets binaries and tests find the prebuilt `libduckdb.so` without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    let appliance = std::env::var_os("CARGO_FEATURE_APPLIANCE").is_some();
    let bundled = std::env::var_os("CARGO_FEATURE_DUCKDB_BUNDLED").is_some();
    if let (true, false, Ok(folder)) = (appliance, bundled, std::env::var("DUCKDB_LIB_DIR")) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        // Where scripts/install.sh and the Dockerfile put it, seen from the program.
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/twintier");
    }
}
