//! Zips for the benches of views, written by hand because no packer writes these shapes: stored entries, no data descriptors.

use std::io;

use srm_mirror::origin::Growing;

/// The shape of a zip.
pub(super) struct ZipShape {
    /// Number of files.
    pub(super) files: usize,
    /// The top folder with its slash, or nothing.
    pub(super) top: &'static str,
    /// The part of a file's name before its number.
    pub(super) name: String,
    /// Bytes per file.
    pub(super) data: usize,
    /// Extra fields of each central record.
    pub(super) extra: Vec<u8>,
    /// True when the central directory lists the files in reverse order.
    pub(super) reversed: bool,
}

impl ZipShape {
    /// The shape of a forge's zip: names of a real length, files of 2 KiB.
    pub(super) fn usual(files: usize) -> Self {
        let name = "src/subcommands/deploy/module-".into();
        Self {
            files,
            top: "o-r-12b27ab/",
            name,
            data: 2 << 10,
            extra: vec![0x55, 0x54, 5, 0, 1, 1, 2, 3, 4],
            reversed: false,
        }
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let data = vec![b'x'; self.data];
        let crc = crc32fast::hash(&data);
        let mut zip = Vec::new();
        let mut records = Vec::with_capacity(self.files);
        for index in 0..self.files {
            // One file is in no folder of the content, so that the top folder is what `top` says.
            let name = match index {
                0 => format!("{}package.json", self.top),
                _ => format!("{}{}{index:x}", self.top, self.name),
            };
            let offset = zip.len() as u32;
            let len = self.data as u32;
            // The fields that both headers have: version, flags (none), method (stored), time, date, CRC, sizes, name length.
            let mut common = vec![20, 0, 0, 0, 0, 0, 0x21, 0x6c, 0x2b, 0x5a];
            common.extend([crc, len, len].into_iter().flat_map(u32::to_le_bytes));
            common.extend((name.len() as u16).to_le_bytes());
            zip.extend([&b"PK\x03\x04"[..], &common[..], &[0, 0], name.as_bytes(), &data].concat());
            let mut record =
                [&b"PK\x01\x02\x14\x03"[..], &common[..], &(self.extra.len() as u16).to_le_bytes(), &[0; 6]].concat();
            record.extend([0o100_644 << 16, offset].into_iter().flat_map(u32::to_le_bytes));
            record.extend([name.as_bytes(), &self.extra].concat());
            records.push(record);
        }
        if self.reversed {
            records.reverse();
        }
        let central = zip.len() as u32;
        let directory = records.concat();
        let count = (self.files as u16).to_le_bytes();
        zip.extend(&directory);
        zip.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count].concat());
        zip.extend([directory.len() as u32, central].into_iter().flat_map(u32::to_le_bytes));
        zip.extend([0, 0]);
        zip
    }
}

/// A zip that has arrived completely.
pub(super) struct CompleteZip(pub(super) Vec<u8>);

impl Growing for CompleteZip {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
