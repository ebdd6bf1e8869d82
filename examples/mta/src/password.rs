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
    /// Keep an Argon2id hash of the password instead of keys for SCRAM: harder to guess, and shown to the server at each login
    #[arg(long)]
    argon2: bool,
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
    let password = Secret::new(password.trim_end_matches(['\r', '\n']));
    let line = if options.argon2 { PasswordFile::argon2_line } else { PasswordFile::line };
    let line = line(&user, &password, &salt)?;
    Ok(io::stdout().write_all(line.as_bytes())?)
}
