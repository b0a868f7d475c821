//! Whatever comes to the port where TLS is spoken.

use larder_server::fuzz::{Received, Session, Socket};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{default_provider, sign};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

/// More than what a server says of its own accord while hands are shaken.
const SAID_MAX: usize = 16 << 10;
/// An Ed25519 key in PKCS #8, which protects nothing.
const KEY_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// Whatever comes to the port where TLS is spoken, in whatever pieces: nothing of it passes for what was encrypted, it is answered
/// by little, and when the peer has gone the connection ends. Where hands were shaken, what was encrypted arrives as it was.
///
/// The first byte chooses whether hands are shaken first, the second how long the pieces are.
pub fn tls(bytes: &[u8]) {
    let [choice, length, garbage @ ..] = bytes else { return };
    let Ok((server, mut peer)) = UnixStream::pair() else { return };
    for end in [&server, &peer] {
        end.set_nonblocking(true).expect("a socket of ours can be set");
    }
    let session = Session::new(server_config()).expect("the configuration is good");
    let mut socket = Socket::encrypted(server.into(), session);
    let mut plain = Vec::new();
    let mut expected = Vec::new();
    if choice & 3 == 3 {
        let mut client = shake_hands(&mut socket, &mut peer, &mut plain);
        client.writer().write_all(garbage).expect("it is taken");
        send_records(&mut client, &mut socket, &mut peer, &mut plain);
        expected = garbage.to_vec();
        assert_eq!(plain, expected, "what was encrypted arrives");
    }
    let mut said = 0;
    let mut is_over = false;
    for piece in garbage.chunks(1 + usize::from(*length) * 8) {
        is_over = is_over || peer.write_all(piece).is_err() || is_ended(&mut socket, &mut plain);
        said += heard(&mut peer).len();
    }
    assert_eq!(plain, expected, "nothing passes that was not encrypted");
    assert!(said <= SAID_MAX, "it says {said} bytes");
    let has_failed = socket.tls().is_some_and(|tls| tls.failure().is_some());
    assert_eq!(is_over, has_failed, "it ends if it is told why");
    // What has failed is closed by the caller; what has not ends with its peer.
    let _ = peer.shutdown(Shutdown::Write);
    assert!(is_over || (0..3).any(|_| is_ended(&mut socket, &mut plain)), "a connection without a peer ends");
    socket.say_goodbye();
    assert_eq!(plain, expected, "nothing passes at the end");
}

/// Reads what has come, as a worker does that is told of it.
fn is_ended(socket: &mut Socket, plain: &mut Vec<u8>) -> bool {
    socket.read_onto(plain) == Received::End
}

/// What the peer has been sent.
fn heard(peer: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // It says that there is nothing more by an error.
    let _ = peer.read_to_end(&mut bytes);
    bytes
}

/// A client's side, once both know each other.
fn shake_hands(socket: &mut Socket, peer: &mut UnixStream, plain: &mut Vec<u8>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("it is a name");
    let mut client = ClientConnection::new(client_config(), name).expect("the configuration is good");
    for _ in 0..4 {
        send_records(&mut client, socket, peer, plain);
        let answer = heard(peer);
        let mut answer = &answer[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("it is taken");
            client.process_new_packets().expect("the server keeps to the protocol");
        }
    }
    assert!(!client.is_handshaking() && plain.is_empty());
    client
}

fn send_records(
    client: &mut ClientConnection,
    socket: &mut Socket,
    peer: &mut UnixStream,
    plain: &mut Vec<u8>,
) {
    while client.wants_write() {
        client.write_tls(peer).expect("the socket takes it");
        assert!(!is_ended(socket, plain), "{:?}", socket.tls().and_then(Session::failure));
    }
}

fn server_config() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| {
        let key = sign::any_eddsa_type(&PrivatePkcs8KeyDer::from([&KEY_HEAD[..], &[7; 32]].concat()));
        // Nobody looks at what is certified.
        let certificate = CertificateDer::from(b"certificate".to_vec());
        let certified = CertifiedKey::new(vec![certificate], key.expect("it is a key"));
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder =
            builder.with_safe_default_protocol_versions().expect("there are such").with_no_client_auth();
        Arc::new(builder.with_cert_resolver(Arc::new(Always(Arc::new(certified)))))
    }))
}

fn client_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("there are such").dangerous();
        Arc::new(builder.with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth())
    }))
}

/// One certificate for everybody.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A client that believes everything.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
