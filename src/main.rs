//! The program `supervisor`. Everything is in the library; this only gives it the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    supervisor::cli::main()
}
