//! The figures between two processes: the groups `remote` and `remote_runs`.

fn main() -> anyhow::Result<()> {
    dms_actors_compare::remote::main()
}
