//! Certificates, made as they are needed: as much of X.509 (RFC 5280) as TLS asks for, in DER, signed with ECDSA over P-256.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Types of values.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const TEXT: u8 = 0x0c;
const TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];

/// Each certificate has a number of its own.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Who signs certificates.
pub(crate) struct Authority {
    name: &'static str,
    key: EcdsaKeyPair,
    /// Its own certificate (PEM).
    pub(crate) certificate: String,
}

/// A certificate and its key (PEM).
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &'static str) -> Authority {
        let (key, _) = new_key();
        let mut authority = Authority { name, key, certificate: String::new() };
        let is_authority = der(SEQUENCE, &[&der(BOOLEAN, &[&[0xff]])]);
        let public = authority.key.public_key().as_ref().to_vec();
        let signed = authority.sign(name, &public, -1..3650, BASIC_CONSTRAINTS, &is_authority);
        authority.certificate = pem("CERTIFICATE", &signed);
        authority
    }

    /// For `localhost` and 127.0.0.1, valid so many days from now.
    pub(crate) fn issue_for(&self, days: Range<i64>) -> Issued {
        let (key, document) = new_key();
        let names = der(SEQUENCE, &[&der(0x82, &[b"localhost"]), &der(0x87, &[&[127, 0, 0, 1]])]);
        let signed = self.sign("a machine", key.public_key().as_ref(), days, ALTERNATIVE_NAMES, &names);
        Issued { certificate: pem("CERTIFICATE", &signed), key: pem("PRIVATE KEY", &document) }
    }

    pub(crate) fn issue(&self) -> Issued {
        self.issue_for(-1..30)
    }

    fn sign(&self, subject: &str, public: &[u8], days: Range<i64>, extension: &[u8], value: &[u8]) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[&der(OID, &[ECDSA_WITH_SHA256])]);
        let kind = der(SEQUENCE, &[&der(OID, &[EC_PUBLIC_KEY]), &der(OID, &[P256])]);
        let extension = der(SEQUENCE, &[&der(OID, &[extension]), &der(OCTETS, &[value])]);
        let body = der(
            SEQUENCE,
            &[
                // The third version.
                &der(0xa0, &[&der(INTEGER, &[&[2]])]),
                &der(INTEGER, &[&[1], &NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes()]),
                &algorithm,
                &named(self.name),
                &der(SEQUENCE, &[&in_days(days.start), &in_days(days.end)]),
                &named(subject),
                &der(SEQUENCE, &[&kind, &der(BITS, &[&[0], public])]),
                &der(0xa3, &[&der(SEQUENCE, &[&extension])]),
            ],
        );
        let signature = self.key.sign(&SystemRandom::new(), &body).expect("signed");
        der(SEQUENCE, &[&body, &algorithm, &der(BITS, &[&[0], signature.as_ref()])])
    }
}

fn new_key() -> (EcdsaKeyPair, Vec<u8>) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).expect("a key");
    (key, document.as_ref().to_vec())
}

fn named(name: &str) -> Vec<u8> {
    let part = der(SEQUENCE, &[&der(OID, &[COMMON_NAME]), &der(TEXT, &[name.as_bytes()])]);
    der(SEQUENCE, &[&der(SET, &[&part])])
}

/// Before 2050, as the type has it.
fn in_days(days: i64) -> Vec<u8> {
    let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
    der(TIME, &[at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
}

fn der(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("it is short").to_be_bytes();
    let mut value = vec![kind];
    match length {
        [0, short] if short < 0x80 => value.push(short),
        [0, short] => value.extend([0x81, short]),
        long => value.extend([0x82, long[0], long[1]]),
    }
    value.extend(content);
    value
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
