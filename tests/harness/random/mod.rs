//! Random tables and random frames, the same for the same [`Chance`](crate::chance::Chance).

mod around;
mod garbage;
mod grammar;
mod scenes;

pub use garbage::{bytes, damage};
pub use grammar::Grammar;
pub use scenes::{disturb, disturb_ways, scene, scene_with_ways};
