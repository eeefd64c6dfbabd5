//! What is in a folder of a stored archive, read on demand and cached.

use std::{io, sync::Arc};

use crate::{
    archive::{CentralDirectory, FolderFacts, StoredZipError, ZipFacts},
    entry::Digest,
    package::FolderPath,
    registry::{Object, RegistryError, no_memory, shared_work::SharedWorkCache},
    value::memory_budget::{MemoryBudget, MemoryShare},
};

/// Most bytes of cached facts, keys included.
const MAX_FACTS_BYTES: u64 = 8 << 20;
/// What the cache needs for an entry of its own, in bytes.
const FACTS_OVERHEAD_BYTES: usize = 256;

/// Facts about folders of archives. An entry never goes out of date: its key has the digest of the archive.
pub(super) struct FolderFactsCache {
    facts: SharedWorkCache<Option<Arc<FolderFacts>>, FolderReadFailure>,
    memory: MemoryBudget,
}

/// What reading a folder of an archive found.
pub(super) enum FolderRead {
    Facts(Arc<FolderFacts>),
    /// The archive has no such folder.
    NoFolder,
    /// The archive is damaged, or cannot be read. Logged.
    Damaged,
}

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
enum FolderReadFailure {
    #[error(transparent)]
    Zip(#[from] StoredZipError),
    #[error("the folder cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("cannot parse the stored facts about the zip: {0}")]
    Facts(#[from] serde_json::Error),
}

impl FolderFactsCache {
    pub(super) fn new(memory: MemoryBudget) -> Self {
        Self { facts: SharedWorkCache::new(MAX_FACTS_BYTES), memory }
    }

    /// Reads the facts about a folder. Concurrent callers share one reading.
    ///
    /// # Errors
    /// When there is no memory for the directory of the zip at present.
    pub(super) async fn read(&self, object: &Object, path: &FolderPath) -> Result<FolderRead, RegistryError> {
        let key = Digest::of(format!("{}\0{}", object.meta.digest, path.as_str()).as_bytes());
        let reading = async {
            let object = object.clone();
            let path = path.clone();
            let mut memory = self.memory.share();
            let reading = crate::blocking::spawn_blocking(move || read(&object, &path, &mut memory));
            let facts = reading.await.map_err(io::Error::other)??;
            let weight = FACTS_OVERHEAD_BYTES + facts.as_ref().map_or(0, |facts| facts.weight());
            Ok((facts, u32::try_from(weight).unwrap_or(u32::MAX)))
        };
        Ok(match self.facts.get_or_make(key, reading).await {
            Ok(Some(facts)) => FolderRead::Facts(facts),
            Ok(None) => FolderRead::NoFolder,
            Err(error) => {
                if let Some(FolderReadFailure::Zip(StoredZipError::NoMemory(shortage))) = error.as_deref() {
                    return Err(no_memory(*shortage));
                }
                tracing::error!(digest = %object.meta.digest, error = error.map(|error| error.to_string()), "a folder of a stored zip cannot be read");
                FolderRead::Damaged
            }
        })
    }
}

/// Reads the central directory of an archive and a few files of the folder. Blocks.
fn read(
    object: &Object,
    path: &FolderPath,
    memory: &mut MemoryShare,
) -> Result<Option<Arc<FolderFacts>>, FolderReadFailure> {
    let facts = ZipFacts::from_value(&object.meta.verified.facts)?;
    let read = |buf: &mut [u8], offset: u64| object.read_exact(buf, offset);
    let central = CentralDirectory::open(&facts, object.meta.len, memory, read)?;
    Ok(central.folder_facts(path, read)?.map(Arc::new))
}
