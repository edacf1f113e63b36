//! What is rendered, by whom, at which price. Plain data and arithmetic.

use std::num::NonZero;
use std::str::FromStr;

/// A picture that is longer does not fit into one file of a job, and has to fit once: rendered alone.
const PIXELS_MAX: u32 = 5_000_000;
/// Jobs that the requester is given at once.
const TILES_MAX: u32 = 240;

/// What every tile asks for. A tile computes on one thread, and renders line by line.
pub(crate) const TILE_CPU_MILLIS: u64 = 1000;
/// Memory of a tile, in MiB.
pub(crate) const TILE_MEMORY_MIB: u64 = 64;
/// Disk of a tile, in MiB.
pub(crate) const TILE_DISK_MIB: u64 = 16;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Pixels in a row.
    pub(crate) width: u32,
    /// Rows.
    pub(crate) height: u32,
}

/// Columns and rows of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Tiles in a row.
    pub(crate) columns: u32,
    /// Rows of tiles.
    pub(crate) rows: u32,
}

fn pair(text: &str) -> Result<(u32, u32), String> {
    let malformed = || format!("{text:?}: two numbers with an x between them are needed");
    let (first, second) = text.split_once('x').ok_or_else(malformed)?;
    let number = |text: &str| text.parse::<NonZero<u32>>().map(NonZero::get).map_err(|_| malformed());
    Ok((number(first)?, number(second)?))
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        pair(text).map(|(width, height)| Self { width, height })
    }
}

impl FromStr for Grid {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        pair(text).map(|(columns, rows)| Self { columns, rows })
    }
}

/// A part of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    /// First column of pixels.
    pub(crate) left: u32,
    /// First row of pixels.
    pub(crate) top: u32,
    /// Its own size.
    pub(crate) size: Size,
}

/// One who offers capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Provider {
    /// What it is called here.
    pub(crate) name: &'static str,
    /// Cores it shares; less on a machine that has fewer.
    pub(crate) cores: u32,
    /// Memory it shares, in MiB.
    pub(crate) memory_mib: u64,
    /// Its price, in credits per core and hour.
    pub(crate) core_hour: &'static str,
    /// Its price, in credits per GiB of memory and hour.
    pub(crate) memory_gib_hour: &'static str,
    /// Its colour while it renders a tile.
    pub(crate) colour: [u8; 3],
}

/// The cheap one is small, the large one is dearer, and the dearest has cores to spare but memory for one tile only:
/// so the cheap one is full most of the time, and there is something to decline.
pub(crate) const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "alice",
        cores: 1,
        memory_mib: 256,
        core_hour: "0.04",
        memory_gib_hour: "0.01",
        colour: [214, 84, 66],
    },
    Provider {
        name: "bob",
        cores: 2,
        memory_mib: 256,
        core_hour: "0.06",
        memory_gib_hour: "0.02",
        colour: [70, 128, 200],
    },
    Provider {
        name: "carol",
        cores: 2,
        memory_mib: 96,
        core_hour: "0.10",
        memory_gib_hour: "0.01",
        colour: [84, 168, 110],
    },
];

/// What is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The whole picture.
    pub(crate) size: Size,
    /// Rays per pixel.
    pub(crate) samples: u32,
    /// The tiles.
    pub(crate) grid: Grid,
}

impl Plan {
    /// A plan that the program can carry out.
    ///
    /// # Errors
    /// A sentence that says what is too much.
    pub(crate) fn new(size: Size, samples: u32, grid: Grid) -> Result<Self, String> {
        let is_too_large = size.width.checked_mul(size.height).is_none_or(|pixels| pixels > PIXELS_MAX);
        if is_too_large || size.width > 8192 || size.height > 8192 {
            return Err(format!("--size: at most {PIXELS_MAX} pixels, and 8192 in a row or column"));
        }
        if grid.columns > size.width || grid.rows > size.height {
            return Err("--grid: finer than the picture's pixels".to_owned());
        }
        if grid.columns.checked_mul(grid.rows).is_none_or(|tiles| tiles > TILES_MAX) {
            return Err(format!("--grid: at most {TILES_MAX} tiles"));
        }
        Ok(Self { size, samples, grid })
    }

    /// How many tiles there are.
    pub(crate) fn tile_count(&self) -> usize {
        (self.grid.columns * self.grid.rows) as usize
    }

    /// Which pixels a tile has; the program reckons the same.
    pub(crate) fn area(&self, tile: usize) -> Area {
        let Grid { columns, rows } = self.grid;
        let tile = u32::try_from(tile).unwrap_or(u32::MAX);
        let (column, row) = (tile % columns, tile / columns);
        let cut = |whole: u32, part: u32, parts: u32| {
            u32::try_from(u64::from(whole) * u64::from(part) / u64::from(parts)).unwrap_or(whole)
        };
        let (left, right) =
            (cut(self.size.width, column, columns), cut(self.size.width, column + 1, columns));
        let (top, bottom) = (cut(self.size.height, row, rows), cut(self.size.height, row + 1, rows));
        Area { left, top, size: Size { width: right - left, height: bottom - top } }
    }

    /// The tile that a pixel belongs to.
    pub(crate) fn tile_at(&self, x: u32, y: u32) -> usize {
        (0..self.tile_count())
            .find(|tile| {
                let Area { left, top, size } = self.area(*tile);
                (left..left + size.width).contains(&x) && (top..top + size.height).contains(&y)
            })
            .unwrap_or(0)
    }

    /// The program's arguments for the whole picture.
    pub(crate) fn whole_arguments(&self) -> Vec<String> {
        let Size { width, height } = self.size;
        ["--size", &format!("{width}x{height}"), "--samples", &self.samples.to_string()]
            .map(str::to_owned)
            .to_vec()
    }

    /// The program's arguments for one tile.
    pub(crate) fn tile_arguments(&self, tile: usize) -> Vec<String> {
        let Grid { columns, rows } = self.grid;
        let mut arguments = self.whole_arguments();
        arguments
            .extend(["--grid", &format!("{columns}x{rows}"), "--tile", &tile.to_string()].map(str::to_owned));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size: &str, grid: &str) -> Result<Plan, String> {
        Plan::new(size.parse()?, 1, grid.parse()?)
    }

    #[test]
    fn every_pixel_belongs_to_exactly_one_tile() {
        for (size, grid) in [("720x480", "6x4"), ("23x17", "4x3"), ("7x5", "7x5"), ("9x9", "1x1")] {
            let plan = plan(size, grid).unwrap();
            let mut seen = vec![0; (plan.size.width * plan.size.height) as usize];
            for tile in 0..plan.tile_count() {
                let area = plan.area(tile);
                for y in area.top..area.top + area.size.height {
                    for x in area.left..area.left + area.size.width {
                        seen[(y * plan.size.width + x) as usize] += 1;
                        assert_eq!(plan.tile_at(x, y), tile);
                    }
                }
            }
            assert!(seen.iter().all(|count| *count == 1), "{size} {grid}");
        }
    }

    #[test]
    fn what_cannot_be_rendered_is_refused() {
        let table = [
            ("9000x10", "1x1", "--size"),
            ("8000x8000", "1x1", "--size"),
            ("4x4", "5x1", "--grid"),
            ("720x480", "20x20", "--grid"),
            ("720", "1x1", "two numbers"),
            ("0x4", "1x1", "two numbers"),
            ("4x4", "x", "two numbers"),
        ];
        for (size, grid, expected) in table {
            let error = plan(size, grid).unwrap_err();
            assert!(error.contains(expected), "{size} {grid}: {error}");
        }
    }

    #[test]
    fn the_cheaper_the_fuller() {
        let price = |provider: &Provider| provider.core_hour.parse::<f64>().unwrap();
        assert!(PROVIDERS.windows(2).all(|pair| price(&pair[0]) < price(&pair[1])));
        assert!(PROVIDERS.iter().all(|provider| provider.memory_mib >= TILE_MEMORY_MIB));
    }
}
