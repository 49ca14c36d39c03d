//! Tokens that somebody else signed (RFC 7519).

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tenure::clock::{Clock, Timestamp};
use tenure::{Chain, Owner};

use crate::identity::{Caller, CallersError, Projects};

/// The clocks of the signer and of this machine may differ by this much.
const LEEWAY_MS: u64 = 30_000;
/// A shorter secret can be guessed; the algorithm's own output is this long.
const SECRET_BYTES: usize = 32;

/// The table `[jwt]` of a description of callers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtDescription {
    algorithm: String,
    key: String,
    audience: Option<String>,
    issuer: Option<String>,
}

/// How tokens are signed with a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSA with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Verifies signed tokens. They must carry `sub`, which is the owner, and `exp`. Rights on projects
/// come from the claim `tenure_projects`, an object such as `{"acme": "write", "*": "read"}`; without
/// it the caller has tasks, and reaches no project. A token whose claim is anything else is refused.
#[derive(Clone)]
pub struct JwtVerifier {
    key: DecodingKey,
    validation: Validation,
    clock: Clock,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    #[serde(default)]
    tenure_projects: Projects,
}

impl JwtVerifier {
    /// Tokens signed with a shared secret (HS256).
    ///
    /// # Errors
    /// A secret of less than 32 bytes.
    pub fn hs256(secret: &[u8], clock: Clock) -> Result<Self, CallersError> {
        if secret.len() < SECRET_BYTES {
            return Err(CallersError::Invalid(format!(
                "a secret must have at least {SECRET_BYTES} bytes"
            )));
        }
        Ok(Self::new(DecodingKey::from_secret(secret), Algorithm::HS256, clock))
    }

    /// Tokens signed with the private part of this public key.
    ///
    /// # Errors
    /// When the text is not a public key for the algorithm.
    pub fn public_key(
        algorithm: JwtAlgorithm,
        pem: &[u8],
        clock: Clock,
    ) -> Result<Self, CallersError> {
        let (key, algorithm) = match algorithm {
            JwtAlgorithm::Rs256 => (DecodingKey::from_rsa_pem(pem)?, Algorithm::RS256),
            JwtAlgorithm::Es256 => (DecodingKey::from_ec_pem(pem)?, Algorithm::ES256),
            JwtAlgorithm::EdDsa => (DecodingKey::from_ed_pem(pem)?, Algorithm::EdDSA),
        };
        Ok(Self::new(key, algorithm, clock))
    }

    pub(super) fn described(
        description: JwtDescription,
        clock: Clock,
    ) -> Result<Self, CallersError> {
        let key = description.key.as_bytes();
        let mut verifier = match description.algorithm.as_str() {
            "HS256" => Self::hs256(key, clock)?,
            "RS256" => Self::public_key(JwtAlgorithm::Rs256, key, clock)?,
            "ES256" => Self::public_key(JwtAlgorithm::Es256, key, clock)?,
            "EdDSA" => Self::public_key(JwtAlgorithm::EdDsa, key, clock)?,
            _ => {
                let reason = "there is no such algorithm; there are HS256, RS256, ES256 and EdDSA";
                return Err(CallersError::Invalid(reason.into()));
            }
        };
        if let Some(audience) = &description.audience {
            verifier = verifier.audience(audience);
        }
        if let Some(issuer) = &description.issuer {
            verifier = verifier.issuer(issuer);
        }
        Ok(verifier)
    }

    fn new(key: DecodingKey, algorithm: Algorithm, clock: Clock) -> Self {
        // One algorithm, fixed here: what the token says about itself is not trusted.
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "sub"]);
        // Our clock decides, not the library's.
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { key, validation, clock }
    }

    /// Only tokens for this audience.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.validation.set_audience(&[audience]);
        self.validation.validate_aud = true;
        self.validation.required_spec_claims.insert("aud".into());
        self
    }

    /// Only tokens of this issuer.
    #[must_use]
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.validation.set_issuer(&[issuer]);
        self.validation.required_spec_claims.insert("iss".into());
        self
    }

    /// Whom the token stands for; `None` if it is not good.
    pub(crate) fn caller(&self, token: &str) -> Option<Caller> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = claims
            .inspect_err(|error| tracing::debug!(error = %Chain(&error), "a token is refused"));
        let Claims { sub, exp, nbf, tenure_projects } = claims.ok()?.claims;
        let now = self.clock.now().as_millis();
        let end = millis(exp).saturating_add(LEEWAY_MS);
        let early = nbf.is_some_and(|nbf| millis(nbf) > now.saturating_add(LEEWAY_MS));
        if end <= now || early || sub.is_empty() {
            return None;
        }
        let caller = Caller::new(Owner::new(sub).ok()?).with_projects(tenure_projects);
        Some(caller.until(Timestamp::from_millis(end)))
    }
}

/// A NumericDate in milliseconds. The cast saturates, and takes NaN for 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn millis(numeric_date: f64) -> u64 {
    (numeric_date * 1_000.0) as u64
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::Rights;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn signed(claims: &Value) -> String {
        encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn verifier() -> JwtVerifier {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        JwtVerifier::hs256(SECRET, clock).unwrap()
    }

    #[test]
    fn the_subject_of_a_good_token_is_the_owner() {
        let token = signed(&json!({ "sub": "alice", "exp": 1_001 }));
        let caller = verifier().caller(&token).unwrap();
        let end = Timestamp::from_millis(1_001_000 + LEEWAY_MS);
        assert_eq!(caller, Caller::new(Owner::new("alice").unwrap()).until(end));
        assert_eq!(caller.projects().rights("acme"), None);
    }

    #[test]
    fn the_rights_of_a_token_are_those_of_its_claim() {
        let projects = json!({ "acme": "write", "*": "read" });
        let claims = json!({ "sub": "alice", "exp": 1_001, "tenure_projects": projects });
        let caller = verifier().caller(&signed(&claims)).unwrap();
        assert_eq!(caller.projects().rights("acme"), Some(Rights::Write));
        assert_eq!(caller.projects().rights("other"), Some(Rights::Read));
        for refused in [
            json!({ "acme": "admin" }),
            json!(["acme"]),
            json!("acme"),
            json!({ "acme": ["write"] }),
        ] {
            let claims = json!({ "sub": "alice", "exp": 1_001, "tenure_projects": refused });
            assert_eq!(verifier().caller(&signed(&claims)), None, "{claims}");
        }
    }

    #[test]
    fn a_token_that_is_not_good_stands_for_nobody() {
        for claims in [
            json!({ "sub": "alice" }),
            json!({ "exp": 1_001 }),
            json!({ "sub": "", "exp": 1_001 }),
            json!({ "sub": "alice", "exp": 970 }),
            json!({ "sub": "alice", "exp": 2_000, "nbf": 1_031 }),
            json!({ "sub": "x".repeat(10_000), "exp": 1_001 }),
        ] {
            assert_eq!(verifier().caller(&signed(&claims)), None, "{claims}");
        }
        let good = signed(&json!({ "sub": "alice", "exp": 1_001 }));
        let other = EncodingKey::from_secret(b"another secret of 32 bytes or so");
        let claims = json!({ "sub": "alice", "exp": 1_001 });
        let forged = encode(&Header::default(), &claims, &other).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
        for token in [forged.as_str(), &unsigned, "", "a.b.c", &good[..good.len() - 1]] {
            assert_eq!(verifier().caller(token), None, "{token}");
        }
    }

    #[test]
    fn audience_and_issuer_are_required_once_they_are_named() {
        let bare = signed(&json!({ "sub": "alice", "exp": 1_001 }));
        let claims = json!({ "sub": "alice", "exp": 1_001, "aud": "tenure", "iss": "idp" });
        let full = signed(&claims);
        let strict = verifier().audience("tenure").issuer("idp");
        assert!(strict.caller(&full).is_some());
        assert!(strict.caller(&bare).is_none());
        assert!(verifier().audience("other").caller(&full).is_none());
        assert!(verifier().issuer("other").caller(&full).is_none());
    }

    /// A key pair made for this test: PKCS #8 in base64, and PEM.
    const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEIL6isJWabDQpu3DM9ERv3ewOiHwWRj4Np88XG9JZ6Lsi";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAXXp5LXeB8nU0LyjDklDsIGFe2zH552OVfCPvRvIqvpI=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_token_of_a_key_pair_is_verified_with_the_public_key_only() {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let verifier =
            JwtVerifier::public_key(JwtAlgorithm::EdDsa, PUBLIC.as_bytes(), clock).unwrap();
        let claims = json!({ "sub": "alice", "exp": 1_001 });
        let key = EncodingKey::from_ed_der(&STANDARD.decode(PRIVATE).unwrap());
        let token = encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        assert!(verifier.caller(&token).is_some());
        // The old trick: the public key as the secret of a symmetric algorithm.
        let secret = EncodingKey::from_secret(PUBLIC.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
        assert_eq!(verifier.caller(&token), None);
    }

    #[test]
    fn a_short_secret_and_a_foreign_key_are_refused() {
        let clock = Clock::system();
        assert!(JwtVerifier::hs256(&SECRET[1..], clock.clone()).is_err());
        assert!(JwtVerifier::public_key(JwtAlgorithm::Es256, b"no key", clock).is_err());
    }
}
