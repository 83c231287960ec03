//! Commands on the store and on what lies in it.

pub(crate) mod deliver;
pub(crate) mod du;
pub(crate) mod export;
mod export_as;
mod found;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod get_as;
mod get_card;
pub(crate) mod import;
pub(crate) mod lineage;
mod lock;
pub(crate) mod pin;
pub(crate) mod verify;
