//! What WebAssembly programs do: a loop, compiled and run as the executor does it.

use wasmtime::{Instance, Module, Store, TypedFunc};

use super::runs::{Budget, Run, repeat};
use super::{BenchmarkError, per_second};
use crate::executors::wasm::new_engine;

/// A step is one turn of the loop: three shifts (xorshift32, which nothing can compute ahead), a load and a store
/// somewhere in 16 KiB, and what the executor adds for interrupting. So much lies in the first cache of every
/// processor, wherever its pages are: more would be quicker or slower by the luck of where the system puts it.
const PROGRAM: &str = r#"(module
  (memory 1)
  (func (export "steps") (param $count i32) (result i32)
    (local $x i32) (local $at i32)
    (local.set $x (i32.const 0x9e3779b9))
    (loop $next
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
      (local.set $at (i32.and (local.get $x) (i32.const 0x3ffc)))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $x)))
      (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $x)))"#;
/// Steps of one run: around a millisecond.
const STEPS: u32 = 1 << 19;
/// Steps that are counted as one.
const MILLION: u64 = 1_000_000;

struct Steps {
    store: Store<()>,
    steps: TypedFunc<u32, u32>,
}

impl Steps {
    fn new() -> wasmtime::Result<Self> {
        let engine = new_engine()?;
        let module = Module::new(&engine, PROGRAM)?;
        let mut store = Store::new(&engine, ());
        // The executor's clock does not tick here: only its price is paid.
        store.set_epoch_deadline(1);
        let instance = Instance::new(&mut store, &module, &[])?;
        let steps = instance.get_typed_func(&mut store, "steps")?;
        Ok(Self { store, steps })
    }
}

impl Run for Steps {
    fn run(&mut self) -> Result<u64, BenchmarkError> {
        let result = self.steps.call(&mut self.store, STEPS).map_err(failed)?;
        std::hint::black_box(result);
        Ok(u64::from(STEPS))
    }
}

fn failed(error: wasmtime::Error) -> BenchmarkError {
    BenchmarkError::Wasm(format!("{error:#}"))
}

/// Millions of steps in a second on one core.
pub(super) fn steps(budget: &Budget<'_>) -> Result<u32, BenchmarkError> {
    budget.check()?;
    repeat(budget, &mut Steps::new().map_err(failed)?).map(|rate| per_second(rate, MILLION))
}
