//! Ours alone, with tracing and metrics compiled in.

fn main() -> anyhow::Result<()> {
    dms_actors_compare::local::main()
}
