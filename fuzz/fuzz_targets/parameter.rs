//! Looks for an input that breaks the law of [`fuzz::parameter`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parameter::law(data));
