//! Describes the CI run and the git checkout that events belong to.

pub mod ci;
pub mod git;
