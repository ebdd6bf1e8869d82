//! Looks for an input that breaks the law of [`fuzz::srs`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::srs::law(data));
