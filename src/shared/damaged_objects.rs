//! The damaged objects of the bucket that the log has named: each is named once, however often it is read.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::object_name::ObjectName;

/// Most objects that are remembered; beyond that, all are named once more.
const MAX_DAMAGED_OBJECTS: usize = 1000;

/// The damaged objects that the log has named, since the start.
#[derive(Default)]
pub(super) struct DamagedObjects(Mutex<HashSet<ObjectName>>);

impl DamagedObjects {
    /// Adds an object; true if it is new: the caller names it in the log.
    pub(super) fn insert(&self, object: &ObjectName) -> bool {
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
            assert!(damaged.insert(&object(number)));
        }
        assert!(!damaged.insert(&object(0)));
        assert!(damaged.insert(&object(MAX_DAMAGED_OBJECTS)));
        assert!(damaged.insert(&object(0)), "from the beginning");
    }
}
