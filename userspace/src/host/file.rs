//! Files that must be whole after a power cut, and are nobody else's business.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts a file in place whole, readable by its owner alone.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}
