//! An open file of the simulation.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::disk::{Handle, first_octets};
use super::names::Inode;
use super::{Dice, FaultEffect, OperationKind, PowerLoss, SimStorage};
use crate::storage::StorageFile;

/// A file, open for reading and writing.
#[derive(Debug)]
pub(super) struct SimFile {
    storage: SimStorage,
    inode: Inode,
    name: Arc<str>,
    _handle: Handle,
}

impl SimFile {
    pub(super) fn new(storage: SimStorage, inode: Inode, name: Arc<str>, handle: Handle) -> Self {
        Self { storage, inode, name, _handle: handle }
    }
}

impl StorageFile for SimFile {
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let octets = slices.iter().map(|slice| slice.len() as u64).sum();
        let mut state = self.storage.state();
        let (number, fault) = state.begin(OperationKind::Write, &self.name, [offset, octets]);
        let written = match fault.map(|fault| fault.effect) {
            None | Some(FaultEffect::Whole) => octets,
            Some(FaultEffect::Part) => state.random.u64(..=octets),
            Some(FaultEffect::None | FaultEffect::Forgotten) => 0,
        };
        let done = if written == octets {
            state.disk.write(number, OperationKind::Write, self.inode, offset, slices)
        } else {
            let some = first_octets(slices, written);
            state.disk.write(number, OperationKind::Write, self.inode, offset, &[IoSlice::new(&some)])
        };
        fault.map_or(done, |fault| Err(fault.error.error()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = buffer.len() as u64;
        let read = |disk: &mut super::Disk, _| Ok(disk.read(self.inode, offset, buffer));
        self.storage.run(OperationKind::Read, &self.name, [offset, octets], read)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.storage.state();
        let (_, fault) = state.begin(OperationKind::Sync, &self.name, [0; 2]);
        match fault.map(|fault| fault.effect) {
            None | Some(FaultEffect::Whole) => state.disk.sync(self.inode),
            Some(FaultEffect::Part) => {
                let loss = PowerLoss::Random(state.random.u64(..));
                state.disk.sync_partly(self.inode, &mut Dice::new(loss));
            }
            Some(FaultEffect::Forgotten) => state.disk.sync_partly(self.inode, &mut Dice::new(PowerLoss::AllLost)),
            Some(FaultEffect::None) => {}
        }
        fault.map_or(Ok(()), |fault| Err(fault.error.error()))
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        let allocate = |disk: &mut super::Disk, number| disk.allocate(number, self.inode, octets);
        self.storage.run(OperationKind::Allocate, &self.name, [0, octets], allocate)
    }

    fn octets(&self) -> io::Result<u64> {
        self.storage.run(OperationKind::Octets, &self.name, [0; 2], |disk, _| Ok(disk.octets(self.inode)))
    }
}
