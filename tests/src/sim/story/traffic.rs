//! Who talked to whom: bytes from node to node, on direct streams and by gossip.
//!
//! A few nodes stand on a circle, with an edge for each pair that talked; many are a map with a cell for each pair, or
//! for each pair of groups.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use crate::sim::facts::{Channel, NodeIndex};

use super::svg::{Canvas, MARGIN, WIDTH, bytes};

/// More nodes than this are a map.
const ON_A_CIRCLE: usize = 40;
/// The most rows of a map; more nodes share rows.
const ROWS: usize = 128;
/// Pairs that are named beside the circle.
const NAMED_PAIRS: usize = 14;

/// What one node, or a pair of them, got.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    stream: u64,
    gossip: u64,
}

impl Heard {
    fn total(self) -> u64 {
        self.stream + self.gossip
    }

    fn add(&mut self, other: Self) {
        self.stream += other.stream;
        self.gossip += other.gossip;
    }
}

/// All bytes by who said and who heard them.
#[derive(Debug, Default)]
pub(super) struct Traffic(BTreeMap<(NodeIndex, NodeIndex), Heard>);

impl Traffic {
    pub(super) fn heard(&mut self, from: NodeIndex, to: NodeIndex, by: Channel, bytes: u64) {
        let heard = match by {
            Channel::Stream => Heard { stream: bytes, gossip: 0 },
            Channel::Gossip => Heard { stream: 0, gossip: bytes },
        };
        self.0.entry((from, to)).or_default().add(heard);
    }

    /// All bytes, in words.
    pub(super) fn counts(&self) -> String {
        let mut all = Heard::default();
        self.0.values().for_each(|heard| all.add(*heard));
        format!("{} on streams, {} by gossip", bytes(all.stream), bytes(all.gossip))
    }

    /// Draws from `top`, and gives where it ended.
    pub(super) fn draw(
        &self,
        canvas: &mut Canvas,
        top: f64,
        node_count: usize,
        crashes: &dyn Fn(NodeIndex) -> usize,
        is_breached: &dyn Fn(NodeIndex) -> bool,
    ) -> f64 {
        canvas.text(MARGIN, top + 16.0, "h2", "Who talked to whom");
        if node_count > ON_A_CIRCLE {
            return self.draw_map(canvas, top + 30.0, node_count, crashes);
        }
        let circle = Circle { centre: [430.0, top + 370.0], radius: 290.0, node_count };
        self.draw_edges(canvas, &circle);
        for node in 0..node_count {
            let [x, y] = circle.place(node, 1.0);
            let class = if is_breached(node) { "disc-bad" } else { "disc" };
            canvas.disc(class, [x, y], if node_count <= 16 { 21.0 } else { 15.0 });
            canvas.text(x, y + 4.0, "node mid", &format!("n{node}"));
            let count = crashes(node);
            if count > 0 {
                let [x, y] = circle.place(node, 1.14);
                canvas.cross([x - 9.0, y], 5.0);
                canvas.text(x + 1.0, y + 4.5, "bad", &count.to_string());
            }
        }
        self.draw_pairs(canvas, top + 40.0);
        top + 730.0
    }

    /// Both directions of each pair together.
    fn pairs(&self) -> BTreeMap<(NodeIndex, NodeIndex), Heard> {
        let mut pairs = BTreeMap::<_, Heard>::new();
        for (&(from, to), heard) in &self.0 {
            pairs.entry((from.min(to), from.max(to))).or_default().add(*heard);
        }
        pairs
    }

    fn draw_edges(&self, canvas: &mut Canvas, circle: &Circle) {
        let pairs = self.pairs();
        let most =
            pairs.values().map(|heard| heard.stream.max(heard.gossip)).max().unwrap_or_default().max(1);
        let share = |count: u64| (count as f64 / most as f64).sqrt();
        let widest = if circle.node_count <= 16 { 8.0 } else { 3.5 };
        // The quiet ones first, so that the busy ones are seen.
        let mut edges: Vec<_> = pairs
            .iter()
            .flat_map(|(pair, heard)| [(heard.gossip, "gossip", *pair), (heard.stream, "stream", *pair)])
            .filter(|(count, _, (one, other))| *count > 0 && one != other)
            .collect();
        edges.sort_unstable();
        for (count, class, (one, other)) in edges {
            let (from, to) = (circle.place(one, 1.0), circle.place(other, 1.0));
            let bend = if class == "stream" { 0.08 } else { -0.08 };
            let towards = [
                f64::midpoint(from[0], to[0]) - bend * (to[1] - from[1]),
                f64::midpoint(from[1], to[1]) + bend * (to[0] - from[0]),
            ];
            let words = format!("n{one} and n{other}, {class}: {}", bytes(count));
            let weight = [0.8 + widest * share(count), 0.3 + 0.55 * share(count)];
            canvas.curve(class, [from, towards, to], weight, &words);
        }
    }

    /// The legend of the circle, and the pairs that talked most.
    fn draw_pairs(&self, canvas: &mut Canvas, top: f64) {
        let x = 900.0;
        let sample = |canvas: &mut Canvas, y: f64, class, text| {
            let (from, to) = ([x, y], [x + 60.0, y]);
            canvas.curve(class, [from, from, to], [4.0, 0.85], "");
            canvas.text(x + 76.0, y + 4.5, "", text);
        };
        sample(canvas, top, "stream", "direct streams; as wide as the root of the bytes, both ways together");
        sample(canvas, top + 26.0, "gossip", "gossip");
        canvas.cross([x + 30.0, top + 52.0], 5.0);
        canvas.text(x + 76.0, top + 56.5, "", "the node lost its power, so many times");
        canvas.disc("disc-bad", [x + 30.0, top + 80.0], 10.0);
        canvas.text(x + 76.0, top + 84.5, "", "a promise was broken there");
        let mut pairs: Vec<_> = self.pairs().into_iter().filter(|((one, other), _)| one != other).collect();
        pairs.sort_by_key(|(pair, heard)| (std::cmp::Reverse(heard.total()), *pair));
        let mut y = top + 136.0;
        canvas.text(x, y, "h2", "The busiest pairs");
        y += 30.0;
        let columns = [x + 230.0, x + 350.0, x + 510.0, x + 630.0];
        canvas.text(columns[0], y, "small end", "on streams →");
        canvas.text(columns[1], y, "small end", "←");
        canvas.text(columns[2], y, "small end", "by gossip →");
        canvas.text(columns[3], y, "small end", "←");
        for ((one, other), _) in pairs.iter().take(NAMED_PAIRS) {
            y += 26.0;
            canvas.line("grid", [x, y - 17.5, WIDTH - MARGIN, y - 17.5]);
            canvas.text(x, y, "", &format!("n{one} → n{other}"));
            let there = self.0.get(&(*one, *other)).copied().unwrap_or_default();
            let back = self.0.get(&(*other, *one)).copied().unwrap_or_default();
            let amounts = [there.stream, back.stream, there.gossip, back.gossip];
            for (x, amount) in columns.iter().zip(amounts) {
                let text = if amount == 0 { "·".to_owned() } else { bytes(amount) };
                canvas.text(*x, y, "end", &text);
            }
        }
        if pairs.len() > NAMED_PAIRS {
            canvas.text(x, y + 28.0, "small", &format!("and {} pairs more", pairs.len() - NAMED_PAIRS));
        }
    }

    fn draw_map(
        &self,
        canvas: &mut Canvas,
        top: f64,
        node_count: usize,
        crashes: &dyn Fn(NodeIndex) -> usize,
    ) -> f64 {
        let each = node_count.div_ceil(ROWS);
        let rows = node_count.div_ceil(each);
        let mut cells = BTreeMap::<_, Heard>::new();
        for (&(from, to), heard) in &self.0 {
            cells.entry((from / each, to / each)).or_default().add(*heard);
        }
        let side = 640.0;
        let cell = side / rows as f64;
        /// Where it begins, what it is called, and what it shows.
        type Map = (f64, &'static str, fn(&Heard) -> u64);
        let maps: [Map; 2] =
            [(110.0, "on direct streams", |heard| heard.stream), (900.0, "by gossip", |heard| heard.gossip)];
        let y = top + 46.0;
        for (x, name, amount) in maps {
            canvas.text(x, top + 12.0, "", &format!("{name}: who said it by rows, who heard it by columns"));
            canvas.rect("lane", [x, y, side, side], "");
            let most = cells.values().map(amount).max().unwrap_or_default();
            for ((from, to), heard) in cells.iter().filter(|(_, heard)| amount(heard) > 0) {
                let place = [x + *to as f64 * cell, y + *from as f64 * cell, cell, cell];
                canvas.block(&shade(amount(heard), most), place, "");
            }
            canvas.rect("frame", [x, y, side, side], "");
            draw_scale(canvas, [x, y + side + 14.0], most);
            for row in (0..rows).step_by(rows.div_ceil(16)) {
                let at = (row as f64 + 0.5) * cell;
                let name = format!("n{}", row * each);
                canvas.text(x - 24.0, y + at + 4.0, "small end", &name);
                canvas.text(x + at, y - 8.0, "small mid", &name);
            }
            for row in 0..rows {
                let nodes = (row * each)..((row + 1) * each).min(node_count);
                if nodes.map(crashes).sum::<usize>() > 0 {
                    canvas.cross([x - 11.0, y + (row as f64 + 0.5) * cell], (cell / 2.0).clamp(1.5, 4.0));
                }
            }
        }
        let group = if each > 1 { format!("a row is {each} nodes · ") } else { String::new() };
        canvas.text(
            900.0 + side,
            y + side + 27.0,
            "small end",
            &format!("{group}red cross: power was lost there"),
        );
        y + side + 40.0
    }
}

/// Where nodes stand.
#[derive(Debug)]
struct Circle {
    centre: [f64; 2],
    radius: f64,
    node_count: usize,
}

impl Circle {
    /// The place of a node, so many radiuses from the centre.
    fn place(&self, node: NodeIndex, radiuses: f64) -> [f64; 2] {
        let angle = TAU * (node as f64 / self.node_count.max(1) as f64 - 0.25);
        let radius = self.radius * radiuses;
        [self.centre[0] + radius * angle.cos(), self.centre[1] + radius * angle.sin()]
    }
}

/// The colour of an amount: darker by its logarithm.
fn shade(amount: u64, most: u64) -> String {
    let share = (1.0 + amount as f64).ln() / (1.0 + most as f64).ln().max(f64::MIN_POSITIVE);
    let between = |light: f64, dark: f64| (light + (dark - light) * share).clamp(0.0, 255.0) as u8;
    format!("#{:02x}{:02x}{:02x}", between(222.0, 8.0), between(235.0, 48.0), between(247.0, 107.0))
}

/// What the shades mean.
fn draw_scale(canvas: &mut Canvas, [x, y]: [f64; 2], most: u64) {
    let steps = 40_i32;
    for step in 0..steps {
        let amount = (1.0 + most as f64).powf(f64::from(step + 1) / f64::from(steps)) - 1.0;
        canvas.block(&shade(amount as u64, most), [x + 60.0 + f64::from(step) * 5.0, y, 5.2, 14.0], "");
    }
    canvas.text(x, y + 12.0, "small", "1 B");
    canvas.text(x + 270.0, y + 12.0, "small", &bytes(most));
}
