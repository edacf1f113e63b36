//! The `dms` program. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    if let Err(text) = dms_storage::failpoints::arm() {
        eprintln!("error: {text}");
        return std::process::ExitCode::FAILURE;
    }
    dms_node::cli::main()
}
