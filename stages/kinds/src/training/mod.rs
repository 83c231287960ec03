//! What the numbers of a training are held against before it runs, and the rules by which one ends.

pub mod alarm;
pub mod budget;
pub mod course_doubts;
pub mod until;
