//! Rules that an owner writes as expressions in CEL: `price < 0.5 && wasm >= 200`.
//!
//! What is true or false accepts or rejects; a number is a score. The language is cut down to what ends soon whatever is
//! written: no loops, no functions that make much of little, no names but those below, a bounded length. What cannot be
//! computed (a missing label, a division by zero) rejects, and says so.
//!
//! | name | type | is |
//! |---|---|---|
//! | `did`, `location` | string | the node's DID; where it stands, empty if it does not say |
//! | `labels`, `executors` | map, list of strings | its labels; what it runs, empty if it does not say |
//! | `price` | double | credits per hour |
//! | `cores` | double | of what it offers; for a provider, of what the requester wants |
//! | `memory_mib`, `disk_mib`, `gpus`, `ports` | int | of what it offers; for a provider, of what the requester wants |
//! | `fit`, `load`, `reputation` | int | thousandths; a fit or a load of 0 if it does not say; for a provider the load is its own, with what is asked for |
//! | `cpu_single`, `cpu_multi`, `memory_speed`, `disk_write`, `disk_syncs`, `wasm` | int | the benchmark; 0 where it was not measured |
//! | `needed_cores`, `max_price` | double | of the request; without a limit -1 |
//! | `needed_memory_mib`, `needed_disk_mib`, `needed_gpus`, `needed_ports`, `run_time_s` | int | of the request |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::common::types::{CelDouble, CelInt, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::Map;
use cel::{Context, Env, ExecutionError, Program, Value};
use dms_messages::{CpuMillis, Figure, Price};

use super::{Candidate, Rejection, Request, Rule, Verdict};

/// Longest expression, in bytes.
pub const MAX_EXPRESSION_LENGTH: usize = 512;
/// Most brackets of an expression that are open at a time: nobody reads more.
const MAX_NESTING: usize = 32;
/// Scores are whole: what a number comes to is counted in millionths.
const SCALE: i64 = 1_000_000;
/// Longest reason that is made of what CEL says, in characters.
const MAX_REASON: usize = 120;

/// Every name that an expression may use.
const NAMES: [&str; 26] = [
    "cores",
    "cpu_multi",
    "cpu_single",
    "did",
    "disk_mib",
    "disk_syncs",
    "disk_write",
    "executors",
    "fit",
    "gpus",
    "labels",
    "load",
    "location",
    "max_price",
    "memory_mib",
    "memory_speed",
    "needed_cores",
    "needed_disk_mib",
    "needed_gpus",
    "needed_memory_mib",
    "needed_ports",
    "ports",
    "price",
    "reputation",
    "run_time_s",
    "wasm",
];

/// Every function and operator that may be used: none makes more of what it is given than that is long.
const FUNCTIONS: [&str; 24] = [
    "_?_:_",
    "_&&_",
    "_||_",
    "!_",
    "_-_",
    "_+_",
    "_*_",
    "_/_",
    "_%_",
    "_==_",
    "_!=_",
    "_>=_",
    "_<=_",
    "_>_",
    "_<_",
    "-_",
    "_[_]",
    "@in",
    "contains",
    "double",
    "endsWith",
    "int",
    "size",
    "startsWith",
];

/// What every expression is computed in: made once, shared by all.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// It is too long.
    #[error("an expression has at most {MAX_EXPRESSION_LENGTH} bytes, and this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It cannot be read.
    #[error("not an expression in CEL: {0}")]
    Malformed(String),
    /// It uses a name that nobody knows.
    #[error("there is no {0:?} to judge by: there are {names}", names = NAMES.join(", "))]
    UnknownName(String),
    /// It uses a function that is not offered.
    #[error("{0:?} is not offered in preferences")]
    Function(String),
    /// It uses something else that is not offered.
    #[error("{0} are not offered in preferences")]
    NotOffered(&'static str),
}

/// How many brackets are open at most, wherever they stand: the parser keeps much for each.
fn deepest(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for sign in text.bytes() {
        match sign {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// A rule written in CEL, compiled once.
#[derive(Debug)]
pub struct Expression {
    name: String,
    program: Program,
}

impl Expression {
    /// Compiles `text` as the rule `name`.
    ///
    /// # Errors
    /// [`ExpressionError`].
    pub fn compile(name: impl Into<String>, text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_EXPRESSION_LENGTH {
            return Err(ExpressionError::TooLong { length: text.len() });
        }
        if deepest(text) > MAX_NESTING {
            let why = format!("more than {MAX_NESTING} brackets within each other");
            return Err(ExpressionError::Malformed(why));
        }
        // Its parser is somebody else's: a panic there must not be one here.
        let compiled = catch_unwind(|| Program::compile(text));
        let program = compiled
            .map_err(|_| ExpressionError::Malformed("it cannot be read".to_owned()))?
            .map_err(|errors| ExpressionError::Malformed(first_line(&errors.to_string())))?;
        check(program.expression())?;
        Ok(Self { name: name.into(), program })
    }

    /// What it comes to, whatever it does.
    fn compute(&self, facts: &Facts<'_>) -> Result<Value, String> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(facts);
        match catch_unwind(AssertUnwindSafe(|| self.program.execute(&context))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(ExecutionError::NoSuchKey(key))) => Err(format!("there is no {key:?}")),
            Ok(Err(error)) => Err(first_line(&error.to_string())),
            Err(_) => Err("it cannot be computed".to_owned()),
        }
    }
}

impl Rule for Expression {
    fn name(&self) -> &str {
        &self.name
    }

    fn judge(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> Verdict {
        let failed = |why: String| Verdict::Reject(Rejection::passing(format!("cannot be judged: {why}")));
        match self.compute(&Facts { request, candidate }) {
            Ok(Value::Bool(true)) => Verdict::Accept,
            Ok(Value::Bool(false)) => Verdict::Reject(Rejection::passing("is not what the expression wants")),
            Ok(Value::Int(score)) => Verdict::Score(score.saturating_mul(SCALE)),
            Ok(Value::UInt(score)) => {
                Verdict::Score(i64::try_from(score).unwrap_or(i64::MAX).saturating_mul(SCALE))
            }
            // Millionths, as of whole numbers; what is too large is the largest, as casts have it.
            Ok(Value::Float(score)) if !score.is_nan() => {
                Verdict::Score((score * SCALE as f64).round() as i64)
            }
            Ok(Value::Float(_)) => failed("it is no number".to_owned()),
            Ok(_) => failed("it is neither true nor false, and no number".to_owned()),
            Err(why) => failed(why),
        }
    }

    fn score_text(&self, score: i64) -> String {
        (score as f64 / SCALE as f64).to_string()
    }
}

/// The first line of what CEL says, short enough to be shown.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(MAX_REASON).collect()
}

/// Refuses everything that may take long, and whatever nobody knows. What comes here is at most as deep as the parser
/// lets it be.
fn check(expression: &IdedExpr) -> Result<(), ExpressionError> {
    match &expression.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if NAMES.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => Err(ExpressionError::UnknownName(name.clone())),
        Expr::Select(select) => check(&select.operand),
        Expr::Call(call) if FUNCTIONS.contains(&call.func_name.as_str()) => {
            call.target.iter().try_for_each(|target| check(target))?;
            call.args.iter().try_for_each(check)
        }
        Expr::Call(call) => Err(ExpressionError::Function(call.func_name.clone())),
        Expr::List(list) => list.elements.iter().try_for_each(check),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => check(&entry.key).and(check(&entry.value)),
            EntryExpr::StructField(field) => check(&field.value),
        }),
        Expr::Comprehension(_) => Err(ExpressionError::NotOffered("loops (all, exists, map, filter)")),
        Expr::Struct(_) => Err(ExpressionError::NotOffered("messages")),
        Expr::Unspecified => Err(ExpressionError::Malformed("it is empty".to_owned())),
    }
}

/// The values of the names, found when they are asked for: most expressions use few of them.
struct Facts<'a> {
    request: &'a Request<'a>,
    candidate: &'a Candidate<'a>,
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (request, candidate) = (self.request, self.candidate);
        let (need, offer) = (request.requirement, candidate.resources);
        let figure = |figure: Figure| int(u64::from(candidate.figure(figure)));
        Some(match name {
            "price" => double(credits(candidate.price)),
            "memory_mib" => int(offer.memory.0),
            "wasm" => figure(Figure::Wasm),
            "load" => int(u64::from(candidate.load.unwrap_or_default())),
            "location" => CowVal::owned(CelString::from(candidate.location.unwrap_or_default())),
            "cores" => double(cores(offer.cpu)),
            "disk_mib" => int(offer.disk.0),
            "gpus" => int(offer.gpus.len() as u64),
            "ports" => int(offer.ports.len() as u64),
            "fit" => int(u64::from(candidate.fit.unwrap_or_default())),
            "reputation" => int(u64::from(candidate.reputation.score())),
            "cpu_single" => figure(Figure::CpuSingle),
            "cpu_multi" => figure(Figure::CpuMulti),
            "memory_speed" => figure(Figure::Memory),
            "disk_write" => figure(Figure::DiskWrite),
            "disk_syncs" => figure(Figure::DiskSyncs),
            "needed_cores" => double(cores(need.cpu)),
            "needed_memory_mib" => int(need.memory.0),
            "needed_disk_mib" => int(need.disk.0),
            "needed_gpus" => int(need.gpus.len() as u64),
            "needed_ports" => int(u64::from(need.ports)),
            "run_time_s" => int(request.run_time.0 / 1000),
            "max_price" => double(request.max_price.map_or(-1.0, credits)),
            "did" => value(candidate.did.to_string().into()),
            "labels" => {
                // Unordered, but nothing that is let through goes over its entries.
                let entry = |(key, value): (&String, &String)| (key.clone().into(), value.clone().into());
                value(Value::Map(Map { map: Arc::new(candidate.labels.iter().map(entry).collect()) }))
            }
            "executors" => {
                let executors = candidate.executors.into_iter().flatten();
                value(executors.map(ToString::to_string).collect::<Vec<String>>().into())
            }
            _ => return None,
        })
    }
}

fn int<'b>(number: u64) -> CowVal<'b, 'b> {
    CowVal::owned(CelInt::from(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn double<'b>(number: f64) -> CowVal<'b, 'b> {
    CowVal::owned(CelDouble::from(number))
}

fn value<'b>(value: Value) -> CowVal<'b, 'b> {
    let value: Result<Box<dyn Val>, _> = value.try_into();
    CowVal::Owned(value.expect("texts, lists and maps of texts are values"))
}

fn credits(price: Price) -> f64 {
    price.0 as f64 / 1e6
}

fn cores(cpu: CpuMillis) -> f64 {
    cpu.0 as f64 / 1e3
}
