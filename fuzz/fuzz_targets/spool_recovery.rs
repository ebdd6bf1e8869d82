//! Looks for an input that breaks the law of [`fuzz::spool_recovery`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::spool_recovery::law(data));
