//! The demo, as `make demo` runs it: it ends well, also when a provider is killed, and whatever ends it, no
//! process and no directory is left.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use dms_tests::{Home, dms, wait_for};

/// A picture that is done in no time.
const TINY: &[&str] = &["--size", "48x32", "--samples", "2", "--grid", "4x3"];
/// A picture whose tiles take long enough to be met while they run.
const SLOW: &[&str] = &["--size", "240x160", "--samples", "160", "--grid", "4x3"];
/// A picture that nobody waits for.
const ENDLESS: &[&str] = &["--size", "240x160", "--samples", "4096", "--grid", "4x3"];

/// A demo that runs in a place of its own.
struct Demo<'h> {
    home: &'h Home,
    process: Child,
}

impl<'h> Demo<'h> {
    fn start(home: &'h Home, arguments: &[&str]) -> Self {
        let program = dms().with_file_name("examples").join("demo");
        let file = |name: &str| File::create(home.path().join(name)).expect("a file can be made");
        let process = Command::new(&program)
            .args(arguments)
            .arg("--picture")
            .arg(home.path().join("picture.png"))
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: build the workspace first", program.display()));
        Self { home, process }
    }

    fn said(&self) -> String {
        let text = |name: &str| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        format!("{}{}", text("out"), text("err"))
    }

    fn wait_until_it_says(&self, text: &str) {
        wait_for(text, || {
            let said = self.said();
            if said.contains(text) { Ok(()) } else { Err(said) }
        });
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "{}", self.said());
    }

    /// Its end; the demo has deadlines of its own.
    fn end(&mut self) -> ExitStatus {
        self.process.wait().expect("it is ours")
    }

    /// The processes that have something to do with this demo's place.
    fn processes(&self) -> Vec<String> {
        let list =
            Command::new("ps").args(["-A", "-ww", "-o", "pid=,stat=,args="]).output().expect("ps can be run");
        let place = self.home.text();
        let is_alive =
            |line: &&str| !line.split_whitespace().nth(1).is_some_and(|stat| stat.starts_with('Z'));
        let lines = String::from_utf8_lossy(&list.stdout).into_owned();
        lines.lines().filter(|line| line.contains(place)).filter(is_alive).map(str::to_owned).collect()
    }

    fn directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.path()).expect("it is ours");
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new(), "{}", self.said());
        assert_eq!(self.directories(), Vec::<PathBuf>::new(), "{}", self.said());
    }
}

impl Drop for Demo<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn two_demos_at_once_both_end_well() {
    let (first_home, second_home) = (Home::new(), Home::new());
    let mut demos = [Demo::start(&first_home, TINY), Demo::start(&second_home, TINY)];
    for demo in &mut demos {
        let status = demo.end();
        let said = demo.said();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("the same, byte for byte"), "{said}");
        assert!(said.contains("TILE  WON BY"), "{said}");
        let picture = fs::read(demo.home.path().join("picture.png")).unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
        demo.assert_nothing_is_left();
    }
}

#[test]
fn a_killed_provider_loses_its_tile_and_the_picture_still_comes_out_right() {
    // The tile may be finished between the look at the provider's books and the kill: then once more.
    for _ in 0..3 {
        let home = Home::new();
        let mut demo = Demo::start(&home, &[SLOW, &["--kill"]].concat());
        let status = demo.end();
        let said = demo.said();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("was killed without warning"), "{said}");
        demo.assert_nothing_is_left();
        if said.contains("placed again with") {
            assert!(said.contains("lost by"), "{said}");
            return;
        }
    }
    panic!("three times nobody was killed in time");
}

#[test]
fn an_interrupt_leaves_nothing_in_any_phase() {
    for phase in ["onboarding", "starting", "waiting until", "rendering"] {
        let home = Home::new();
        let mut demo = Demo::start(&home, ENDLESS);
        demo.wait_until_it_says(phase);
        demo.signal("INT");
        assert_eq!(demo.end().code(), Some(130), "{phase}: {}", demo.said());
        demo.assert_nothing_is_left();
    }
}

#[test]
fn two_interrupts_end_it_at_once() {
    let home = Home::new();
    let mut demo = Demo::start(&home, ENDLESS);
    demo.wait_until_it_says("rendering");
    demo.signal("INT");
    demo.wait_until_it_says("once more");
    // It may have ended by itself.
    let _ =
        Command::new("kill").arg("-INT").arg(demo.process.id().to_string()).stderr(Stdio::null()).status();
    assert_eq!(demo.end().code(), Some(130), "{}", demo.said());
    demo.assert_nothing_is_left();
}

#[test]
fn a_demo_that_is_killed_takes_everything_with_it() {
    let home = Home::new();
    let mut demo = Demo::start(&home, ENDLESS);
    demo.wait_until_it_says("rendering");
    assert!(!demo.processes().is_empty());
    demo.signal("KILL");
    demo.end();
    wait_for("the end of all it started", || {
        let left = (demo.processes(), demo.directories());
        if left.0.is_empty() && left.1.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_failure_shows_the_logs_and_leaves_nothing() {
    let home = Home::new();
    // A program that is not dms.
    let mut demo = Demo::start(&home, &["--dms", "/bin/false"]);
    assert_eq!(demo.end().code(), Some(1));
    assert!(demo.said().contains("error: onboarding alice"), "{}", demo.said());
    demo.assert_nothing_is_left();

    let mut demo = Demo::start(&home, &["--grid", "0x1"]);
    assert_eq!(demo.end().code(), Some(2));
    let mut demo = Demo::start(&home, &["--grid", "100x100"]);
    assert_eq!(demo.end().code(), Some(2));
    assert!(demo.said().contains("--grid: at most"), "{}", demo.said());
    demo.assert_nothing_is_left();

    // Found before anything is rendered: there is a directory where the picture should go.
    fs::create_dir(home.path().join("picture.png")).unwrap();
    let mut demo = Demo::start(&home, TINY);
    assert_eq!(demo.end().code(), Some(2), "{}", demo.said());
    assert!(demo.said().contains("it is a directory; name a file"), "{}", demo.said());
}
