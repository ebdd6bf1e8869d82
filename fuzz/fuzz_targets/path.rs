//! Looks for an input that breaks the law of [`fuzz::path`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::path::law(data));
