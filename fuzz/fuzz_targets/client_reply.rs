//! Looks for an input that breaks the law of [`fuzz::client_reply`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::client_reply::law(data));
