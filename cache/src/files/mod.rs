//! Bytes on the disk: how files come into the store and out of it, and what the file system must promise for that.

pub(crate) mod beside;
pub(crate) mod blob;
pub(crate) mod deliver;
pub(crate) mod disk;
pub(crate) mod failpoint;
pub(crate) mod hash;
pub(crate) mod outside;
pub(crate) mod permission;
pub(crate) mod place;
pub(crate) mod put;
pub(crate) mod sealed;
pub(crate) mod settle;
