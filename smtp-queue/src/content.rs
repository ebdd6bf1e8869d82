//! The content of a queued message, as it is passed on.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::StorageFile;

/// What is passed on: the header fields of ours, then the octets that arrived. Cheap to copy.
#[derive(Clone)]
pub struct StoredContent {
    head: Bytes,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Memory(Bytes),
    File { file: Arc<dyn StorageFile>, offset: u64, octets: u64 },
}

impl StoredContent {
    /// Of octets in memory.
    pub fn in_memory(head: Bytes, body: Bytes) -> Self {
        Self { head, body: Body::Memory(body) }
    }

    /// Of octets in a file: `octets` of them from `offset` on.
    pub fn in_file(head: Bytes, file: Arc<dyn StorageFile>, offset: u64, octets: u64) -> Self {
        Self { head, body: Body::File { file, offset, octets } }
    }

    /// How many octets there are.
    pub fn len(&self) -> u64 {
        self.head.len() as u64
            + match &self.body {
                Body::Memory(octets) => octets.len() as u64,
                Body::File { octets, .. } => *octets,
            }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both parts, where they are in memory.
    pub fn as_parts(&self) -> Option<[&Bytes; 2]> {
        match &self.body {
            Body::Memory(body) => Some([&self.head, body]),
            Body::File { .. } => None,
        }
    }

    /// Octets from that place on, at most `limit_octets` and at least one; `None` at the end. Blocks where they are in a
    /// file.
    ///
    /// # Errors
    /// What reading the file gave; [`io::ErrorKind::UnexpectedEof`] where it is shorter than it was.
    pub fn chunk(&self, place: u64, limit_octets: usize) -> io::Result<Option<Bytes>> {
        let head_octets = self.head.len() as u64;
        if place >= self.len() || limit_octets == 0 {
            return Ok(None);
        }
        let slice = |octets: &Bytes, from: u64| {
            // It lies within octets in memory.
            let from = usize::try_from(from).unwrap_or(octets.len());
            octets.slice(from..octets.len().min(from.saturating_add(limit_octets)))
        };
        if place < head_octets {
            return Ok(Some(slice(&self.head, place)));
        }
        let place = place - head_octets;
        match &self.body {
            Body::Memory(octets) => Ok(Some(slice(octets, place))),
            Body::File { file, offset, octets } => {
                let wanted = limit_octets.min(usize::try_from(octets - place).unwrap_or(usize::MAX));
                let mut buffer = vec![0; wanted];
                if file.read_at(offset + place, &mut buffer)? < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(Some(buffer.into()))
            }
        }
    }

    /// Reads from the start. Blocks where the content is in a file.
    pub fn reader(&self) -> StoredContentReader {
        StoredContentReader { content: self.clone(), place: 0 }
    }
}

impl fmt::Debug for StoredContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_file = matches!(self.body, Body::File { .. });
        f.debug_struct("StoredContent").field("octets", &self.len()).field("in_file", &in_file).finish_non_exhaustive()
    }
}

/// Reads stored content from its start.
#[derive(Debug)]
pub struct StoredContentReader {
    content: StoredContent,
    place: u64,
}

impl Read for StoredContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(chunk) = self.content.chunk(self.place, buffer.len())? else { return Ok(0) };
        buffer[..chunk.len()].copy_from_slice(&chunk);
        self.place += chunk.len() as u64;
        Ok(chunk.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_put_together_are_the_whole() {
        let whole = b"head and body";
        for limit in 1..20 {
            let content = StoredContent::in_memory(Bytes::from_static(b"head "), Bytes::from_static(b"and body"));
            let mut place = 0;
            let mut found = Vec::new();
            while let Some(chunk) = content.chunk(place, limit).expect("in memory") {
                place += chunk.len() as u64;
                found.extend_from_slice(&chunk);
            }
            assert_eq!(found, whole);
        }
    }
}
