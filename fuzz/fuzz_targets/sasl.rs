//! Looks for an input that breaks the law of [`fuzz::sasl`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::sasl::law(data));
