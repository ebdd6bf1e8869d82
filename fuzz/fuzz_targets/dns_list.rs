//! Looks for an input that breaks the law of [`fuzz::dns_list`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::dns_list::law(data));
