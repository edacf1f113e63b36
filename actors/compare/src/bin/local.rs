//! The local figures: the group `actors`.

fn main() -> anyhow::Result<()> {
    dms_actors_compare::local::main()
}
