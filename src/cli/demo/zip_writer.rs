//! Writes small zips of files that are stored without compression.

/// The time of every entry, 2024-01-01 00:00:00, as MS-DOS writes it.
const DOS_TIME: [u16; 2] = [0, (2024 - 1980) << 9 | 1 << 5 | 1];
/// The flag of names in UTF-8.
const UTF8_NAMES: u16 = 1 << 11;
/// Version 2.0 of the format is needed to read an entry.
const VERSION_NEEDED: u16 = 20;
/// The entry was made on Unix, by a program of the same version of the format.
const VERSION_MADE_BY: u16 = 3 << 8 | VERSION_NEEDED;
/// The attributes of a regular file with mode 0644.
const REGULAR_FILE: u32 = 0o100_644 << 16;

/// A zip with these files, in this order, and a comment. All sizes must be below 64 KiB, and there are a few entries.
pub(super) fn zip(files: &[(String, Vec<u8>)], comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in files {
        let offset = length(&out);
        let mut shared = Vec::new();
        for field in [VERSION_NEEDED, UTF8_NAMES, 0, DOS_TIME[0], DOS_TIME[1]] {
            shared.extend(field.to_le_bytes());
        }
        for field in [crc32fast::hash(data), length(data), length(data)] {
            shared.extend(field.to_le_bytes());
        }
        for field in [short_length(name.as_bytes()), 0] {
            shared.extend(field.to_le_bytes());
        }
        out.extend(*b"PK\x03\x04");
        out.extend(&shared);
        out.extend(name.bytes());
        out.extend(data);

        directory.extend(*b"PK\x01\x02");
        directory.extend(VERSION_MADE_BY.to_le_bytes());
        directory.extend(&shared);
        // No comment, the first disk, no internal attributes.
        directory.extend([0; 6]);
        directory.extend(REGULAR_FILE.to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let offset = length(&out);
    let count = short_length(files);
    out.extend(&directory);
    out.extend(*b"PK\x05\x06");
    for field in [0, 0, count, count] {
        out.extend(field.to_le_bytes());
    }
    out.extend(length(&directory).to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(short_length(comment.as_bytes()).to_le_bytes());
    out.extend(comment.bytes());
    out
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn short_length<T>(items: &[T]) -> u16 {
    u16::try_from(items.len()).unwrap_or(u16::MAX)
}
