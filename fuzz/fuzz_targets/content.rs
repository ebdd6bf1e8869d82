//! Looks for an input that breaks the law of [`fuzz::content`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::content::law(data));
