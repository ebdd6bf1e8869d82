//! Looks for an input that breaks the law of [`fuzz::bdat`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::bdat::law(data));
