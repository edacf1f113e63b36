//! Pictures as plain SVG text: shapes and words at coordinates, with one style sheet for all.
//!
//! Knows nothing of what it draws. Every text is escaped, so whatever a node says cannot break the file.

use std::fmt::Write;

/// How wide every picture is, in pixels.
pub(super) const WIDTH: f64 = 1600.0;
/// What stays free at the left and the right.
pub(super) const MARGIN: f64 = 40.0;

/// Colours that are told apart by most eyes, for jobs.
pub(super) const JOB_COLOURS: [&str; 10] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#edc948", "#17a2a2", "#ff7fa5", "#9c755f", "#8cd17d",
    "#6b5bd2",
];

const STYLE: &str = "\
text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:13px;fill:#2b3440}\
.h1{font-size:24px;font-weight:bold}.h2{font-size:17px;font-weight:bold}.sub{fill:#5a6675}\
.small{font-size:11px;fill:#5a6675}.node{fill:#fff;font-size:12px;font-weight:bold}\
.mid{text-anchor:middle}.end{text-anchor:end}\
.bad{fill:#c62828;font-weight:bold}.done{fill:#b35c00}\
.disc{fill:#34495e;stroke:#fff;stroke-width:2}.disc-bad{fill:#34495e;stroke:#c62828;stroke-width:4}\
.stream{fill:none;stroke:#2f6db3;stroke-linecap:round}\
.gossip{fill:none;stroke:#2a9d6f;stroke-dasharray:7 5}\
.grid{stroke:#e3e7ec;stroke-width:1}.frame{fill:none;stroke:#c3cad3;stroke-width:1}\
.lane{fill:#f4f6f9}.up{fill:#7b8a9c}.cross{stroke:#c62828;stroke-width:2;fill:none}\
.fault{stroke:#e07b00;stroke-width:1;stroke-opacity:.45}.fault-here{stroke:#e07b00;stroke-width:3}\
.breach{stroke:#c62828;stroke-width:2}.hatched{fill:url(#hatch);stroke:#8d5a00;stroke-width:.7}";

/// The lines over what does not work.
const HATCH: &str = "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
<path d=\"M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2\" stroke=\"#8d5a00\" stroke-width=\"1.4\"/></pattern></defs>";

/// A picture in the making.
#[derive(Debug, Default)]
pub(super) struct Canvas(String);

impl Canvas {
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.add(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text)));
    }

    pub(super) fn line(&mut self, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    /// A rectangle that says `words` when it is pointed at, if there are any.
    pub(super) fn rect(&mut self, class: &str, [x, y, width, height]: [f64; 4], words: &str) {
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"{}",
            closing("rect", words)
        ));
    }

    /// A rectangle of one colour.
    pub(super) fn block(&mut self, colour: &str, [x, y, width, height]: [f64; 4], words: &str) {
        self.add(format_args!(
            "<rect fill=\"{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"{}",
            closing("rect", words)
        ));
    }

    pub(super) fn disc(&mut self, class: &str, [x, y]: [f64; 2], radius: f64) {
        self.add(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"));
    }

    /// A curve from one point to another that is drawn towards a third, of this width and opacity.
    pub(super) fn curve(
        &mut self,
        class: &str,
        [from, towards, to]: [[f64; 2]; 3],
        [width, opacity]: [f64; 2],
        words: &str,
    ) {
        self.add(format_args!(
            "<path class=\"{class}\" d=\"M{:.1},{:.1} Q{:.1},{:.1} {:.1},{:.1}\" stroke-width=\"{width:.2}\" \
             stroke-opacity=\"{opacity:.2}\"{}",
            from[0],
            from[1],
            towards[0],
            towards[1],
            to[0],
            to[1],
            closing("path", words)
        ));
    }

    /// A small cross: power lost.
    pub(super) fn cross(&mut self, [x, y]: [f64; 2], radius: f64) {
        self.line("cross", [x - radius, y - radius, x + radius, y + radius]);
        self.line("cross", [x - radius, y + radius, x + radius, y - radius]);
    }

    fn add(&mut self, shape: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{shape}").expect("a string takes every text");
    }

    /// The whole file, of this height.
    pub(super) fn finish(self, height: f64) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH:.0} {height:.0}\">\n<style>{STYLE}</style>\n{HATCH}\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.0
        )
    }
}

/// The end of an element, with what it says when it is pointed at.
fn closing(element: &str, words: &str) -> String {
    match words {
        "" => "/>".to_owned(),
        words => format!("><title>{}</title></{element}>", escaped(words)),
    }
}

/// The text as it may stand in XML.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // XML has no way to write most of them.
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            character => escaped.push(character),
        }
    }
    escaped
}

/// The colour of a job by its number.
pub(super) fn job_colour(job: Option<u32>) -> &'static str {
    match job {
        Some(number) => JOB_COLOURS[number.saturating_sub(1) as usize % JOB_COLOURS.len()],
        None => "#999999",
    }
}

/// A number of things.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Bytes, in the unit that people would say.
pub(super) fn bytes(count: u64) -> String {
    let amount = count as f64;
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", amount / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", amount / 1_048_576.0),
        _ => format!("{:.1} GiB", amount / 1_073_741_824.0),
    }
}

/// The first of a text, to fit a width.
pub(super) fn fitting(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
