//! Whom a `rediss://` connection trusts, and what it says when it does not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redis::{ClientTlsConfig, RedisError, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::RedisOptions;
use crate::store::StoreError;

/// Reads the certificates that the options name. They are read once: a renewed one needs a restart.
pub(super) fn certificates(options: &RedisOptions) -> Result<Option<TlsCertificates>, StoreError> {
    let root_cert = options.ca.as_deref().map(certificate).transpose()?;
    let client_tls = match &options.identity {
        Some(identity) => Some(ClientTlsConfig {
            client_cert: certificate(&identity.cert)?,
            client_key: private_key(&identity.key)?,
        }),
        None => None,
    };
    let named = root_cert.is_some() || client_tls.is_some();
    Ok(named.then_some(TlsCertificates { client_tls, root_cert }))
}

/// An empty set of authorities would trust nobody, and not say why.
fn certificate(file: &Path) -> Result<Vec<u8>, StoreError> {
    let pem = read(file)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(unusable(file, "it holds no certificate in PEM")),
    }
}

fn private_key(file: &Path) -> Result<Vec<u8>, StoreError> {
    let pem = read(file)?;
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(pem),
        Err(_) => Err(unusable(file, "it holds no private key in PEM")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(file).map_err(|error| unusable(file, &error.to_string()))
}

fn unusable(file: &Path, reason: &str) -> StoreError {
    StoreError::InvalidLocation(format!("{} cannot be used for TLS: {reason}", file.display()))
}

/// What TLS says when the two sides do not come together, which no repetition will change.
pub(super) fn refusal(error: &RedisError) -> Option<&rustls::Error> {
    // The source is the `Arc` itself, and an I/O error does not count what it wraps as a source.
    let source = std::error::Error::source(error)?;
    let shared = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    shared.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}
