#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| twintier_fuzz::targets::request_head(bytes));
