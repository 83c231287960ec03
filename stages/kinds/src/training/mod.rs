//! What the numbers of a training are held against before it runs, the rules by which one ends, and what is seen of it on its way.

pub mod alarm;
pub mod budget;
pub mod course_doubts;
pub mod samples;
pub mod until;
