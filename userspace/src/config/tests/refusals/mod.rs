//! Everything that is refused, with its exact place.

mod backends;
mod conflicts;
mod kinds;
mod references;
mod rules;
mod security;
mod syntax;
