//! A kernel of Debian, taken out of its package: the bare ELF image, which boots
//! faster than the compressed one, and the modules a guest needs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::debian::Debian;
use crate::process;

/// Modules of the guest; what they depend on comes along.
const MODULES: &[&str] = &[
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "veth",
    "8021q",
    "bridge",
    "virtio_net",
    "igb",
];

/// A kernel that is ready to boot.
pub(crate) struct Kernel {
    /// As asked for, like `6.1`.
    pub(crate) series: String,
    /// As `uname -r` says.
    pub(crate) release: String,
    /// The uncompressed image.
    pub(crate) image: PathBuf,
    /// Modules in the order to load them.
    pub(crate) modules: Vec<PathBuf>,
}

/// The kernel from the cache, else from the mirror.
pub(crate) fn fetch(debian: &Debian, series: &str) -> Result<Kernel> {
    let folder = debian.cache.join(format!("linux-{series}"));
    if !is_complete(&folder) {
        unpack(debian, series, &folder)?;
    }
    let release = std::fs::read_to_string(folder.join("release"))?;
    let order = std::fs::read_to_string(folder.join("modules/order"))?;
    let modules = order
        .lines()
        .map(|name| folder.join("modules").join(name))
        .collect();
    Ok(Kernel {
        series: series.to_owned(),
        release,
        image: folder.join("vmlinux"),
        modules,
    })
}

/// Whether a folder of the cache holds a kernel with the modules that are wanted now.
fn is_complete(folder: &Path) -> bool {
    let modules = std::fs::read_to_string(folder.join("modules/wanted"));
    folder.join("release").exists() && modules.is_ok_and(|names| names == MODULES.join(" "))
}

fn unpack(debian: &Debian, series: &str, folder: &Path) -> Result<()> {
    let package = debian.newest_kernel(series)?;
    println!("fetching {package}");
    let file = debian.download(&package)?;
    let whole = debian.cache.join(format!("linux-{series}.unpacked"));
    for old in [&whole, &folder.to_owned()] {
        if old.exists() {
            std::fs::remove_dir_all(old)?;
        }
    }
    process::read(process::system("dpkg-deb").arg("-x").args([&file, &whole]))?;
    std::fs::create_dir_all(folder.join("modules"))?;
    let (compressed, release) = image_in(&whole.join("boot"))?;
    let image = decompress(&std::fs::read(compressed)?)?;
    std::fs::write(folder.join("vmlinux"), image)?;
    copy_modules(&whole, &release, &folder.join("modules"))?;
    std::fs::remove_dir_all(&whole)?;
    debian.forget_downloads();
    // Written last: its presence says that the rest is complete.
    std::fs::write(folder.join("release"), release)?;
    Ok(())
}

fn image_in(boot: &Path) -> Result<(PathBuf, String)> {
    for entry in std::fs::read_dir(boot)? {
        let entry = entry?;
        if let Some(release) = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-") {
            return Ok((entry.path(), release.to_owned()));
        }
    }
    bail!("the package holds no kernel image");
}

/// Copies the modules, decompressed, and writes down their order.
fn copy_modules(whole: &Path, release: &str, folder: &Path) -> Result<()> {
    let base = if whole.join("usr/lib/modules").is_dir() {
        whole.join("usr")
    } else {
        whole.to_owned()
    };
    process::read(process::system("depmod").arg("-b").arg(&base).arg(release))?;
    let mut order: Vec<String> = Vec::new();
    for module in MODULES {
        let mut list = process::system("modprobe");
        // Without this machine's settings, which may add options.
        list.args(["-C", "/dev/null", "-S", release, "-d"])
            .arg(&base);
        list.args(["--show-depends", module]);
        for line in process::read(&mut list)?.lines() {
            let Some(path) = line.strip_prefix("insmod ") else {
                continue;
            };
            let path = Path::new(path.trim());
            let name = module_name(path)?;
            if !order.contains(&name) {
                std::fs::write(folder.join(&name), read_module(path)?)?;
                order.push(name);
            }
        }
    }
    std::fs::write(folder.join("order"), order.join("\n"))?;
    std::fs::write(folder.join("wanted"), MODULES.join(" "))?;
    Ok(())
}

fn module_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (stem, _) = name
        .and_then(|name| name.split_once(".ko"))
        .with_context(|| format!("{} is no module", path.display()))?;
    Ok(format!("{stem}.ko"))
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => filter("xz", &bytes),
        Some("zst") => filter("zstd", &bytes),
        _ => Ok(bytes),
    }
}

/// Finds the compressed image inside a bootable one: the boot protocol tells
/// where it is (`payload_offset`, `payload_length` after the set-up sectors).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        count => usize::from(count),
    };
    let start = (sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}

fn decompress(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image).context("the kernel image has no payload")?;
    // Behind all but gzip stands the size of the image, four bytes that are not
    // part of the compressed stream.
    let stream = &payload[..payload.len().saturating_sub(4)];
    let elf = match payload {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => filter("xz", stream)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => filter("zstd", stream)?,
        [0x1f, 0x8b, ..] => filter("gzip", payload)?,
        _ => bail!("the kernel image is compressed in an unknown way"),
    };
    if !elf.starts_with(b"\x7fELF") {
        bail!("the kernel image does not unpack to an ELF file");
    }
    Ok(elf)
}

/// Sends bytes through a decompressor.
fn filter(program: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut input = child.stdin.take().expect("the input is a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        bail!("{program} could not decompress ({})", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_lies_behind_the_set_up_sectors() {
        let mut image = vec![0_u8; 4096];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&4_u32.to_le_bytes());
        image[1024 + 16..1024 + 20].copy_from_slice(b"body");
        assert_eq!(payload(&image), Some(b"body".as_slice()));
    }

    #[test]
    fn a_payload_beyond_the_file_is_refused() {
        let mut image = vec![0_u8; 1024];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b"short"), None);
    }

    #[test]
    fn module_names_lose_their_compression() {
        let name = module_name(Path::new("/lib/modules/1/kernel/fs/9p/9p.ko.xz"));
        assert_eq!(name.unwrap(), "9p.ko");
        assert!(module_name(Path::new("/lib/modules/1/modules.dep")).is_err());
    }
}
