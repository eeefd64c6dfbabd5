//! STUB
#[derive(Debug)]
/// stub
pub struct BlobFile;
impl BlobFile {
    /// stub
    pub async fn read(&self, _offset: u64, _want: usize) -> std::io::Result<bytes::Bytes> {
        unimplemented!()
    }
}
