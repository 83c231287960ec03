//! The kinds of stage, a file each: parameters, ports, checks and estimates. What they do when they run is in
//! `opdflow-worker`, under the same names.

pub mod base_model;
pub mod distill;
pub mod embed;
pub mod evaluate;
pub mod figure;
pub mod gradient_table;
pub mod gradient_variance;
pub mod import_lora;
pub mod merge_loras;
pub mod note;
pub mod pretrain;
pub mod prompts;
pub mod reward_model;
pub mod score_candidates;
pub mod select_checkpoint;
pub mod served_reward;
pub mod table;
pub mod train_teacher;
