//! Looks for an input that breaks the law of [`fuzz::proxy`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::proxy::law(data));
