//! Looks for an input that breaks the law of [`fuzz::milter_reply`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::milter_reply::law(data));
