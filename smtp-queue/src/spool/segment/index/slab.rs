//! Numbered places for many small values: a number stays the same while its value is there.

/// Values in chunks, so that growth moves nothing.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

const CHUNK: usize = 4096;

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    /// Puts a value somewhere and says where.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut().expect("one was pushed if there was none");
        last.push(value);
        u32::try_from(full + last.len() - 1).expect("memory ends long before the numbers do")
    }

    /// How many numbers were given out, whether or not their places are free again.
    pub(super) fn len(&self) -> u32 {
        let count = self.chunks.iter().map(Vec::len).sum::<usize>();
        u32::try_from(count).expect("memory ends long before the numbers do")
    }

    /// Gives a place free. What lies there stays until the place is used again.
    pub(super) fn release(&mut self, number: u32) {
        self.free.push(number);
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, number: u32) -> &T {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }
}
