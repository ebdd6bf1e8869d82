//! Looks for an input that breaks the law of [`fuzz::dsn`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::dsn::law(data));
