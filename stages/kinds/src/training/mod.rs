//! What the numbers of a training are held against before it runs.

pub mod alarm;
pub mod course_doubts;
