//! Compresses the description of the routes: it is a third of a megabyte of text that few clients ask for.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

const DOCUMENT: &str = "src/service/handlers/openapi.json";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={DOCUMENT}");
    let dir = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    let file = File::create(Path::new(&dir).join("openapi.json.gz"))?;
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder.write_all(&fs::read(DOCUMENT)?)?;
    encoder.finish()?;
    Ok(())
}
