//! What is seen while the demo runs: in a terminal the picture as it fills, elsewhere a line for each step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use dms_messages::Did;
use dms_node::api::types::JobView;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::mesh::NodeFacts;
use crate::picture::Picture;
use crate::plan::{Area, PROVIDERS, Plan};
use crate::tiles::{Killed, is_running};

/// Columns of the small picture; with the words beside it, it fits into a terminal of 80.
const COLUMNS: u32 = 48;
/// Lines of the small picture at most, each two pixels high; the whole then fits into a terminal of 24 lines.
const LINES_MAX: u32 = 18;
/// A tile that nobody renders yet.
const WAITING: [u8; 3] = [38, 38, 46];

/// How a tile stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tile {
    Waiting,
    Running(Did),
    Done(Did),
}

#[derive(Debug)]
struct State {
    phase: String,
    since: Instant,
    tiles: Vec<Tile>,
    /// The small picture, one colour for each half of a character.
    pixels: Vec<[u8; 3]>,
    providers: Vec<NodeFacts>,
    killed: Option<Did>,
}

/// What is seen.
#[derive(Debug)]
pub(crate) struct Progress {
    plan: Plan,
    /// Rows of the small picture.
    rows: u32,
    state: RefCell<State>,
    live: Option<Live>,
}

/// The lines of the terminal that are drawn again and again.
#[derive(Debug)]
struct Live {
    lines: Vec<ProgressBar>,
    has_all_colours: bool,
}

impl Progress {
    /// Nothing is seen yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let rows = (COLUMNS * plan.size.height / plan.size.width.max(1)).clamp(2, 2 * LINES_MAX) & !1;
        let is_plain = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let is_live = std::io::stdout().is_terminal() && !is_plain("NO_COLOR") && !is_dumb;
        let state = State {
            phase: String::new(),
            since: Instant::now(),
            tiles: vec![Tile::Waiting; plan.tile_count()],
            pixels: vec![WAITING; (COLUMNS * rows) as usize],
            providers: Vec::new(),
            killed: None,
        };
        let live = is_live.then(|| Live::new(rows as usize / 2 + 1));
        Self { plan: *plan, rows, state: RefCell::new(state), live }
    }

    /// Something else begins.
    pub(crate) fn phase(&self, text: &str) {
        {
            let mut state = self.state.borrow_mut();
            state.phase = text.to_owned();
            state.since = Instant::now();
        }
        self.line(|| format!("{text} …"));
        self.draw();
    }

    /// The mesh is there.
    pub(crate) fn joined(&self, providers: &[NodeFacts]) {
        self.state.borrow_mut().providers = providers.to_vec();
        for NodeFacts { provider, did, cores } in providers {
            let (name, memory, price) = (provider.name, provider.memory_mib, provider.core_hour);
            self.line(|| {
                let plural = if *cores == 1 { "" } else { "s" };
                format!(
                    "  {name} ({}) shares {cores} core{plural}, {memory} MiB, for {price} a core and hour",
                    did.short()
                )
            });
        }
    }

    /// How a tile stands now.
    pub(crate) fn tile(&self, number: usize, view: &JobView) {
        let attempt = view.row.current_attempt();
        let now = match attempt {
            Some(attempt) if view.is_terminal => Tile::Done(attempt.provider),
            Some(attempt) if is_running(attempt) => Tile::Running(attempt.provider),
            _ => Tile::Waiting,
        };
        let mut state = self.state.borrow_mut();
        let before = std::mem::replace(&mut state.tiles[number], now);
        if before == now {
            return;
        }
        let colour = match now {
            Tile::Waiting => WAITING,
            Tile::Running(did) | Tile::Done(did) => state.colour(did),
        };
        self.fill(&mut state, number, |_, _| colour);
        if let Tile::Done(did) = now {
            let done = state.tiles.iter().filter(|tile| matches!(tile, Tile::Done(_))).count();
            let (name, all) = (state.name(did), state.tiles.len());
            self.line(|| format!("  tile {number} by {name} ({done} of {all})"));
        }
    }

    /// A tile's pixels are here.
    pub(crate) fn pixels(&self, area: Area, pixels: &Picture) {
        let number = self.plan.tile_at(area.left, area.top);
        self.fill(&mut self.state.borrow_mut(), number, |x, y| pixels.pixel(x - area.left, y - area.top));
    }

    /// A provider was killed.
    pub(crate) fn killed(&self, killed: &Killed) {
        self.state.borrow_mut().killed = Some(killed.provider);
        let name = self.state.borrow().name(killed.provider);
        self.line(|| format!("  {name} was killed, while it ran a tile"));
    }

    /// The mesh has done its part.
    pub(crate) fn alone(&self) {
        self.phase("rendering it once more on this machine alone");
    }

    /// Nothing more is drawn; what was drawn stays.
    pub(crate) fn end(&self) {
        if let Some(live) = &self.live {
            live.lines.iter().for_each(ProgressBar::abandon);
        }
    }

    /// Colours the small picture where it shows a tile.
    fn fill(&self, state: &mut State, number: usize, colour: impl Fn(u32, u32) -> [u8; 3]) {
        let size = self.plan.size;
        for row in 0..self.rows {
            for column in 0..COLUMNS {
                // The pixel in the middle of what one half of a character covers.
                let x = (2 * column + 1) * size.width / (2 * COLUMNS);
                let y = (2 * row + 1) * size.height / (2 * self.rows);
                if self.plan.tile_at(x, y) == number {
                    state.pixels[(row * COLUMNS + column) as usize] = colour(x, y);
                }
            }
        }
    }

    /// A line for those who do not look at a terminal.
    fn line(&self, text: impl FnOnce() -> String) {
        if self.live.is_none() {
            let _ = writeln!(std::io::stdout(), "{}", text());
        }
    }

    /// Draws what changed.
    pub(crate) fn draw(&self) {
        let Some(live) = &self.live else { return };
        let state = self.state.borrow();
        let words = state.words(state.since.elapsed(), |colour| live.colour(colour));
        for (number, line) in live.lines.iter().enumerate() {
            let beside = words.get(number).map_or("", String::as_str);
            let start = number * 2 * COLUMNS as usize;
            let halves = state.pixels.get(start..start + 2 * COLUMNS as usize);
            let picture = halves.map(|halves| live.halves(halves)).unwrap_or_default();
            line.set_message(format!("{picture}{beside}"));
        }
    }
}

impl State {
    fn facts(&self, did: Did) -> Option<&NodeFacts> {
        self.providers.iter().find(|facts| facts.did == did)
    }

    fn name(&self, did: Did) -> &'static str {
        self.facts(did).map_or("somebody", |facts| facts.provider.name)
    }

    fn colour(&self, did: Did) -> [u8; 3] {
        self.facts(did).map_or(WAITING, |facts| facts.provider.colour)
    }

    /// The words beside the picture, line by line.
    fn words(&self, elapsed: Duration, colour: impl Fn([u8; 3]) -> String) -> Vec<String> {
        let mut done: BTreeMap<Did, usize> = BTreeMap::new();
        let mut running: BTreeMap<Did, Vec<String>> = BTreeMap::new();
        for (number, tile) in self.tiles.iter().enumerate() {
            match tile {
                Tile::Done(did) => *done.entry(*did).or_default() += 1,
                Tile::Running(did) => running.entry(*did).or_default().push(number.to_string()),
                Tile::Waiting => {}
            }
        }
        let mut words = vec!["  one picture, four nodes".to_owned(), String::new()];
        for provider in &PROVIDERS {
            let did = self.providers.iter().find(|facts| facts.provider == *provider).map(|facts| facts.did);
            let count = did.and_then(|did| done.get(&did)).copied().unwrap_or(0);
            let now = did.and_then(|did| running.get(&did)).map(|tiles| tiles.join(", ")).unwrap_or_default();
            let colour = colour(provider.colour);
            let is_killed = did.is_some() && did == self.killed;
            let state = match (is_killed, now.is_empty()) {
                (true, _) => "killed".to_owned(),
                (false, true) => String::new(),
                (false, false) => format!("on {now}"),
            };
            let name = provider.name;
            words.push(format!("  \u{1b}[38;{colour}m●\u{1b}[0m {name:<5} {count:>3}  {state}"));
        }
        let all: usize = done.values().sum();
        words.extend([String::new(), format!("  {all} of {} tiles", self.tiles.len()), String::new()]);
        for line in wrapped(&self.phase, 28) {
            words.push(format!("  {line}"));
        }
        words.push(format!("  {:.1} s", elapsed.as_secs_f64()));
        words
    }
}

/// `text` in lines of at most `width` characters, where its words allow.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

impl Live {
    fn new(line_count: usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let line = || all.add(ProgressBar::new(1).with_style(style.clone()));
        let lines = (0..line_count).map(|_| line()).collect();
        let terminal = std::env::var("COLORTERM").unwrap_or_default();
        Self { lines, has_all_colours: terminal == "truecolor" || terminal == "24bit" }
    }

    /// One line of the small picture: upper halves, then as many lower ones.
    fn halves(&self, pixels: &[[u8; 3]]) -> String {
        let (upper, lower) = pixels.split_at(pixels.len() / 2);
        let mut text = String::new();
        for (upper, lower) in upper.iter().zip(lower) {
            text.push_str(&format!("\u{1b}[38;{};48;{}m▀", self.colour(*upper), self.colour(*lower)));
        }
        text.push_str("\u{1b}[0m");
        text
    }

    fn colour(&self, [red, green, blue]: [u8; 3]) -> String {
        if self.has_all_colours {
            return format!("2;{red};{green};{blue}");
        }
        // The cube of 6 × 6 × 6 that every terminal with 256 colours has.
        let step = |part: u8| (u16::from(part) * 5 + 127) / 255;
        format!("5;{}", 16 + 36 * step(red) + 6 * step(green) + step(blue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_between_words() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdef g", 3), ["abcdef", "g"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}
