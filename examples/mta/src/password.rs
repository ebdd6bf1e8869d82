//! `mta password`: the line of a user in the file of passwords.

use std::io::{self, BufRead, Write};

use clap::Args;
use smtp_core::{Mailbox, PasswordFile, ScramKeys, Secret};

use crate::AnyError;
use crate::trial::random;

/// What `mta password` is told.
#[derive(Debug, Args)]
pub(crate) struct PasswordOptions {
    /// The user
    #[arg(value_name = "MAILBOX")]
    user: String,
}

/// Reads a password from standard input and prints the line of the user.
///
/// # Errors
/// The user is no mailbox, or the password cannot be one.
pub(crate) fn password(options: &PasswordOptions) -> Result<(), AnyError> {
    let user: Mailbox =
        options.user.parse().map_err(|error| format!("`{}` is not a mailbox: {error}", options.user))?;
    let mut password = String::new();
    io::stdin().lock().read_line(&mut password)?;
    let salt = random::<{ ScramKeys::SALT_OCTETS }>()?;
    let line = PasswordFile::line(&user, &Secret::new(password.trim_end_matches(['\r', '\n'])), &salt)?;
    Ok(io::stdout().write_all(line.as_bytes())?)
}
