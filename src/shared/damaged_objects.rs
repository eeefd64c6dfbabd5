//! Which damaged objects of the bucket the log has named: each is named once, however often it is read.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::object_name::ObjectName;

/// After so many, they are named once more.
const MAX_DAMAGED_OBJECTS: usize = 1000;

/// The damaged objects that the log has named, since the start.
#[derive(Default)]
pub(super) struct DamagedObjects(Mutex<HashSet<ObjectName>>);

impl DamagedObjects {
    /// Adds an object; true where it is to be named.
    pub(super) fn is_new(&self, object: &ObjectName) -> bool {
        let mut named = self.0.lock();
        if named.len() == MAX_DAMAGED_OBJECTS && !named.contains(object) {
            named.clear();
        }
        named.insert(object.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_named_once_until_too_many_are_damaged() {
        let damaged = DamagedObjects::default();
        let object = |number: usize| ObjectName::listed(format!("gc/{number}"));
        for number in 0..MAX_DAMAGED_OBJECTS {
            assert!(damaged.is_new(&object(number)));
        }
        assert!(!damaged.is_new(&object(0)));
        assert!(damaged.is_new(&object(MAX_DAMAGED_OBJECTS)));
        assert!(damaged.is_new(&object(0)), "from the beginning");
    }
}
