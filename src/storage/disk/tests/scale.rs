use std::{
    io::{BufWriter, Write as _},
    time::Instant,
};

use super::*;

/// Bytes of memory of this process, as the system counts them.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").expect("readable");
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

/// The key of a pin. The keys are in order, so that an index of ten million is written in minutes.
fn pinned(n: u64) -> Key {
    Key::new(format!("github/owner-{:04}/package-{:07}/tag/v{:02}.0.0", n / 10_000, n / 20, n % 20))
}

/// Writes an index and a journal of this size, as a clean end leaves them. The blobs have rows and no files.
async fn seed(dir: &TempDir, zips: u64, pins: u64) {
    let huge = Config { limit: ByteSize::gib(1000), ..Config::default() };
    let disk = Disk::open(&huge, dir.path()).expect("opens");
    let mut journal = BufWriter::new(fs::File::create(dir.path().join("pins.jsonl")).expect("created"));
    let mut offset = 0;
    let mut n = 0;
    while n < pins {
        let step = n..pins.min(n + 100_000);
        let mut updates = Vec::new();
        for n in step.clone() {
            let bytes = n.to_le_bytes();
            let pin = Pin {
                key: pinned(n),
                digest: Digest::of(&bytes),
                len: 8,
                first_seen: Timestamp::UNIX_EPOCH,
                verified: verified(&bytes),
            };
            let line = journal::test_line(&pin);
            journal.write_all(&line).expect("written");
            let len = u32::try_from(line.len()).expect("short");
            updates.push((pin.key, index::PinUpdate::Pinned(index::PinPosition { offset, len })));
            offset += line.len() as u64;
        }
        let write = |txn: &redb::WriteTransaction| {
            index::update_pins(txn, &updates, |_| {})?;
            for n in step.clone().filter(|n| *n < zips) {
                let stored = index::IndexedKey::of_document(pinned(n));
                let row = index::IndexRow::new(8, 8192, n, vec![stored]);
                index::put_blob(txn, &Digest::of(&n.to_le_bytes()), &row, None)?;
            }
            index::set_counter(txn, "pins_seen", offset)
        };
        disk.index.write(write).expect("written");
        n = step.end;
    }
    journal.flush().expect("written");
    disk.close().await.expect("closes");
}

async fn measure(zips: u64, pins: u64) {
    let dir = TempDir::new().expect("a folder");
    let begun = Instant::now();
    seed(&dir, zips, pins).await;
    println!("{zips} zips and {pins} pins were written in {:.1?}", begun.elapsed());
    let huge = Config { limit: ByteSize::gib(1000), ..Config::default() };
    let before = resident_bytes();
    let begun = Instant::now();
    let disk = Disk::open(&huge, dir.path()).expect("opens");
    println!("start: {:.1?}, {} MiB more memory", begun.elapsed(), resident_bytes().saturating_sub(before) >> 20);
    assert_eq!(disk.usage().objects, zips);
    let begun = Instant::now();
    let sum = disk.inventory().fold(0..=u8::MAX, |_| true, 0_u64, |count, _| *count += 1).await.expect("works");
    println!("sum over all zips (stats): {:.1?}, {} MiB in all", begun.elapsed(), resident_bytes() >> 20);
    assert_eq!(sum, zips);
    let begun = Instant::now();
    let listed = disk.inventory().list(|_| true).await.expect("works").len();
    println!("list of {listed} zips (ls): {:.1?}, {} MiB in all", begun.elapsed(), resident_bytes() >> 20);
    let begun = Instant::now();
    let mut visited = 0;
    disk.pins().visit_keys(|_| visited += 1).await.expect("works");
    println!("all {visited} pinned keys (catalogue): {:.1?}, {} MiB in all", begun.elapsed(), resident_bytes() >> 20);
    assert_eq!(visited, pins);
    let begun = Instant::now();
    for n in 0..1000 {
        assert!(disk.pins().get(&pinned(n * (pins / 1000))).await.expect("works").is_some());
    }
    println!("1000 pins: {:.1?}", begun.elapsed());
    disk.close().await.expect("closes");
}

#[tokio::test]
#[ignore = "writes an index of a gigabyte; to be run with --ignored --nocapture"]
async fn a_hundred_thousand_zips_and_a_million_pins_are_opened_and_listed() {
    measure(100_000, 1_000_000).await;
}

#[tokio::test]
#[ignore = "writes ten gigabytes; to be run in a release build with --ignored --nocapture"]
async fn a_million_zips_and_ten_million_pins_are_opened_and_listed() {
    measure(1_000_000, 10_000_000).await;
}
