//! The benches stand in the files beside this folder.
