//! Looks for an input that breaks the law of [`fuzz::session`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session::law(data));
