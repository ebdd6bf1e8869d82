//! Looks for an input that breaks the law of [`fuzz::command`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::command::law(data));
