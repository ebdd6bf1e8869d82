//! Small programs to copy: see the files beside this folder.
