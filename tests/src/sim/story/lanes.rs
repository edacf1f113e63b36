//! What each node was doing when: a lane for each, from left to right in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::AllocationId;

use crate::sim::facts::NodeIndex;

use super::svg::{Canvas, JOB_COLOURS, MARGIN, WIDTH, counted, fitting, job_colour};

/// Things that are drawn; what comes later is counted.
const DRAWN: usize = 40_000;
/// Where the time begins and ends.
const LEFT: f64 = 100.0;
const RIGHT: f64 = WIDTH - MARGIN;
/// Faults and breaches that are told below the lanes.
const TOLD: usize = 60;
/// Jobs in the legend: those after them have the same colours again.
const JOBS: usize = JOB_COLOURS.len();
/// Steps between two marks of the time, in seconds.
const STEPS: &[f64] = &[
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0,
    1800.0, 3600.0, 7200.0, 14_400.0, 21_600.0, 43_200.0, 86_400.0,
];

/// A time from which something was so, until it was not.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Duration,
    until: Option<Duration>,
}

/// A program that ran.
#[derive(Debug)]
struct Run {
    allocation: AllocationId,
    job: Option<u32>,
    name: Box<str>,
    span: Span,
}

/// What is known of one node.
#[derive(Debug, Default)]
struct Lane {
    ups: Vec<Span>,
    broken: Vec<Span>,
    runs: Vec<Run>,
    crashes: Vec<Duration>,
    crash_count: usize,
    is_breached: bool,
}

/// Why there is a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TickKind {
    Fault,
    Breach,
}

#[derive(Debug)]
struct Tick {
    node: NodeIndex,
    at: Duration,
    kind: TickKind,
    text: Box<str>,
}

/// The lanes of all nodes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<NodeIndex, Lane>,
    ticks: Vec<Tick>,
    end: Duration,
    drawn: usize,
    dropped: u64,
    run_count: u64,
    fault_count: u64,
    breach_count: u64,
}

impl Lanes {
    /// The world has come to this time.
    pub(super) fn reach(&mut self, at: Duration) {
        self.end = self.end.max(at);
    }

    pub(super) fn end(&self) -> Duration {
        self.end
    }

    pub(super) fn start(&mut self, node: NodeIndex, at: Duration) {
        self.close_up(node, at);
        if self.has_room() {
            self.lane(node).ups.push(Span { from: at, until: None });
        }
    }

    pub(super) fn stop(&mut self, node: NodeIndex, at: Duration) {
        self.close_up(node, at);
        self.close_runs(node, at);
    }

    pub(super) fn crash(&mut self, node: NodeIndex, at: Duration) {
        self.close_up(node, at);
        self.close_runs(node, at);
        self.lane(node).crash_count += 1;
        if self.has_room() {
            self.lane(node).crashes.push(at);
        }
    }

    pub(super) fn disk(&mut self, node: NodeIndex, at: Duration, works: bool) {
        let is_open = self.lane(node).broken.last().is_some_and(|span| span.until.is_none());
        if works {
            if let Some(span) = self.lane(node).broken.last_mut() {
                span.until.get_or_insert(at);
            }
        } else if !is_open && self.has_room() {
            self.lane(node).broken.push(Span { from: at, until: None });
        }
    }

    pub(super) fn run_began(
        &mut self,
        node: NodeIndex,
        at: Duration,
        allocation: AllocationId,
        job: Option<u32>,
        name: &str,
    ) {
        self.run_count += 1;
        if self.has_room() {
            let span = Span { from: at, until: None };
            self.lane(node).runs.push(Run { allocation, job, name: name.into(), span });
        }
    }

    pub(super) fn run_ended(&mut self, node: NodeIndex, at: Duration, allocation: AllocationId) {
        let is_it = |run: &&mut Run| run.allocation == allocation && run.span.until.is_none();
        if let Some(run) = self.lane(node).runs.iter_mut().rev().find(is_it) {
            run.span.until = Some(at);
        }
    }

    pub(super) fn tick(&mut self, node: NodeIndex, at: Duration, kind: TickKind, text: &str) {
        match kind {
            TickKind::Fault => self.fault_count += 1,
            TickKind::Breach => {
                self.breach_count += 1;
                self.lane(node).is_breached = true;
            }
        }
        // What broke is what the picture is looked at for.
        let is_first = kind == TickKind::Breach && self.breach_count <= TOLD as u64;
        if is_first || self.has_room() {
            self.ticks.push(Tick { node, at, kind, text: text.into() });
        }
    }

    /// How often a node lost its power.
    pub(super) fn crashes(&self, node: NodeIndex) -> usize {
        self.lanes.get(&node).map_or(0, |lane| lane.crash_count)
    }

    pub(super) fn is_breached(&self, node: NodeIndex) -> bool {
        self.lanes.get(&node).is_some_and(|lane| lane.is_breached)
    }

    /// How much of what there was, in words.
    pub(super) fn counts(&self) -> Vec<String> {
        let crashes: usize = self.lanes.values().map(|lane| lane.crash_count).sum();
        let mut counts = vec![
            counted(self.run_count, "run", "runs"),
            counted(crashes as u64, "loss of power", "losses of power"),
            counted(self.fault_count, "fault", "faults"),
            counted(self.breach_count, "broken promise", "broken promises"),
        ];
        if self.dropped > 0 {
            counts.push(format!("{} later marks are not drawn", self.dropped));
        }
        counts
    }

    fn lane(&mut self, node: NodeIndex) -> &mut Lane {
        self.lanes.entry(node).or_default()
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.drawn < DRAWN;
        if has_room {
            self.drawn += 1;
        } else {
            self.dropped += 1;
        }
        has_room
    }

    fn close_up(&mut self, node: NodeIndex, at: Duration) {
        if let Some(span) = self.lane(node).ups.last_mut() {
            span.until.get_or_insert(at);
        }
    }

    fn close_runs(&mut self, node: NodeIndex, at: Duration) {
        for run in &mut self.lane(node).runs {
            run.span.until.get_or_insert(at);
        }
    }
}

/// How much room a lane has.
#[derive(Debug, Clone, Copy)]
struct Measure {
    height: f64,
    /// The line of being up.
    up: f64,
    /// Rows for programs that run at one time, and the height of one.
    rows: usize,
    row: f64,
    /// A lane in so many has its name beside it.
    named: usize,
}

impl Measure {
    fn of(node_count: usize) -> Self {
        match node_count {
            0..=12 => Self { height: 40.0, up: 9.0, rows: 3, row: 7.0, named: 1 },
            13..=40 => Self { height: 28.0, up: 7.0, rows: 3, row: 5.0, named: 1 },
            41..=120 => Self { height: 15.0, up: 4.0, rows: 2, row: 4.0, named: 1 },
            _ => Self { height: 6.0, up: 2.0, rows: 1, row: 2.5, named: 10 },
        }
    }
}

/// Time to pixels.
#[derive(Debug, Clone, Copy)]
struct Scale {
    seconds: f64,
}

impl Scale {
    fn x(self, at: Duration) -> f64 {
        LEFT + (RIGHT - LEFT) * at.as_secs_f64() / self.seconds
    }

    /// The pixels of a span, at least `least` wide.
    fn extent(self, span: Span, least: f64) -> (f64, f64) {
        let from = self.x(span.from);
        let until = span.until.map_or(RIGHT, |until| self.x(until));
        (from, (until - from).max(least))
    }
}

impl Lanes {
    /// Draws from `top`, and gives where it ended.
    pub(super) fn draw(&self, canvas: &mut Canvas, top: f64, node_count: usize) -> f64 {
        canvas.text(MARGIN, top + 16.0, "h2", "What each node was doing");
        self.draw_legend(canvas, top + 42.0);
        let measure = Measure::of(node_count);
        let scale = Scale { seconds: self.end.as_secs_f64().max(0.001) };
        let lanes_top = top + 100.0;
        let bottom = lanes_top + measure.height * node_count as f64;
        draw_time(canvas, scale, lanes_top, bottom);
        for node in 0..node_count {
            let y = lanes_top + measure.height * node as f64;
            if node % measure.named == 0 {
                let baseline = y + (measure.height / 2.0 + 4.0).max(7.0);
                let class = if self.is_breached(node) { "bad end" } else { "end" };
                canvas.text(LEFT - 12.0, baseline, class, &format!("n{node}"));
            }
            if measure.height > 10.0 {
                canvas.line("grid", [LEFT, y, RIGHT, y]);
            }
            if let Some(lane) = self.lanes.get(&node) {
                lane.draw(canvas, y, measure, scale, self.end);
            }
        }
        canvas.rect("frame", [LEFT, lanes_top, RIGHT - LEFT, bottom - lanes_top], "");
        self.draw_ticks(canvas, scale, measure, lanes_top, bottom);
        self.draw_texts(canvas, bottom + 50.0)
    }

    fn draw_legend(&self, canvas: &mut Canvas, y: f64) {
        let mut x = LEFT;
        let mut entry = |canvas: &mut Canvas, draw: &dyn Fn(&mut Canvas, f64), text: &str| {
            draw(canvas, x);
            canvas.text(x + 34.0, y, "", text);
            x += 62.0 + 7.6 * text.chars().count() as f64;
        };
        entry(canvas, &|canvas, x| canvas.rect("up", [x, y - 9.0, 26.0, 9.0], ""), "up");
        entry(canvas, &|canvas, x| canvas.cross([x + 13.0, y - 4.5], 5.0), "lost its power");
        entry(
            canvas,
            &|canvas, x| canvas.rect("hatched", [x, y - 13.0, 26.0, 16.0], ""),
            "disk refuses writes",
        );
        entry(
            canvas,
            &|canvas, x| canvas.line("fault-here", [x + 13.0, y - 13.0, x + 13.0, y + 3.0]),
            "something was done to it",
        );
        entry(
            canvas,
            &|canvas, x| canvas.line("breach", [x + 13.0, y - 13.0, x + 13.0, y + 3.0]),
            "a promise was broken",
        );
        let jobs: BTreeSet<u32> =
            self.lanes.values().flat_map(|lane| &lane.runs).filter_map(|run| run.job).collect();
        let mut x = LEFT;
        let y = y + 26.0;
        canvas.text(x, y, "", "runs of");
        x += 62.0;
        for job in jobs.iter().take(JOBS) {
            canvas.block(job_colour(Some(*job)), [x, y - 9.0, 26.0, 9.0], "");
            canvas.text(x + 32.0, y, "", &format!("j{job}"));
            x += 84.0;
        }
        match jobs.len() {
            0 => canvas.text(x, y, "", "nothing"),
            count if count > JOBS => {
                canvas.text(x, y, "", &format!("and {} more, in the same colours", count - JOBS))
            }
            _ => {}
        }
    }

    /// Faults and breaches: a line through all lanes, stronger in the one that it befell, with the number of its text.
    fn draw_ticks(&self, canvas: &mut Canvas, scale: Scale, measure: Measure, top: f64, bottom: f64) {
        for tick in &self.ticks {
            let x = scale.x(tick.at);
            let y = top + measure.height * tick.node as f64;
            let (class, here) = match tick.kind {
                TickKind::Fault => ("fault", "fault-here"),
                TickKind::Breach => ("breach", "breach"),
            };
            canvas.line(class, [x, top - 4.0, x, bottom + 4.0]);
            if y < bottom {
                canvas.line(here, [x, y, x, y + measure.height]);
            }
        }
        let mut free_from = LEFT - 20.0;
        for (tick, number) in self.told().iter().zip(1..) {
            let x = scale.x(tick.at);
            if x >= free_from {
                canvas.text(x, bottom + 34.0, "small mid", &format!("{number}"));
                free_from = x + 18.0;
            }
        }
    }

    /// The marks that are told in words: what broke, and as many faults as there is room for.
    fn told(&self) -> Vec<&Tick> {
        let is_breach = |tick: &&Tick| tick.kind == TickKind::Breach;
        let mut breaches = self.ticks.iter().filter(is_breach).count().min(TOLD);
        let mut faults = TOLD - breaches;
        let is_told = |tick: &&Tick| {
            let room = if is_breach(tick) { &mut breaches } else { &mut faults };
            let has_room = *room > 0;
            *room = room.saturating_sub(1);
            has_room
        };
        self.ticks.iter().filter(is_told).collect()
    }

    fn draw_texts(&self, canvas: &mut Canvas, top: f64) -> f64 {
        let told = self.told();
        let half = told.len().div_ceil(2);
        let mut y = top;
        for (place, tick) in told.iter().enumerate() {
            if place == half {
                y = top;
            }
            y += 20.0;
            let x = if place < half { LEFT } else { f64::midpoint(LEFT, RIGHT) + 10.0 };
            let class = if tick.kind == TickKind::Breach { "bad" } else { "done" };
            let Tick { node, at, text, .. } = tick;
            let text = format!("{}. {:.3} s, n{node}: {text}", place + 1, at.as_secs_f64());
            canvas.text(x, y, class, &fitting(&text, 88));
        }
        let bottom = top + 20.0 * half as f64;
        if self.ticks.len() > told.len() {
            let more = format!("and {} more, in the timeline", self.ticks.len() - told.len());
            canvas.text(LEFT, bottom + 20.0, "small", &more);
            return bottom + 30.0;
        }
        bottom + 10.0
    }
}

impl Lane {
    fn draw(&self, canvas: &mut Canvas, y: f64, measure: Measure, scale: Scale, end: Duration) {
        let Measure { height, up, rows, row, .. } = measure;
        // The line stands at the bottom of the lane; programs run above it.
        let line = y + height - up - (height / 10.0).floor();
        for span in &self.ups {
            let (x, width) = scale.extent(*span, 1.0);
            canvas.rect("up", [x, line, width, up], "");
        }
        let mut free_from = vec![Duration::ZERO; rows];
        for run in &self.runs {
            let (x, width) = scale.extent(run.span, 2.0);
            let place = free_from.iter().position(|from| *from <= run.span.from).unwrap_or(rows - 1);
            free_from[place] = run.span.until.unwrap_or(end);
            let top = line - 1.0 - row * (place + 1) as f64;
            let ran = run.span.until.unwrap_or(end).saturating_sub(run.span.from);
            let words =
                format!("{} from {:.3} s, {:.3} s", run.name, run.span.from.as_secs_f64(), ran.as_secs_f64());
            canvas.block(job_colour(run.job), [x, top, width, row - 1.0], &words);
        }
        for span in &self.broken {
            let (x, width) = scale.extent(*span, 3.0);
            canvas.rect("hatched", [x, y + 1.0, width, height - 2.0], "its disk refuses writes");
        }
        for at in &self.crashes {
            canvas.cross([scale.x(*at), line + up / 2.0], (height / 7.0).clamp(2.0, 5.0));
        }
    }
}

fn draw_time(canvas: &mut Canvas, scale: Scale, top: f64, bottom: f64) {
    let is_enough = |step: &&f64| scale.seconds / **step <= 14.0;
    let step = STEPS.iter().find(is_enough).copied().unwrap_or(scale.seconds / 10.0);
    let count = (scale.seconds / step).floor() as u32;
    for mark in 0..=count {
        let seconds = f64::from(mark) * step;
        let x = LEFT + (RIGHT - LEFT) * seconds / scale.seconds;
        canvas.line("grid", [x, top - 4.0, x, bottom + 4.0]);
        canvas.text(x, top - 10.0, "small mid", &time(seconds, step));
        canvas.text(x, bottom + 18.0, "small mid", &time(seconds, step));
    }
}

/// A time, as exact as its step.
fn time(seconds: f64, step: f64) -> String {
    if step >= 3600.0 {
        format!("{} h", seconds / 3600.0)
    } else if step >= 60.0 {
        format!("{} min", seconds / 60.0)
    } else if step >= 1.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{seconds:.2} s")
    }
}
