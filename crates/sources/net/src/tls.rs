//! TLS by rustls, with ring.

use crate::{Options, TlsMode, refused, unreachable};
use larder_source::Failure;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// How connections of a source are encrypted.
#[derive(Clone)]
pub struct Tls {
    mode: TlsMode,
    connector: Option<TlsConnector>,
}

impl Tls {
    /// Reads the certificates that are to be trusted, if any are needed.
    ///
    /// # Errors
    /// The file cannot be read, or has none.
    pub fn new(mode: TlsMode, options: &Options) -> Result<Tls, Failure> {
        if mode == TlsMode::Off {
            return Ok(Tls { mode, connector: None });
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unreachable(format!("TLS: {error}")))?;
        let verifier: Arc<dyn ServerCertVerifier> = match mode {
            TlsMode::VerifyCa | TlsMode::VerifyFull => {
                let roots = Arc::new(roots(options.ca_file.as_deref())?);
                let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let inner = inner.build().map_err(|error| refused(format!("TLS: {error}")))?;
                if mode == TlsMode::VerifyFull { inner } else { Arc::new(AnyName { inner }) }
            }
            _ => Arc::new(Anybody { provider }),
        };
        let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Tls { mode, connector: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// The mode.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Who shakes hands; none when the mode is off.
    pub(crate) fn connector(&self) -> Option<&TlsConnector> {
        self.connector.as_ref()
    }
}

/// Why hands could not be shaken, and what can be done.
pub(crate) fn why(error: &io::Error) -> String {
    let advice = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::UnknownIssuer => "name the file of who signed it by ca-file",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "connect by a name that it is for, or do not check the name (sslmode=verify-ca)"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the store needs a new one"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "look at the clocks, here and there"
            }
            _ => return error.to_string(),
        },
        Some(Error::InvalidMessage(_)) => "does the store speak TLS at this port?",
        None if error.kind() == io::ErrorKind::UnexpectedEof => "does the store speak TLS at this port?",
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

/// The certificates to trust: those of the file, or the system's.
fn roots(file: Option<&str>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| refused(format!("certificates of {path}: {error}"));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(wrong(&"there are none"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(refused("the system has no certificates to trust: name a file with ca-file"));
            }
        }
    }
    Ok(roots)
}

/// Checks the chain, but not the name.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Encrypts with anybody.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
