//! The firstlook binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    firstlook::cli::main()
}
