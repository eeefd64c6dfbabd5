//! A view that grows beyond what 32 bits can say.

use std::io::{Read, Seek, SeekFrom};

use super::*;

/// A view of a zip of 4 GiB, most of which is zeroes that are not in memory.
struct SparseView {
    plan: ViewPlan,
    /// The stored bytes that are not zero, by their offsets.
    stored: Vec<(u64, Vec<u8>)>,
    at: u64,
}

impl Read for SparseView {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some(slice) = self.plan.slices(self.at..self.at + buf.len() as u64).next() else { return Ok(0) };
        let len = match slice {
            ViewSlice::Generated(range) => {
                buf[..range.len()].copy_from_slice(&self.plan.generated()[range.clone()]);
                range.len()
            }
            ViewSlice::Stored(range) => {
                for (to, at) in buf.iter_mut().zip(range.clone()) {
                    let known =
                        self.stored.iter().find(|(from, bytes)| (*from..*from + bytes.len() as u64).contains(&at));
                    *to = known.map_or(0, |(from, bytes)| bytes[(at - from) as usize]);
                }
                (range.end - range.start) as usize
            }
        };
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for SparseView {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(back) => self.plan.len().checked_add_signed(back).expect("in the file"),
            SeekFrom::Current(by) => self.at.checked_add_signed(by).expect("in the file"),
        };
        Ok(self.at)
    }
}

#[test]
fn view_that_grows_beyond_four_gib_becomes_zip64() {
    // The second entry begins 128 bytes before the limit of 32 bits; its directory fits in front of it, too.
    let second = 0xffff_ff80_u32;
    let first_len = second - 31;
    for wide_sizes in [false, true] {
        let last = Item::new("b", "hello").stored().extra(0xcafe, b"kept");
        let items = [Item::new("a", "").stored(), if wide_sizes { last.wide() } else { last }];
        let zip = build(&items, COMMIT);
        let record = zip.records[0];
        let len = zip.bytes.len() - zip.central;
        let directory = u64::from(second) + (zip.central - zip.locals[1]) as u64;
        let mut z = zip.clone().set(record + 20, &first_len.to_le_bytes()).set(record + 24, &first_len.to_le_bytes());
        if wide_sizes {
            // The sizes stay in the Zip64 field, the offset does not; a wide zip has Zip64 end records.
            z = z.set(zip.records[1] + 42, &second.to_le_bytes());
            z = z.set(zip.end + 48, &directory.to_le_bytes());
            z = z.set(zip.plain_end - 12, &(directory + (zip.end - zip.central) as u64).to_le_bytes());
        } else {
            z = z.set(zip.records[1] + 42, &second.to_le_bytes());
            z = z.set(zip.end + 16, &(directory as u32).to_le_bytes());
        }
        let tail = Bytes::from(z.bytes[zip.central..].to_vec());
        assert_eq!(tail.len(), len);
        let central = CentralDirectory::parse(tail, directory).expect("a directory");
        let spec = ViewSpec::Foldered { top: TopFolder::of_version(&"x".repeat(200), "1") };
        let plan = central.view_plan(&spec).expect("possible").expect("a plan");
        let stored = vec![
            (0, zip.bytes[..zip.locals[1]].to_vec()),
            (u64::from(second), zip.bytes[zip.locals[1]..zip.central].to_vec()),
        ];
        let mut view = zip::ZipArchive::new(SparseView { plan, stored, at: 0 }).expect("a zip");
        assert_eq!((view.len(), view.comment()), (2, COMMIT));
        let mut last = view.by_index(1).expect("an entry");
        assert_eq!(last.name().expect("a name"), format!("{}-1/b", "x".repeat(200)));
        assert_eq!(last.header_start(), u64::from(second) + 203);
        let mut content = String::new();
        last.read_to_string(&mut content).expect("content with the right CRC");
        assert_eq!(content, "hello");
    }
}
