//! Looks for an input that breaks the law of [`mod@fuzz::line`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::line::law(data));
