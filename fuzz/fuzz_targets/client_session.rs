//! Looks for an input that breaks the law of [`fuzz::client_session`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::client_session::law(data));
