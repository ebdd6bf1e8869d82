//! A certificate authority of one host: its key never leaves the directory, and its certificates are for this host alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::AnyError;

/// The certificate of the authority, which clients trust.
pub(super) const ROOT: &str = "ca.pem";
const ROOT_KEY: &str = "ca.key";
/// The certificate of the server, and its key.
pub(super) const CHAIN: &str = "server.pem";
pub(super) const KEY: &str = "server.key";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the authority lasts, and a certificate of it.
const ROOT_DAYS: u32 = 3650;
const DAYS: u32 = 90;

/// An authority whose key was read.
pub(crate) struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority of a directory, or makes it.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub(super) fn open(directory: &Path) -> Result<Self, AnyError> {
        let (root, key) = (directory.join(ROOT), directory.join(ROOT_KEY));
        if !root.exists() {
            let pair = KeyPair::generate()?;
            super::write(&key, pair.serialize_pem().as_bytes())?;
            // Last: where it is, all of the authority is.
            super::write(&root, params(SystemTime::now())?.self_signed(&pair)?.pem().as_bytes())?;
        }
        let text = fs::read_to_string(&key).map_err(|error| format!("cannot read {}: {error}", key.display()))?;
        let pair = KeyPair::from_pem(&text).map_err(|error| format!("{} is no key: {error}", key.display()))?;
        Ok(Self { directory: directory.to_owned(), issuer: Issuer::new(params(SystemTime::now())?, pair) })
    }

    /// Makes a certificate for that name and for this host, and its key, in the place of those that there were.
    ///
    /// # Errors
    /// What cannot be written, or a name that no certificate can have.
    pub(super) fn issue(&self, hostname: &str, now: SystemTime) -> Result<(), AnyError> {
        let mut names: Vec<_> = [hostname, "localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.dedup();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, hostname);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // RFC 5280 §4.2.1.1; strict clients, as that of Python 3.13, insist on it.
        params.use_authority_key_identifier_extension = true;
        lasts(&mut params, now, DAYS);
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        super::write(&self.directory.join(KEY), pair.serialize_pem().as_bytes())?;
        super::write(&self.directory.join(CHAIN), certificate.pem().as_bytes())
    }
}

/// What the authority says of itself.
fn params(now: SystemTime) -> Result<CertificateParams, AnyError> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, "mta on this host");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasts(&mut params, now, ROOT_DAYS);
    Ok(params)
}

/// From yesterday, for clients whose clock is behind.
fn lasts(params: &mut CertificateParams, now: SystemTime, days: u32) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + now.duration_since(UNIX_EPOCH).unwrap_or_default();
    (params.not_before, params.not_after) = (now - DAY, now + DAY * days);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test] // SECURITY.md D-39: keys are for their owner alone.
    fn d39_an_authority_stays_and_its_certificates_change() -> Result<(), AnyError> {
        let directory = tempfile::tempdir()?;
        let read = |name| fs::read_to_string(directory.path().join(name));
        Authority::open(directory.path())?.issue("mx.example.org", SystemTime::now())?;
        let (root, key, first) = (read(ROOT)?, read(ROOT_KEY)?, read(CHAIN)?);
        Authority::open(directory.path())?.issue("mx.example.org", SystemTime::now())?;
        assert_eq!((read(ROOT)?, read(ROOT_KEY)?), (root, key));
        assert_ne!(read(CHAIN)?, first);
        for entry in fs::read_dir(directory.path())? {
            let entry = entry?;
            assert_eq!(entry.metadata()?.permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
        }
        assert_eq!(fs::read_dir(directory.path())?.count(), 4);
        Ok(())
    }

    #[test] // Who has told clients to trust an authority does not get another one in silence.
    fn an_authority_without_its_key_is_an_error() -> Result<(), AnyError> {
        let directory = tempfile::tempdir()?;
        Authority::open(directory.path())?;
        fs::remove_file(directory.path().join(ROOT_KEY))?;
        let error = Authority::open(directory.path()).map(drop).expect_err("no key").to_string();
        assert!(error.starts_with("cannot read ") && error.contains("ca.key"), "{error}");
        fs::write(directory.path().join(ROOT_KEY), "no key")?;
        let error = Authority::open(directory.path()).map(drop).expect_err("no key").to_string();
        assert!(error.contains("ca.key is no key"), "{error}");
        Ok(())
    }
}
