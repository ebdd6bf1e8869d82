//! The octets of a file in sectors: what a disk writes whole or not at all.
//!
//! Copies share their sectors, and each image keeps a hash of itself up to date, because the simulation makes and
//! compares millions of them.

use std::io::IoSlice;
use std::sync::Arc;

/// Octets of a sector.
pub(super) const SECTOR_OCTETS: usize = 512;

const SECTOR: u64 = SECTOR_OCTETS as u64;

/// One sector that is not all zeros.
#[derive(Debug)]
pub(super) struct Sector {
    octets: [u8; SECTOR_OCTETS],
    hash: u64,
}

/// What a place on the disk holds; `None` is zeros.
pub(super) type Held = Option<Arc<Sector>>;

fn held(octets: &[u8; SECTOR_OCTETS]) -> Held {
    let hash = octets.iter().any(|&octet| octet != 0).then(|| hash_octets(octets))?;
    Some(Arc::new(Sector { octets: *octets, hash }))
}

/// The octets of a file at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    /// What lies behind the last one is zeros up to the length.
    sectors: Arc<Vec<Held>>,
    octets: u64,
    /// The sum of what each sector adds: so that changing one costs nothing.
    sum: u64,
}

impl Image {
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// A number that tells images of different octets or lengths apart.
    pub(super) fn hash(&self) -> u64 {
        mix(self.sum ^ mix(self.octets))
    }

    pub(super) fn sector(&self, index: usize) -> Held {
        self.sectors.get(index).cloned().flatten()
    }

    pub(super) fn put(&mut self, index: usize, new: Held) {
        if new.is_none() && index >= self.sectors.len() {
            return;
        }
        let sectors = Arc::make_mut(&mut self.sectors);
        if index >= sectors.len() {
            sectors.resize(index + 1, None);
        }
        let part = |held: &Held| held.as_ref().map_or(0, |sector| mix(sector.hash ^ mix(index as u64 + 1)));
        self.sum = self.sum.wrapping_sub(part(&sectors[index])).wrapping_add(part(&new));
        sectors[index] = new;
    }

    /// Makes it that long: what was behind is gone, what is new is zeros.
    pub(super) fn set_octets(&mut self, octets: u64) {
        let shrinks = octets < self.octets;
        self.octets = octets;
        if !shrinks {
            return;
        }
        let (last, rest) = place(octets);
        let first_gone = last + usize::from(rest > 0);
        for index in first_gone..self.sectors.len() {
            self.put(index, None);
        }
        if let Some(mut cut) = self.sector(last).filter(|_| rest > 0).map(|sector| sector.octets) {
            cut[rest..].fill(0);
            self.put(last, held(&cut));
        }
    }

    /// Reads from that place on; how many octets there were.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let there = usize::try_from(self.octets.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let (mut index, mut within) = place(offset);
        let mut rest = &mut buffer[..there];
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(rest.len().min(SECTOR_OCTETS - within));
            match self.sectors.get(index) {
                Some(Some(sector)) => now.copy_from_slice(&sector.octets[within..within + now.len()]),
                _ => now.fill(0),
            }
            (index, within, rest) = (index + 1, 0, later);
        }
        there
    }

    /// What the sectors hold once that is written over them; the image itself does not change.
    pub(super) fn written(&self, offset: u64, slices: &[IoSlice<'_>]) -> Vec<(usize, Held)> {
        let mut new = Vec::new();
        let (mut index, mut within) = place(offset);
        let mut sector: Option<[u8; SECTOR_OCTETS]> = None;
        for slice in slices {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(SECTOR_OCTETS - within));
                let before = || self.sector(index).map_or([0; SECTOR_OCTETS], |sector| sector.octets);
                sector.get_or_insert_with(before)[within..within + now.len()].copy_from_slice(now);
                within += now.len();
                if within == SECTOR_OCTETS {
                    new.extend(sector.take().map(|octets| (index, held(&octets))));
                    (index, within) = (index + 1, 0);
                }
                rest = later;
            }
        }
        new.extend(sector.map(|octets| (index, held(&octets))));
        new
    }

    /// Turns one bit over; `false` where the file ends before it.
    pub(super) fn flip(&mut self, offset: u64, bit: u32) -> bool {
        let (index, within) = place(offset);
        let mut octets = self.sector(index).map_or([0; SECTOR_OCTETS], |sector| sector.octets);
        octets[within] ^= 1 << (bit & 7);
        let there = offset < self.octets;
        if there {
            self.put(index, held(&octets));
        }
        there
    }
}

/// The sector in which an octet lies, and where in it.
fn place(offset: u64) -> (usize, usize) {
    // A file of so many sectors could not be held anyway.
    let index = usize::try_from(offset / SECTOR).unwrap_or(usize::MAX / 2);
    (index, usize::try_from(offset % SECTOR).unwrap_or_default())
}

/// Spreads what differs in few bits over all of them.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 32).wrapping_mul(0x9fb2_1c65_1e98_df25);
    let number = (number ^ number >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ number >> 32
}

/// A hash of octets. Four at a time, so that none waits for the one before.
pub(super) fn hash_octets(octets: &[u8]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    for (place, word) in octets.chunks(8).enumerate() {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        let lane = &mut lanes[place % 4];
        *lane = (*lane ^ u64::from_le_bytes(padded)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    lanes.into_iter().fold(octets.len() as u64, |hash, lane| mix(hash ^ lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(model: &[u8]) -> Image {
        let mut image = Image::default();
        for (index, new) in image.written(0, &[IoSlice::new(model)]) {
            image.put(index, new);
        }
        image.set_octets(model.len() as u64);
        image
    }

    #[test]
    fn an_image_reads_as_the_octets_written_and_equal_octets_hash_alike() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut image, mut model) = (Image::default(), Vec::new());
            for _ in 0..20 {
                let (offset, length) = (random.usize(..3000), random.usize(..2000));
                let octets: Vec<u8> = (0..length).map(|_| random.u8(..4) / 3).collect();
                if random.u8(..8) == 0 {
                    model.resize(offset, 0);
                    image.set_octets(offset as u64);
                    continue;
                }
                let (front, back) = octets.split_at(random.usize(..=length));
                let new = image.written(offset as u64, &[IoSlice::new(front), IoSlice::new(&[]), IoSlice::new(back)]);
                for (index, sector) in new {
                    image.put(index, sector);
                }
                let end = offset + length;
                if end > model.len() && length > 0 {
                    model.resize(end, 0);
                    image.set_octets(end as u64);
                }
                model[offset.min(end)..end.min(offset + length)][..length].copy_from_slice(&octets);
            }
            let mut found = vec![7; model.len() + 10];
            assert_eq!(image.read(0, &mut found), model.len(), "seed {seed}");
            assert_eq!(found[..model.len()], model, "seed {seed}");
            assert_eq!(image.hash(), image_of(&model).hash(), "seed {seed}");
            if !model.is_empty() {
                let place = random.usize(..model.len()) as u64;
                assert!(image.flip(place, random.u32(..8)));
                assert_ne!(image.hash(), image_of(&model).hash(), "seed {seed}");
            }
        }
    }
}
