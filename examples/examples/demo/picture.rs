//! Pixels in, PNG out: reads the program's files, puts tiles together, writes the picture.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::plan::{Area, Size};

/// Bytes of a pixel: red, green, blue.
const PIXEL: usize = 3;

/// A picture in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    size: Size,
    bytes: Vec<u8>,
}

impl Picture {
    /// A black one.
    pub(crate) fn new(size: Size) -> Self {
        Self { size, bytes: vec![0; size.width as usize * size.height as usize * PIXEL] }
    }

    /// Reads what the program writes: one line, then the pixels.
    ///
    /// # Errors
    /// If it is something else, or of another size than `size`.
    pub(crate) fn from_ppm(ppm: &[u8], size: Size) -> anyhow::Result<Self> {
        let head = format!("P6 {} {} 255\n", size.width, size.height);
        let bytes =
            ppm.strip_prefix(head.as_bytes()).context("the picture's header is not the one expected")?;
        let expected = Self::new(size).bytes.len();
        ensure!(bytes.len() == expected, "the picture has {} bytes instead of {expected}", bytes.len());
        Ok(Self { size, bytes: bytes.to_vec() })
    }

    /// Puts a tile in its place.
    pub(crate) fn put(&mut self, area: Area, tile: &Self) {
        let length = area.size.width as usize * PIXEL;
        for (row, line) in tile.bytes.chunks_exact(length).enumerate() {
            let start = ((area.top as usize + row) * self.size.width as usize + area.left as usize) * PIXEL;
            self.bytes[start..start + length].copy_from_slice(line);
        }
    }

    /// The colour of a pixel.
    pub(crate) fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let start = (y as usize * self.size.width as usize + x as usize) * PIXEL;
        [self.bytes[start], self.bytes[start + 1], self.bytes[start + 2]]
    }

    /// The picture as a PNG. The same pixels give the same bytes: nothing in it depends on when or where.
    ///
    /// # Errors
    /// None that is expected: it is written to memory.
    pub(crate) fn png(&self) -> anyhow::Result<Vec<u8>> {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, self.size.width, self.size.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.bytes)?;
        writer.finish()?;
        Ok(png)
    }
}

/// Writes a file that is there whole or not at all; two demos may write it at once.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file = tempfile::Builder::new().prefix(".picture-").permissions(mode).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 3, height: 2 };

    #[test]
    fn tiles_make_the_whole() {
        let whole: Vec<u8> = (0..18).collect();
        let mut picture = Picture::new(SIZE);
        let parts =
            [(0, 1, vec![0, 1, 2, 9, 10, 11]), (1, 2, vec![3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17])];
        for (left, width, bytes) in parts {
            let size = Size { width, height: 2 };
            let ppm = [format!("P6 {width} 2 255\n").as_bytes(), &bytes].concat();
            picture.put(Area { left, top: 0, size }, &Picture::from_ppm(&ppm, size).unwrap());
        }
        assert_eq!(picture.bytes, whole);
        assert_eq!(picture.pixel(1, 1), [12, 13, 14]);
        assert_eq!(picture.png().unwrap(), picture.clone().png().unwrap());
        assert!(picture.png().unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    }

    #[test]
    fn what_is_not_the_picture_is_refused() {
        let table: [&[u8]; 4] =
            [b"", b"P6 3 2 255\n", b"P6 2 3 255\n012345678901234567", b"P6 3 2 255\n0123456789012345678"];
        for ppm in table {
            assert!(Picture::from_ppm(ppm, SIZE).is_err(), "{}", String::from_utf8_lossy(ppm));
        }
    }
}
