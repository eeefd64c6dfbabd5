//! What is in one folder of a stored zip: the same facts that verification collects about the root of the content.

use std::io;

use serde::{Deserialize, Serialize};

use super::{
    central::CentralDirectory,
    content::{Content, ContentIndex, ContentNode},
    package_model::{self, ExaminedPackage},
    stored_zip::StoredZipError,
};
use crate::{
    origin::VerifyError,
    package::{FolderPath, ModelFinding, PublishManifest},
};

/// The facts about a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FolderFacts {
    /// The fields of its `publish.yaml` (or `publish.yml`); all absent without a readable file.
    #[serde(default)]
    pub publish: PublishManifest,
    /// As [`super::ZipFacts::missing_entry`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_entry: Option<String>,
    /// As [`super::ZipFacts::model`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Vec<ModelFinding>>,
}

impl FolderFacts {
    /// An estimate of the memory that it takes, in bytes.
    pub fn weight(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |json| 2 * json.len()) + size_of::<Self>()
    }
}

/// The files of one folder of a stored zip.
struct StoredFolder<'a, R> {
    central: &'a CentralDirectory,
    index: ContentIndex<'a>,
    read: R,
}

impl<R: Fn(&mut [u8], u64) -> io::Result<()>> Content for StoredFolder<'_, R> {
    fn node(&self, path: &str) -> ContentNode {
        self.index.node(path)
    }

    fn has_file_in_any_case(&self, name: &str) -> bool {
        self.index.has_file_in_any_case(name)
    }

    fn read(&mut self, path: &str, max_size: u64) -> Result<Option<Vec<u8>>, VerifyError> {
        let Some(entry) = self.index.entry(path) else { return Ok(None) };
        self.central.read_file(entry, max_size, &self.read).map_err(|error| match error {
            StoredZipError::Io(error) => VerifyError::Io(error),
            StoredZipError::NoMemory(shortage) => VerifyError::NoMemory(shortage),
            damaged @ StoredZipError::Damaged => VerifyError::Invalid(damaged.to_string()),
        })
    }
}

impl CentralDirectory {
    /// Reads the facts about a folder below the zip's top folder, if it has one; `None` if nothing is in the folder.
    ///
    /// `read` fills a buffer from an offset of the zip. Reads `publish.yaml` and the files that name an entry point: a few
    /// MiB at most.
    ///
    /// # Errors
    /// If a file is damaged, or `read` fails.
    pub fn folder_facts(
        &self,
        path: &FolderPath,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> Result<Option<FolderFacts>, StoredZipError> {
        let by_name = self.by_name();
        let index = ContentIndex::new(self, &by_name, Some(path.as_str()));
        if index.is_empty() {
            return Ok(None);
        }
        let mut content = StoredFolder { central: self, index, read };
        let stored_zip_error = |error| match error {
            VerifyError::Io(error) => StoredZipError::Io(error),
            VerifyError::NoMemory(shortage) => StoredZipError::NoMemory(shortage),
            VerifyError::Invalid(_) => StoredZipError::Damaged,
        };
        let examined = package_model::examine(&mut content).map_err(stored_zip_error)?;
        let ExaminedPackage { publish, missing_entry, findings } = examined;
        Ok(Some(FolderFacts { publish, missing_entry, model: Some(findings) }))
    }
}
