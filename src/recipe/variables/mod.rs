//! What is written once and stands for several values: variables, matrices, what the command line sets.

pub(crate) mod expand;
pub(crate) mod matrix;
pub(crate) mod outside;
pub(crate) mod repeat;
pub(crate) mod set;
pub(crate) mod varfile;
pub(crate) mod vars;
