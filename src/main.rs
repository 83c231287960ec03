//! The `opdflow` command.
fn main() {}
