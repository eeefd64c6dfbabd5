#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| srm_mirror::fuzzing::version(data));
