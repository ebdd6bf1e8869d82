//! Looks for an input that breaks the law of [`fuzz::text`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::text::law(data));
