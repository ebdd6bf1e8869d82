//! Looks for an input that breaks the law of [`fuzz::spool_record`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::spool_record::law(data));
