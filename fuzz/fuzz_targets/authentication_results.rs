//! Looks for an input that breaks the law of [`fuzz::authentication_results`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::authentication_results::law(data));
