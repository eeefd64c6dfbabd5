//! Names in a zip: which ones are refused, and the top folder that is cut off in the flat view.

/// Longest folder name that a file system can hold, bytes. A longer top folder is not treated as one.
const MAX_TOP: usize = 255;

/// Judges one raw name; folders end in a slash.
///
/// The rules hold for the name as it is and for what is left of it in the flat view, whatever system unpacks it.
///
/// # Errors
/// What is wrong, to stand after "entry 7 of the zip".
pub(super) fn check(name: &[u8]) -> Result<(), &'static str> {
    let path = name.strip_suffix(b"/").unwrap_or(name);
    let drive = |part: &[u8]| part.len() >= 2 && part[0].is_ascii_alphabetic() && part[1] == b':';
    if name.is_empty() {
        return Err("has no name");
    }
    if matches!(name[0], b'/' | b'\\') {
        return Err("has an absolute name");
    }
    if name.contains(&0) {
        return Err("has a name with a zero byte");
    }
    // A backslash is a letter here and a separator on Windows; a name may have one, but must not climb by it.
    if path.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..") {
        return Err("has a name that leads out of its folder");
    }
    for (depth, part) in path.split(|byte| *byte == b'/').enumerate() {
        match part {
            b"" | b"." => return Err("has a name with an empty part"),
            // Without the top folder the second part is the first.
            _ if depth < 2 && drive(part) => return Err("has a name that begins with a drive"),
            _ => {}
        }
    }
    Ok(())
}

/// The folder that every name is in, without its slash; `None` where there is no such folder or no name.
pub(super) fn top<'a>(mut names: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = names.next()?;
    let cut = first.iter().position(|byte| *byte == b'/').filter(|cut| *cut <= MAX_TOP)?;
    let folder = &first[..=cut];
    names.all(|name| name.starts_with(folder)).then_some(&first[..cut])
}

/// Judges all names together: none twice, and nothing beneath a name that is no folder (`a` and `a/b`), since
/// unpackers would follow a symbolic link there.
///
/// `sorted` has the raw names in ascending order of their bytes.
///
/// # Errors
/// What is wrong, to stand after "the zip".
pub(super) fn check_all(sorted: &[&[u8]]) -> Result<(), &'static str> {
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("has two entries of the same name");
    }
    let mut folder = Vec::new();
    for file in sorted.iter().filter(|name| !name.ends_with(b"/")) {
        folder.clear();
        folder.extend_from_slice(file);
        folder.push(b'/');
        let next = sorted.partition_point(|name| *name < folder.as_slice());
        if sorted.get(next).is_some_and(|name| name.starts_with(&folder)) {
            return Err("has an entry beneath one that is not a folder");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_is_refused() {
        for name in ["a", "a/", "a/b.c", "a/..b/c..", "a/bb:c", "\u{fc}/\u{4e2d}", "a/ b", "...", "top/cc:/x", "a\\b"] {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name}");
        }
        for name in [
            "", "/", "/a", "//", "a//b", "a//", "..", "../a", "a/..", "a/../b", "a/../", ".", "./a", "a/.", "a\\..\\b",
            "..\\a", "a\0b", "C:", "c:/x", "c:x", "top/C:/x", "top/C:x",
        ] {
            assert!(check(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_top_folder_holds_everything_or_there_is_none() {
        let of = |names: &[&'static str]| top(names.iter().map(|name| name.as_bytes())).map(<[u8]>::to_vec);
        assert_eq!(of(&["t/", "t/a", "t/b/c"]), Some(b"t".to_vec()));
        assert_eq!(of(&["t/a"]), Some(b"t".to_vec()));
        for names in [&[][..], &["a"], &["t/", "u/"], &["t/a", "ta/b"], &["t/a", "t"], &["t/a", "readme"]] {
            assert_eq!(of(names), None, "{names:?}");
        }
    }

    #[test]
    fn names_that_collide_are_refused() {
        let of = |names: &[&'static str]| {
            let mut names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
            names.sort_unstable();
            check_all(&names)
        };
        assert_eq!(of(&["a/", "a/b", "a-b", "a.b/c", "A/b"]), Ok(()));
        assert!(of(&["a", "b", "a"]).is_err());
        assert!(of(&["a", "a-", "a-b", "a/b"]).is_err(), "a file with something beneath it");
        assert!(of(&["a", "a/"]).is_err(), "file and folder of one name");
    }
}
