//! Checks the names of entries, and finds the top folder, which the flat view leaves out.

/// Longest folder name of common file systems, in bytes. A longer top folder is not treated as one.
pub(super) const MAX_TOP_FOLDER_BYTES: usize = 255;

/// Checks one raw name. The name of a folder ends in a slash.
///
/// A name that passes is safe on every system, both in full and without its first segment, as in the flat view.
///
/// # Errors
/// What is wrong, as the predicate of "entry 7 of the zip".
pub(super) fn check(name: &[u8]) -> Result<(), &'static str> {
    let path = name.strip_suffix(b"/").unwrap_or(name);
    let begins_with_drive = |part: &[u8]| part.len() >= 2 && part[0].is_ascii_alphabetic() && part[1] == b':';
    if name.is_empty() {
        return Err("has no name");
    }
    if name[0] == b'/' {
        return Err("has an absolute name");
    }
    if name.contains(&0) {
        return Err("has a name with a zero byte");
    }
    // A backslash is a separator on Windows only: it is allowed, but `..` is rejected on either side of it.
    if path.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..") {
        return Err("has a name that leads out of its folder");
    }
    for (depth, part) in path.split(|byte| *byte == b'/').enumerate() {
        match part {
            b"" | b"." => return Err("has a name with an empty part"),
            // In the flat view the second segment is the first. A backslash at the beginning is the root on Windows.
            [b'\\', ..] if depth < 2 => return Err("has an absolute name"),
            _ if depth < 2 && begins_with_drive(part) => return Err("has a name that begins with a drive"),
            _ => {}
        }
    }
    Ok(())
}

/// The folder that contains every name, without its slash; `None` if there is none or no name.
pub(super) fn top_folder<'a>(mut names: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = names.next()?;
    let len = first.iter().position(|byte| *byte == b'/').filter(|len| *len <= MAX_TOP_FOLDER_BYTES)?;
    let folder = &first[..=len];
    names.all(|name| name.starts_with(folder)).then_some(&first[..len])
}

/// True if a raw name is that of a `.git` folder, in any case, or of something in one.
pub(super) fn has_git_folder(name: &[u8]) -> bool {
    let mut parts = name.rsplit(|byte| *byte == b'/');
    // What follows the last slash is no folder.
    parts.next();
    parts.any(|part| part.eq_ignore_ascii_case(b".git"))
}

/// Checks all names together: no duplicates, and no name below a file or link (`a` and `a/b`), because unpackers would
/// follow a symbolic link there.
///
/// `sorted` has the raw names in ascending order of their bytes.
///
/// # Errors
/// What is wrong, as the predicate of "the zip".
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
    fn name_that_could_leave_its_folder_is_rejected() {
        for name in [
            "a",
            "a/",
            "a/b.c",
            "a/..b/c..",
            "a/bb:c",
            "\u{fc}/\u{4e2d}",
            "a/ b",
            "...",
            "top/cc:/x",
            "a\\b",
            "top/a/\\b",
        ] {
            assert_eq!(check(name.as_bytes()), Ok(()), "{name}");
        }
        for name in [
            "",
            "/",
            "/a",
            "//",
            "a//b",
            "a//",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/../",
            ".",
            "./a",
            "a/.",
            "a\\..\\b",
            "..\\a",
            "a\0b",
            "C:",
            "c:/x",
            "c:x",
            "top/C:/x",
            "top/C:x",
            "\\a",
            "top/\\a",
            "top/\\\\host/x",
        ] {
            assert!(check(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn top_folder_contains_every_name_or_there_is_none() {
        let of = |names: &[&'static str]| top_folder(names.iter().map(|name| name.as_bytes())).map(<[u8]>::to_vec);
        assert_eq!(of(&["t/", "t/a", "t/b/c"]), Some(b"t".to_vec()));
        assert_eq!(of(&["t/a"]), Some(b"t".to_vec()));
        for names in [&[][..], &["a"], &["t/", "u/"], &["t/a", "ta/b"], &["t/a", "t"], &["t/a", "readme"]] {
            assert_eq!(of(names), None, "{names:?}");
        }
    }

    #[test]
    fn git_folder_is_found_at_every_depth_and_in_every_case() {
        for name in [".git/", ".git/config", "a/.GIT/x", "a/b/.git/objects/1"] {
            assert!(has_git_folder(name.as_bytes()), "{name}");
        }
        for name in [".git", "a/.git", ".gitignore", ".github/x", "git/x", "a.git/x", "x"] {
            assert!(!has_git_folder(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn colliding_names_are_rejected() {
        let of = |names: &[&'static str]| {
            let mut names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
            names.sort_unstable();
            check_all(&names)
        };
        assert_eq!(of(&["a/", "a/b", "a-b", "a.b/c", "A/b"]), Ok(()));
        assert!(of(&["a", "b", "a"]).is_err());
        assert!(of(&["a", "a-", "a-b", "a/b"]).is_err(), "a name below a file");
        assert!(of(&["a", "a/"]).is_err(), "a file and a folder of the same name");
    }
}
