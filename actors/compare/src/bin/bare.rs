//! Ours alone, with every span and event compiled out.

fn main() -> anyhow::Result<()> {
    dms_actors_compare::local::main()
}
