//! A job as a person writes it: a YAML or JSON file, or flags, with paths of this machine.
//!
//! [`crate::cli`] reads it, uploads what the paths name and asks the API for the job. Everything a person
//! may have mistyped is refused here, with line, column and field, before anything is uploaded. The form:
//!
//! ```yaml
//! name: wordcount              # default: the module's file name
//! wasm: ../programs/wordcount.wasm
//! args: ["10"]
//! env: {LANG: C}
//! stdin: text.txt              # a file
//! input: texts                 # a directory, seen by the program as /input
//! output: out                  # a directory, filled with what the program wrote to /output
//! resources:
//!   cpu: 1                     # cores
//!   memory: 64MiB
//!   disk: 64MiB
//!   ports: 2                   # how many; which, the contract says
//!   gpus: [{vendor: nvidia, model: A100, memory: 40GiB}]
//!   architecture: x86_64
//!   min_clock_mhz: 2000
//!   min_score: 300             # MiB that one core hashes in a second
//! timeout: 10m
//! max_price: 0.5               # credits per hour
//! wait: 60s                    # how long to go on asking
//! wanted: 3                    # bids
//! attempts: 5
//! locations: [eu-west]
//! labels: {disk: ssd}
//! ```
//!
//! Instead of one program a job may have several that run side by side on one node, each under limits of its own.
//! What a program is given then stands under `tasks`; `timeout` is for those tasks that say none. What is needed of the
//! node (ports, labels …) stays where it is, and the cpu, memory and disk of the tasks are added up:
//!
//! ```yaml
//! name: pair
//! tasks:
//!   - name: left               # its output files go into `left/`
//!     wasm: left.wasm
//!     args: [x]                # env, stdin, input and timeout as above
//!     resources: {cpu: 1, memory: 64MiB, disk: 64MiB}
//!   - name: right
//!     wasm: right.wasm
//! ```
//!
//! Relative paths begin at the file's own directory. Only `wasm`, or `tasks` with names and programs, is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dms_messages::{
    ContentId, CpuMillis, DiskMib, ExecutorKind, GpuRequirement, MAX_PORTS, MAX_TASKS, MAX_TEXT_LENGTH,
    MemoryMib, Millis, Pod, Price, Requirement, Task, TaskResources, check_task_name,
};
use serde::{Deserialize, Deserializer};

use crate::api::types::NewJob;

/// Largest job file: several times the longest arguments and environment that a job may have.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// What a job gets where it does not say.
const DEFAULT_CPU: CpuMillis = CpuMillis(1000);
const DEFAULT_MEMORY: MemoryMib = MemoryMib(64);
const DEFAULT_DISK: DiskMib = DiskMib(64);
const DEFAULT_TIMEOUT: Millis = Millis(600_000);
/// Longest run time, as the mesh accepts it.
const MAX_TIMEOUT: Millis = Millis(30 * 24 * 3_600_000);

/// Why a job file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobFileError {
    /// It cannot be read.
    #[error("cannot read the job file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It breaks a rule at a place.
    #[error("{}:{line}:{column}: {}{problem}", path.display(), if field.is_empty() { String::new() } else { format!("{field}: ") })]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// The field, if the place belongs to one (`resources.memory`).
        field: String,
        /// Which rule.
        problem: String,
    },
    /// A field is for jobs of one program, and this one has several.
    #[error(
        "{}{field}: the job has `tasks`, and this is said of each of them",
        file.as_deref().map(|file| format!("{}: ", file.display())).unwrap_or_default()
    )]
    OfOneProgram {
        /// The job file, if there is one.
        file: Option<PathBuf>,
        /// The field.
        field: &'static str,
    },
    /// The tasks need more together than can be said.
    #[error("tasks: they need more together than any machine has")]
    TooMuch,
    /// A field is missing that has no default.
    #[error(
        "{}{field}: missing: it names {meaning} (`{field}:` in the job file, or --{field})",
        file.as_deref().map(|file| format!("{}: ", file.display())).unwrap_or_default()
    )]
    Missing {
        /// The job file, if there is one.
        file: Option<PathBuf>,
        /// The field.
        field: &'static str,
        /// What it is for.
        meaning: &'static str,
    },
}

/// A job as written; every field may be absent. Flags fill one, a file another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobFile {
    /// A name for people.
    #[serde(deserialize_with = "scalar::<_, Name>")]
    pub name: Option<Name>,
    /// Several programs instead of one.
    #[serde(deserialize_with = "tasks")]
    pub tasks: Option<Vec<JobTask>>,
    /// The WebAssembly module, binary or text.
    pub wasm: Option<PathBuf>,
    /// Arguments.
    pub args: Option<Vec<String>>,
    /// Environment.
    pub env: Option<BTreeMap<String, String>>,
    /// A file for standard input.
    pub stdin: Option<PathBuf>,
    /// A directory for `/input`.
    pub input: Option<PathBuf>,
    /// A directory for what is in `/output` at the end.
    pub output: Option<PathBuf>,
    /// What it needs.
    pub resources: JobResources,
    /// How long it may run.
    #[serde(deserialize_with = "scalar::<_, Timeout>")]
    pub timeout: Option<Timeout>,
    /// Highest acceptable price in credits per hour.
    #[serde(deserialize_with = "scalar::<_, Price>")]
    pub max_price: Option<Price>,
    /// How long to go on asking.
    #[serde(deserialize_with = "scalar::<_, Millis>")]
    pub wait: Option<Millis>,
    /// How many bids are wanted.
    #[serde(deserialize_with = "scalar::<_, Wanted>")]
    pub wanted: Option<Wanted>,
    /// How many attempts it may have.
    #[serde(deserialize_with = "scalar::<_, Attempts>")]
    pub attempts: Option<Attempts>,
    /// Acceptable locations.
    pub locations: Option<BTreeSet<String>>,
    /// Labels that the machine must carry.
    pub labels: Option<BTreeMap<String, String>>,
}

/// One of several programs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTask {
    /// Its name, by which its lines and files are told apart.
    pub name: TaskName,
    /// The WebAssembly module, binary or text.
    pub wasm: PathBuf,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A file for standard input.
    #[serde(default)]
    pub stdin: Option<PathBuf>,
    /// A directory for `/input`.
    #[serde(default)]
    pub input: Option<PathBuf>,
    /// How long it may run.
    #[serde(default, deserialize_with = "scalar::<_, Timeout>")]
    pub timeout: Option<Timeout>,
    /// Its share of what the job needs.
    #[serde(default)]
    pub resources: JobTaskResources,
}

/// The amounts that one of several programs needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobTaskResources {
    /// Cores.
    #[serde(deserialize_with = "scalar::<_, Cpu>")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(deserialize_with = "scalar::<_, Memory>")]
    pub memory: Option<Memory>,
    /// Disk.
    #[serde(deserialize_with = "scalar::<_, DiskMib>")]
    pub disk: Option<DiskMib>,
}

/// A task's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskName(pub String);

impl<'de> Deserialize<'de> for TaskName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = scalar::<D, String>(deserializer)?.unwrap_or_default();
        check_task_name(&name).map_err(serde::de::Error::custom)?;
        Ok(Self(name))
    }
}

/// Reads the tasks and checks, where they stand, what holds among them.
fn tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<JobTask>>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<JobTask>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tasks")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<JobTask>, A::Error> {
            use serde::de::Error;
            let mut tasks: Vec<JobTask> = Vec::new();
            while let Some(task) = list.next_element::<JobTask>()? {
                let name = &task.name.0;
                if tasks.iter().any(|known| known.name.0.eq_ignore_ascii_case(name)) {
                    return Err(A::Error::custom(format!("two tasks are called `{name}`")));
                }
                if tasks.len() == MAX_TASKS {
                    return Err(A::Error::custom(format!("more than {MAX_TASKS} tasks")));
                }
                tasks.push(task);
            }
            if tasks.is_empty() {
                return Err(A::Error::custom("a job has at least one task"));
            }
            Ok(tasks)
        }
    }
    deserializer.deserialize_seq(Visitor).map(Some)
}

/// The amounts that a job needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobResources {
    /// Cores.
    #[serde(deserialize_with = "scalar::<_, Cpu>")]
    pub cpu: Option<Cpu>,
    /// Memory.
    #[serde(deserialize_with = "scalar::<_, Memory>")]
    pub memory: Option<Memory>,
    /// Disk.
    #[serde(deserialize_with = "scalar::<_, DiskMib>")]
    pub disk: Option<DiskMib>,
    /// How many ports.
    #[serde(deserialize_with = "scalar::<_, Ports>")]
    pub ports: Option<Ports>,
    /// Distinct GPUs.
    pub gpus: Option<Vec<JobGpu>>,
    /// Instruction set.
    #[serde(deserialize_with = "scalar::<_, Architecture>")]
    pub architecture: Option<Architecture>,
    /// Least clock, in MHz.
    #[serde(deserialize_with = "scalar::<_, Least>")]
    pub min_clock_mhz: Option<Least>,
    /// Least score, in MiB of SHA-256 a second.
    #[serde(deserialize_with = "scalar::<_, Least>")]
    pub min_score: Option<Least>,
}

/// One GPU that a job needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobGpu {
    /// Vendor, in any case.
    #[serde(deserialize_with = "scalar::<_, Name>")]
    pub vendor: Option<Name>,
    /// A part of the model's name.
    #[serde(deserialize_with = "scalar::<_, Name>")]
    pub model: Option<Name>,
    /// Least video memory.
    #[serde(deserialize_with = "scalar::<_, Memory>")]
    pub memory: Option<Memory>,
}

impl From<JobGpu> for GpuRequirement {
    fn from(gpu: JobGpu) -> Self {
        Self {
            vendor: gpu.vendor.map(|vendor| vendor.0.to_lowercase()),
            memory: gpu.memory.map_or(MemoryMib(0), |memory| memory.0),
            model: gpu.model.map(|model| model.0),
        }
    }
}

/// Declares a value that is checked when it is read from text, in files and flags alike.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident($inner:ty), $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let is_accepted: fn(&$inner) -> bool = $check;
                // An amount's own error says how amounts are written; a number's would not help anybody.
                let value: $inner = match text.parse() {
                    Ok(value) => value,
                    Err(error) => return Err(amount_error(&error, $rule)),
                };
                if is_accepted(&value) { Ok(Self(value)) } else { Err($rule.to_owned()) }
            }
        }
    };
}

fn amount_error<E: fmt::Display + 'static>(error: &E, rule: &str) -> String {
    match (error as &dyn std::any::Any).downcast_ref::<dms_messages::UnitError>() {
        Some(error) => error.to_string(),
        None => rule.to_owned(),
    }
}

checked!(
    /// A name for people.
    Name(String), "must be 1 to 512 bytes without control characters",
    |name| !name.is_empty() && name.len() <= MAX_TEXT_LENGTH && !name.chars().any(char::is_control));
checked!(
    /// A run time.
    Timeout(Millis), "must be more than 0 and at most 30 days",
    |time| *time > Millis(0) && *time <= MAX_TIMEOUT);
checked!(
    /// Cores.
    Cpu(CpuMillis), "must be more than 0", |cpu| cpu.0 > 0);
checked!(
    /// Memory.
    Memory(MemoryMib), "must be more than 0", |memory| memory.0 > 0);
checked!(
    /// A number of ports.
    Ports(u16), "must be a number from 0 to 256", |ports| usize::from(*ports) <= MAX_PORTS);
checked!(
    /// An instruction set.
    Architecture(String), "must be an instruction set, as `dms capability` shows it (x86_64, aarch64)",
    |name| !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
checked!(
    /// The least number that will do.
    Least(u32), "must be a whole number", |_| true);
checked!(
    /// How many bids are wanted.
    Wanted(u16), "must be a number from 1 to 64", |wanted| (1..=64).contains(wanted));
checked!(
    /// How many attempts a job may have.
    Attempts(u32), "must be a number from 1 to 100", |attempts| (1..=100).contains(attempts));

/// Reads a value that is written as text or as a number.
fn scalar<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Visitor<T>(PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for Visitor<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a number")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }
    deserializer.deserialize_any(Visitor(PhantomData)).map(Some)
}

impl JobFile {
    /// Reads a file; its name says the form (`.json`, anything else is YAML).
    pub fn read(path: &Path) -> Result<Self, JobFileError> {
        let unreadable = |source| JobFileError::Unreadable { path: path.to_path_buf(), source };
        let text = crate::files::read_text(path, MAX_FILE_BYTES).map_err(unreadable)?;
        let mut file = Self::parse(path, &text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let of_tasks = file.tasks.iter_mut().flatten().flat_map(|task| {
            [Some(&mut task.wasm), task.stdin.as_mut(), task.input.as_mut()].into_iter().flatten()
        });
        let own = [&mut file.wasm, &mut file.stdin, &mut file.input, &mut file.output].into_iter().flatten();
        for place in own.chain(of_tasks) {
            *place = base.join(&*place);
        }
        Ok(file)
    }

    /// Reads a file's text; paths stay as written.
    pub fn parse(path: &Path, text: &str) -> Result<Self, JobFileError> {
        let malformed = |place: (u64, u64), field: String, problem: String| JobFileError::Malformed {
            path: path.to_path_buf(),
            line: place.0.max(1),
            column: place.1.max(1),
            field: field.trim_matches(['.', '?']).to_owned(),
            problem,
        };
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            let file = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                let inner = error.inner();
                let place = (inner.line() as u64, inner.column() as u64);
                malformed(place, error.path().to_string(), without_place(&inner.to_string()))
            })?;
            deserializer.end().map_err(|error| {
                malformed(
                    (error.line() as u64, error.column() as u64),
                    String::new(),
                    without_place(&error.to_string()),
                )
            })?;
            return Ok(file);
        }
        let mut field = String::new();
        let options = serde_saphyr::options! { with_snippet: false };
        let result = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        result.map_err(|error| {
            let place = error.location().map_or((1, 1), |location| (location.line(), location.column()));
            malformed(place, field, without_place(&error.to_string()))
        })
    }

    /// This, with every field that `stronger` has taken from there.
    pub fn overridden_by(self, stronger: Self) -> Self {
        Self {
            name: stronger.name.or(self.name),
            tasks: stronger.tasks.or(self.tasks),
            wasm: stronger.wasm.or(self.wasm),
            args: stronger.args.or(self.args),
            env: stronger.env.or(self.env),
            stdin: stronger.stdin.or(self.stdin),
            input: stronger.input.or(self.input),
            output: stronger.output.or(self.output),
            resources: JobResources {
                cpu: stronger.resources.cpu.or(self.resources.cpu),
                memory: stronger.resources.memory.or(self.resources.memory),
                disk: stronger.resources.disk.or(self.resources.disk),
                ports: stronger.resources.ports.or(self.resources.ports),
                gpus: stronger.resources.gpus.or(self.resources.gpus),
                architecture: stronger.resources.architecture.or(self.resources.architecture),
                min_clock_mhz: stronger.resources.min_clock_mhz.or(self.resources.min_clock_mhz),
                min_score: stronger.resources.min_score.or(self.resources.min_score),
            },
            timeout: stronger.timeout.or(self.timeout),
            max_price: stronger.max_price.or(self.max_price),
            wait: stronger.wait.or(self.wait),
            wanted: stronger.wanted.or(self.wanted),
            attempts: stronger.attempts.or(self.attempts),
            locations: stronger.locations.or(self.locations),
            labels: stronger.labels.or(self.labels),
        }
    }

    /// The complete job, with defaults. Only the module has none; `file` is where it should have been, for messages.
    pub fn complete(mut self, file: Option<&Path>) -> Result<JobSpec, JobFileError> {
        let timeout = self.timeout.take().map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
        let (name, tasks, needs) = match self.tasks.take() {
            Some(tasks) => self.several(tasks, timeout, file)?,
            None => self.single(timeout, file)?,
        };
        Ok(JobSpec {
            name,
            tasks,
            output: self.output,
            requirement: Requirement {
                cpu: needs.cpu,
                memory: needs.memory,
                disk: needs.disk,
                gpus: self.resources.gpus.into_iter().flatten().map(GpuRequirement::from).collect(),
                executor: ExecutorKind::Wasm,
                // No machine stands in a place without a name: whoever says so wants none in particular.
                locations: self.locations.into_iter().flatten().filter(|place| !place.is_empty()).collect(),
                labels: self.labels.unwrap_or_default(),
                ports: self.resources.ports.map_or(0, |ports| ports.0),
                architecture: self.resources.architecture.map(|architecture| architecture.0),
                min_clock_mhz: self.resources.min_clock_mhz.map_or(0, |clock| clock.0),
                min_score: self.resources.min_score.map_or(0, |score| score.0),
            },
            max_price: self.max_price,
            wait: self.wait,
            wanted: self.wanted.map(|wanted| wanted.0),
            max_attempts: self.attempts.map(|attempts| attempts.0),
        })
    }

    /// The job's name, its one program, and what it needs.
    fn single(
        &mut self,
        timeout: Millis,
        file: Option<&Path>,
    ) -> Result<(String, Vec<TaskSpec>, TaskResources), JobFileError> {
        let wasm = self.wasm.take().ok_or_else(|| JobFileError::Missing {
            file: file.map(Path::to_path_buf),
            field: "wasm",
            meaning: "the program to run",
        })?;
        let stem =
            || wasm.file_stem().map(|stem| stem.to_string_lossy().parse().unwrap_or(Name("job".to_owned())));
        let name = self.name.take().or_else(stem).unwrap_or(Name("job".to_owned())).0;
        let needs = TaskResources {
            cpu: self.resources.cpu.take().map_or(DEFAULT_CPU, |cpu| cpu.0),
            memory: self.resources.memory.take().map_or(DEFAULT_MEMORY, |memory| memory.0),
            disk: self.resources.disk.unwrap_or(DEFAULT_DISK),
        };
        let task = TaskSpec {
            name: name.clone(),
            wasm,
            args: self.args.take().unwrap_or_default(),
            env: self.env.take().unwrap_or_default(),
            stdin: self.stdin.take(),
            input: self.input.take(),
            timeout,
            resources: None,
        };
        Ok((name, vec![task], needs))
    }

    /// The job's name, its programs, and what they need together. One that is alone is as if there were no list.
    fn several(
        &mut self,
        tasks: Vec<JobTask>,
        timeout: Millis,
        file: Option<&Path>,
    ) -> Result<(String, Vec<TaskSpec>, TaskResources), JobFileError> {
        let of_one = [
            ("wasm", self.wasm.is_some()),
            ("args", self.args.is_some()),
            ("env", self.env.is_some()),
            ("stdin", self.stdin.is_some()),
            ("input", self.input.is_some()),
            ("resources.cpu", self.resources.cpu.is_some()),
            ("resources.memory", self.resources.memory.is_some()),
            ("resources.disk", self.resources.disk.is_some()),
        ];
        if let Some((field, _)) = of_one.into_iter().find(|(_, is_said)| *is_said) {
            return Err(JobFileError::OfOneProgram { file: file.map(Path::to_path_buf), field });
        }
        let is_several = tasks.len() > 1;
        let mut sum = TaskResources::default();
        let mut specs = Vec::with_capacity(tasks.len());
        for task in tasks {
            let share = TaskResources {
                cpu: task.resources.cpu.map_or(DEFAULT_CPU, |cpu| cpu.0),
                memory: task.resources.memory.map_or(DEFAULT_MEMORY, |memory| memory.0),
                disk: task.resources.disk.unwrap_or(DEFAULT_DISK),
            };
            sum = sum.checked_add(&share).ok_or(JobFileError::TooMuch)?;
            specs.push(TaskSpec {
                name: task.name.0,
                wasm: task.wasm,
                args: task.args,
                env: task.env,
                stdin: task.stdin,
                input: task.input,
                timeout: task.timeout.map_or(timeout, |timeout| timeout.0),
                resources: is_several.then_some(share),
            });
        }
        let name = self.name.take().map_or_else(|| "job".to_owned(), |name| name.0);
        Ok((name, specs, sum))
    }
}

/// An error's first line without the place at its end, which is told in its own words.
fn without_place(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let end = [" at line ", " (line "].iter().filter_map(|mark| line.rfind(mark)).min().unwrap_or(line.len());
    // What the library tells its own users helps nobody who writes a job.
    let line = &line[..end];
    let end = [", set ", "; use ", ", use "].iter().filter_map(|mark| line.find(mark)).min();
    line[..end.unwrap_or(line.len())].to_owned()
}

/// A job that is complete but for its uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// A name for people.
    pub name: String,
    /// What is run: one program, or several side by side.
    pub tasks: Vec<TaskSpec>,
    /// A directory for what is in `/output` at the end; of several programs each has one below it, with its name.
    pub output: Option<PathBuf>,
    /// What it needs.
    pub requirement: Requirement,
    /// Highest acceptable price per hour.
    pub max_price: Option<Price>,
    /// How long to go on asking; the node's default if absent.
    pub wait: Option<Millis>,
    /// How many bids are wanted; the node's default if absent.
    pub wanted: Option<u16>,
    /// How many attempts; the node's default if absent.
    pub max_attempts: Option<u32>,
}

/// A program that is complete but for its uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// A name for people.
    pub name: String,
    /// The WebAssembly module.
    pub wasm: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// A file for standard input.
    pub stdin: Option<PathBuf>,
    /// A directory for `/input`.
    pub input: Option<PathBuf>,
    /// How long it may run.
    pub timeout: Millis,
    /// Its share of what the job needs, if it is one of several.
    pub resources: Option<TaskResources>,
}

/// What the paths of a [`TaskSpec`] have become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploads {
    /// The module.
    pub module: ContentId,
    /// Standard input.
    pub stdin: Option<ContentId>,
    /// The file tree of the input directory.
    pub input: Option<ContentId>,
}

impl JobSpec {
    /// How long it may run at most.
    pub fn run_time(&self) -> Millis {
        self.tasks.iter().map(|task| task.timeout).max().unwrap_or_default()
    }

    /// The job to ask for; `uploads` are those of its tasks, in their order.
    pub fn into_new_job(self, uploads: Vec<Uploads>) -> NewJob {
        let task = |(task, uploads): (TaskSpec, Uploads)| Task {
            name: task.name,
            module: uploads.module,
            args: task.args,
            env: task.env,
            stdin: uploads.stdin,
            input: uploads.input,
            timeout: task.timeout,
            resources: task.resources,
        };
        let tasks = self.tasks.into_iter().zip(uploads).map(task).collect();
        NewJob {
            name: self.name,
            pods: vec![Pod { requirement: self.requirement, tasks }],
            max_price: self.max_price,
            wanted: self.wanted,
            wait: self.wait,
            max_attempts: self.max_attempts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name: wordcount
wasm: ../programs/wordcount.wasm
args: [--top, 10, "1.10"]
env: {LANG: C, LEVEL: 3}
stdin: in.txt
input: texts
output: out
resources:
  cpu: 0.5
  memory: 1GiB
  disk: 64MiB
  ports: 2
  gpus: [{vendor: NVIDIA, model: A100, memory: 40GiB}, {}]
  architecture: x86_64
  min_clock_mhz: 2000
  min_score: 300
timeout: 60s
max_price: 0.5
wait: 2m
wanted: 3
attempts: 2
locations: [eu-west, CH]
labels: {disk: ssd}
"#;

    fn error(name: &str, text: &str) -> String {
        JobFile::parse(Path::new(name), text).expect_err(text).to_string()
    }

    #[test]
    fn a_whole_file_is_read_and_its_paths_begin_at_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("job.yaml");
        std::fs::write(&path, WHOLE).unwrap();
        let job = JobFile::read(&path).unwrap().complete(None).unwrap();
        let task = &job.tasks[0];
        assert_eq!((job.tasks.len(), task.resources), (1, None));
        assert_eq!(task.wasm, directory.path().join("../programs/wordcount.wasm"));
        assert_eq!(job.output, Some(directory.path().join("out")));
        assert_eq!(task.args, ["--top", "10", "1.10"]);
        assert_eq!(task.env["LEVEL"], "3");
        assert_eq!(job.requirement.cpu, CpuMillis(500));
        assert_eq!(job.requirement.memory, MemoryMib(1024));
        let (need, a100) = (&job.requirement, &job.requirement.gpus[0]);
        assert_eq!((need.ports, need.architecture.as_deref()), (2, Some("x86_64")));
        assert_eq!((need.min_clock_mhz, need.min_score), (2000, 300));
        assert_eq!((a100.vendor.as_deref(), a100.model.as_deref()), (Some("nvidia"), Some("A100")));
        assert_eq!((a100.memory, &need.gpus[1]), (MemoryMib(40_960), &GpuRequirement::default()));
        assert_eq!(task.timeout, Millis(60_000));
        assert_eq!(job.max_price, Some(Price(500_000)));
        assert_eq!((job.wanted, job.max_attempts), (Some(3), Some(2)));
    }

    #[test]
    fn json_says_the_same() {
        let json =
            r#"{"wasm": "a.wasm", "args": ["x"], "resources": {"cpu": 0.5, "memory": "1GiB"}, "wanted": 3}"#;
        let yaml = "wasm: a.wasm\nargs: [x]\nresources: {cpu: 0.5, memory: 1GiB}\nwanted: 3\n";
        let parse = |name: &str, text: &str| JobFile::parse(Path::new(name), text).unwrap();
        assert_eq!(parse("j.json", json), parse("j.yaml", yaml));
        let job = parse("j.json", json).complete(None).unwrap();
        assert_eq!((job.name.as_str(), job.tasks[0].timeout, job.wait), ("a", DEFAULT_TIMEOUT, None));
    }

    #[test]
    fn a_malformed_yaml_file_is_refused_with_line_column_and_field() {
        let table: &[(&str, &str)] = &[
            ("wasm: a\ncolour: red\n", "j.yaml:2:1: colour: unknown field `colour`"),
            ("wasm: a\ntimeout: soon\n", "j.yaml:2:10: timeout: \"soon\" is not a duration"),
            ("wasm: a\ntimeout: 60y\n", "j.yaml:2:10: timeout: \"60y\" is not a duration"),
            ("wasm: a\ntimeout: 1000h\n", "j.yaml:2:10: timeout: must be more than 0 and at most 30 days"),
            (
                "wasm: a\nresources:\n  cpu: 1\n  memory: lots\n",
                "j.yaml:4:11: resources.memory: \"lots\" is not an amount of memory",
            ),
            ("wasm: a\nresources: {cpu: 0}\n", "j.yaml:2:18: resources.cpu: must be more than 0"),
            ("wasm: a\nresources: {gpu: 1}\n", "j.yaml:2:13: resources.gpu: unknown field `gpu`"),
            (
                "wasm: a\nresources: {ports: 257}\n",
                "j.yaml:2:20: resources.ports: must be a number from 0 to 256",
            ),
            ("wasm: a\nresources: {ports: many}\n", "j.yaml:2:20: resources.ports: must be a number from 0"),
            (
                "wasm: a\nresources: {architecture: 'x86 64'}\n",
                "j.yaml:2:27: resources.architecture: must be an instruction set",
            ),
            (
                "wasm: a\nresources: {min_score: -1}\n",
                "j.yaml:2:24: resources.min_score: must be a whole number",
            ),
            (
                "wasm: a\nresources: {gpus: [{cores: 1}]}\n",
                "j.yaml:2:21: resources.gpus[0].cores: unknown field `cores`",
            ),
            (
                "wasm: a\nresources: {gpus: [{memory: 8}]}\n",
                "j.yaml:2:29: resources.gpus[0].memory: \"8\" is not",
            ),
            ("wasm: a\nwanted: 65\n", "j.yaml:2:9: wanted: must be a number from 1 to 64"),
            ("wasm: a\nwanted: many\n", "j.yaml:2:9: wanted: must be a number from 1 to 64"),
            ("wasm: a\nargs: 3\n", "j.yaml:2:7: args: "),
            ("wasm: a\nenv: [a]\n", "j.yaml:2:6: env: "),
            ("wasm: a\nname: \"\"\n", "j.yaml:2:7: name: must be 1 to 512 bytes"),
            ("wasm: a\nwasm: b\n", "j.yaml:2:1: duplicate mapping key: wasm"),
            ("wasm: a\n---\nwasm: b\n", "j.yaml:"),
            ("wasm: [\n", "j.yaml:1:7: wasm: "),
            ("wasm: \"a\n", "j.yaml:"),
            ("- wasm\n", "j.yaml:1:1: "),
        ];
        for (text, expected) in table {
            let error = error("j.yaml", text);
            assert!(error.starts_with(expected), "{text:?}\n  gave     {error}\n  expected {expected}");
            assert!(!error.contains('\n'), "{error}");
            for word in ["Policy", "from_", "Options"] {
                assert!(!error.contains(word), "a word of the library: {error}");
            }
        }
    }

    #[test]
    fn a_malformed_json_file_is_refused_with_line_and_field() {
        let table: &[(&str, &str)] = &[
            ("{\n \"colour\": 1}", "j.json:2:9: colour: unknown field `colour`"),
            ("{\n \"timeout\": \"soon\"}", "j.json:2:18: timeout: \"soon\" is not a duration"),
            ("{\"resources\":\n {\"cpu\": 0}}", "j.json:2:10: resources.cpu: must be more than 0"),
            ("{\"args\": 3}", "j.json:1:10: args: invalid type"),
            ("{\"wasm\": \"a\"} x", "j.json:1:15: trailing characters"),
            ("{", "j.json:1:1: EOF"),
        ];
        for (text, expected) in table {
            let error = error("j.json", text);
            assert!(error.starts_with(expected), "{text:?}\n  gave     {error}\n  expected {expected}");
        }
    }

    #[test]
    fn a_bomb_of_references_does_not_go_off() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(JobFile::parse(Path::new("j.yaml"), &text).is_err());
    }

    #[test]
    fn flags_win_over_the_file_and_the_module_is_needed() {
        let file =
            JobFile::parse(Path::new("j.yaml"), "wasm: a.wasm\nwanted: 3\nresources: {cpu: 2, memory: 1GiB}")
                .unwrap();
        let flags = JobFile {
            resources: JobResources { cpu: Some(Cpu(CpuMillis(500))), ..JobResources::default() },
            ..JobFile::default()
        };
        let job = file.overridden_by(flags).complete(None).unwrap();
        assert_eq!((job.requirement.cpu, job.requirement.memory), (CpuMillis(500), MemoryMib(1024)));
        let missing = JobFile::default().complete(Some(Path::new("j.yaml"))).unwrap_err().to_string();
        assert!(missing.starts_with("j.yaml: wasm: missing"), "{missing}");
        let nowhere = JobFile::parse(Path::new("j.yaml"), "wasm: a\nlocations: ['', CH]").unwrap();
        assert_eq!(
            nowhere.complete(None).unwrap().requirement.locations.into_iter().collect::<Vec<_>>(),
            ["CH"]
        );
    }

    #[test]
    fn several_programs_are_added_up_and_say_what_is_theirs() {
        let text = "
name: pair
timeout: 20s
resources: {ports: 2}
tasks:
  - {name: left, wasm: l.wasm, args: [x], resources: {cpu: 0.5, memory: 1GiB}}
  - {name: right, wasm: r.wasm, timeout: 5s, stdin: in.txt}
";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("job.yaml");
        std::fs::write(&path, text).unwrap();
        let job = JobFile::read(&path).unwrap().complete(None).unwrap();
        let [left, right] = job.tasks.as_slice() else { panic!("{:?}", job.tasks) };
        assert_eq!((left.name.as_str(), left.timeout, left.args.len()), ("left", Millis(20_000), 1));
        assert_eq!(
            (right.timeout, right.stdin.as_deref()),
            (Millis(5_000), Some(&*directory.path().join("in.txt")))
        );
        let need = &job.requirement;
        assert_eq!((need.cpu, need.memory, need.disk), (CpuMillis(1500), MemoryMib(1088), DiskMib(128)));
        assert_eq!(need.ports, 2);
        let share = TaskResources { cpu: DEFAULT_CPU, memory: DEFAULT_MEMORY, disk: DEFAULT_DISK };
        assert_eq!(right.resources, Some(share));
        // What is made of it is what the mesh accepts.
        let module = ContentId::of_bytes(b"module");
        let uploads = || Uploads { module, stdin: None, input: None };
        let new = job.into_new_job(vec![uploads(), uploads()]);
        assert_eq!(new.pods[0].check(), Ok(()));
    }

    #[test]
    fn what_is_said_of_one_program_is_not_said_of_several() {
        let tasks = "tasks: [{name: a, wasm: a}, {name: b, wasm: b}]\n";
        for (field, line) in [
            ("wasm", "wasm: c"),
            ("args", "args: [x]"),
            ("env", "env: {A: b}"),
            ("stdin", "stdin: x"),
            ("input", "input: x"),
            ("resources.cpu", "resources: {cpu: 1}"),
            ("resources.disk", "resources: {disk: 1MiB}"),
        ] {
            let file = JobFile::parse(Path::new("j.yaml"), &format!("{tasks}{line}\n")).unwrap();
            let error = file.complete(Some(Path::new("j.yaml"))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("j.yaml: {field}: the job has `tasks`")), "{error}");
        }
        let table = [
            ("tasks: []\n", "j.yaml:1:", "a job has at least one task"),
            ("tasks: 3\n", "j.yaml:1:", "tasks"),
            ("tasks:\n- {name: a}\n", "j.yaml:2:", "tasks[0]: missing field `wasm`"),
            ("tasks:\n- {wasm: a}\n", "j.yaml:2:", "tasks[0]: missing field `name`"),
            ("tasks:\n- {name: a/b, wasm: a}\n", "j.yaml:", "a task's name has 1 to 64"),
            ("tasks:\n- name: a\n  wasm: a\n  output: x\n", "j.yaml:4:", "unknown field `output`"),
            (
                "tasks:\n- {name: a, wasm: a}\n- {name: b, wasm: b, resources: {cpu: 0}}\n",
                "j.yaml:3:",
                "must be more than 0",
            ),
            ("tasks:\n- {name: a, wasm: a, resources: {ports: 1}}\n", "j.yaml:2:", "unknown field `ports`"),
        ];
        for (text, place, problem) in table {
            let error = error("j.yaml", text);
            assert!(error.starts_with(place) && error.contains(problem), "{text:?}\n  gave {error}");
        }
        let twice = error("j.yaml", "tasks:\n- {name: a, wasm: a}\n- {name: A, wasm: b}\n");
        assert!(twice.contains("tasks") && twice.contains("two tasks are called `A`"), "{twice}");
    }
}
