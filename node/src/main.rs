//! The `dms` program. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    dms_node::cli::main()
}
