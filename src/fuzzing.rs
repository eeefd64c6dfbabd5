//! One function per fuzz target, for `fuzz/` and for the program `fuzz_driver`: each takes any bytes and panics when a
//! property does not hold. Only with the feature `fuzzing`.

pub use crate::{
    archive::fuzzing::{view_plans, zip_reader},
    cli::fuzz_bundle as bundle,
    config::fuzzing::configuration,
    dialect::fuzzing::path,
    http::fuzzing::range_and_conditions,
    package::fuzzing::version,
    storage::disk::fuzz_index_record as index_record,
    upstream::fuzzing::upstream_json,
};
