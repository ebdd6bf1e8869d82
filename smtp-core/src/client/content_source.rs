//! Where content comes from: memory, a file, or one behind the other.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::message::content::Content;
use crate::session::client::BLOCK_OCTETS;

/// Octets that are read from a file at a time.
const READ_OCTETS: usize = BLOCK_OCTETS;

/// The content of a message, given chunk by chunk. Canonical as [`Content`] is: lines end with CRLF, no bare CR or LF,
/// no NUL; transparency is added on the way. What is not canonical goes only to servers that offer `BINARYMIME`.
///
/// `Bytes` and `Vec<Bytes>` implement it; [`StoredContent`] is one of a [`Content`], [`FileContent`] one of a part of a
/// file, and [`Chained`] puts one before another.
#[async_trait]
pub trait ContentSource: Send {
    /// Octets of the whole content. Asked before the first chunk is taken; more or fewer octets than that end the
    /// attempt, and the server does not see an end of the content.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next octets; `None` behind the last.
    ///
    /// # Errors
    /// What reading gave: the message is deferred.
    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>>;

    /// Shows all octets to `look`, in order and without taking them, and says `true`; `false` where they are not in
    /// memory. What is in memory can be checked before the server hears of it.
    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        let _ = look;
        false
    }
}

#[async_trait]
impl ContentSource for Bytes {
    fn len(&self) -> u64 {
        Self::len(self) as u64
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Self>> {
        Ok((!Self::is_empty(self)).then(|| std::mem::take(self)))
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        look(self);
        true
    }
}

/// Each part behind the one before.
#[async_trait]
impl ContentSource for Vec<Bytes> {
    fn len(&self) -> u64 {
        self.iter().map(|part| part.len() as u64).sum()
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        Ok((!Self::is_empty(self)).then(|| self.remove(0)))
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        for part in self {
            look(part);
        }
        true
    }
}

#[async_trait]
impl<S: ContentSource + ?Sized> ContentSource for Box<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        (**self).next_chunk().await
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        (**self).look(look)
    }
}

/// One source behind another: new header fields before stored content.
#[derive(Debug)]
pub struct Chained<A, B> {
    first: A,
    second: B,
    first_has_ended: bool,
}

impl<A, B> Chained<A, B> {
    /// All of `first`, then all of `second`.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second, first_has_ended: false }
    }
}

#[async_trait]
impl<A: ContentSource, B: ContentSource> ContentSource for Chained<A, B> {
    fn len(&self) -> u64 {
        self.first.len().saturating_add(self.second.len())
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        if !self.first_has_ended {
            if let Some(chunk) = self.first.next_chunk().await? {
                return Ok(Some(chunk));
            }
            self.first_has_ended = true;
        }
        self.second.next_chunk().await
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        // Both or nothing, or else half of the content would be checked as if it were the whole.
        let mut nobody = |_: &[u8]| {};
        self.first.look(&mut nobody) && self.second.look(&mut nobody) && self.first.look(look) && self.second.look(look)
    }
}

/// Octets of a file, from an offset on. The file is read at places, so that many sources can share it.
#[derive(Debug, Clone)]
pub struct FileContent {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl FileContent {
    /// So many octets from `offset` on.
    pub fn new(file: impl Into<Arc<File>>, offset: u64, octets: u64) -> Self {
        Self { file: file.into(), offset, left: octets }
    }
}

#[async_trait]
impl ContentSource for FileContent {
    fn len(&self) -> u64 {
        self.left
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let octets = usize::try_from(self.left).unwrap_or(READ_OCTETS).min(READ_OCTETS);
        if octets == 0 {
            return Ok(None);
        }
        let (file, offset) = (self.file.clone(), self.offset);
        let chunk = blocking(move || read_at(&file, offset, octets)).await?;
        self.offset += octets as u64;
        self.left -= octets as u64;
        Ok(Some(chunk))
    }
}

/// The octets of a [`Content`], wherever they lie.
#[derive(Debug)]
pub struct StoredContent(Stored);

#[derive(Debug)]
enum Stored {
    Memory(Bytes),
    /// Opened with the first chunk. The content keeps its file there until then.
    Unopened(Content),
    File(FileContent),
}

impl From<&Content> for StoredContent {
    fn from(content: &Content) -> Self {
        Self(match content.as_bytes() {
            Some(octets) => Stored::Memory(octets.clone()),
            None => Stored::Unopened(content.clone()),
        })
    }
}

#[async_trait]
impl ContentSource for StoredContent {
    fn len(&self) -> u64 {
        match &self.0 {
            Stored::Memory(octets) => octets.len() as u64,
            Stored::Unopened(content) => content.len(),
            Stored::File(file) => file.left,
        }
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        if let Stored::Unopened(content) = &self.0 {
            let content = content.clone();
            let open = move || content.path().map_or_else(|| Err(io::ErrorKind::NotFound.into()), File::open);
            let (file, octets) = (blocking(open).await?, self.len());
            self.0 = Stored::File(FileContent::new(file, 0, octets));
        }
        match &mut self.0 {
            Stored::Memory(octets) => octets.next_chunk().await,
            Stored::File(file) => file.next_chunk().await,
            Stored::Unopened(_) => Ok(None),
        }
    }

    fn look(&self, look: &mut dyn FnMut(&[u8])) -> bool {
        match &self.0 {
            Stored::Memory(octets) => octets.look(look),
            Stored::Unopened(_) | Stored::File(_) => false,
        }
    }
}

fn read_at(file: &File, offset: u64, octets: usize) -> io::Result<Bytes> {
    let mut chunk = vec![0; octets];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(file, &mut chunk, offset)?;
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut chunk)?;
    }
    Ok(chunk.into())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
