//! Looks for an input that breaks the law of [`fuzz::received`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::received::law(data));
