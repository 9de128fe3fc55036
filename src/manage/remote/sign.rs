//! At the desk: key pairs and signatures.
//!
//! Must not: be used by a running gateway, or show a secret key (the library's types can print theirs: none leaves this
//! file).

use std::io::Cursor;

use minisign::{KeyPair, SecretKeyBox};
use secrecy::{ExposeSecret as _, SecretString};

/// Why nothing was signed or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No secret key.
    #[error("not a minisign secret key; name the .key file that `portero config keygen` or `minisign -G` wrote")]
    Key,
    /// The password is not that of the key.
    #[error("the password does not open this key")]
    Password,
    /// It is protected, and nobody can be asked.
    #[error("this key is protected by a password, and there is no terminal to ask for it; use --password-file")]
    NobodyToAsk,
    /// The system gave no randomness, or the library refused.
    #[error("no key could be made: {0}")]
    Failed(String),
}

/// What protects a secret key.
#[derive(Debug, Clone)]
pub enum Password {
    /// Nothing.
    None,
    /// A person is asked for it, on the terminal.
    Ask,
    /// This.
    Given(SecretString),
}

/// The texts of a `.pub` and a `.key` file.
#[derive(Debug)]
pub struct Pair {
    /// To give away.
    pub public: String,
    /// To keep.
    pub secret: SecretString,
}

/// Makes a key pair.
pub fn keygen(password: &Password) -> Result<Pair, Error> {
    let failed = |error: minisign::PError| Error::Failed(error.to_string());
    let pair = match password {
        Password::None => KeyPair::generate_unencrypted_keypair(),
        Password::Ask => KeyPair::generate_encrypted_keypair(None),
        Password::Given(password) => KeyPair::generate_encrypted_keypair(Some(password.expose_secret().to_owned())),
    };
    let pair = pair.map_err(failed)?;
    let public = pair.pk.to_box().map_err(failed)?.to_string();
    let secret = pair.sk.to_box(None).map_err(failed)?.to_string();
    Ok(Pair { public, secret: SecretString::from(secret) })
}

/// Signs a payload with the text of a `.key` file; answers the text of a `.minisig` file. `comment` is signed, too.
pub fn sign(payload: &[u8], key: &SecretString, password: &Password, comment: &str) -> Result<String, Error> {
    let read = || {
        let lines = key.expose_secret().lines().filter(|line| !line.trim().is_empty()).count();
        // The library takes the second line, and would panic or complain in its own words without it.
        if lines == 2 {
            SecretKeyBox::from_string(key.expose_secret()).map_err(|_| Error::Key)
        } else {
            Err(Error::Key)
        }
    };
    let secret = match (read()?.into_unencrypted_secret_key(), password) {
        (Ok(secret), _) => secret,
        (Err(_), Password::None) => return Err(Error::NobodyToAsk),
        (Err(_), Password::Ask) => read()?.into_secret_key(None).map_err(|_| Error::Password)?,
        (Err(_), Password::Given(password)) => {
            read()?.into_secret_key(Some(password.expose_secret().to_owned())).map_err(|_| Error::Password)?
        }
    };
    let comment: String = comment.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    let signed = minisign::sign(None, &secret, Cursor::new(payload), Some(&comment), Some("signature from portero"));
    signed.map(|signature| signature.to_string()).map_err(|error| Error::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manage::remote::signature::{self, Key};

    #[test]
    fn what_is_signed_here_is_verified_there() {
        let password = Password::Given(SecretString::from("correct horse".to_owned()));
        for password in [Password::None, password] {
            let pair = keygen(&password).unwrap();
            let key = Key::parse(&pair.public).unwrap();
            let signature = sign(b"a = 1\n", &pair.secret, &password, "for\na test").unwrap();
            assert_eq!(signature::verify(b"a = 1\n", &signature, &key), Ok(()));
            assert!(signature::verify(b"a = 2\n", &signature, &key).is_err());
        }
    }

    #[test]
    fn a_wrong_password_and_what_is_no_key_are_told_apart() {
        let given = |text: &str| Password::Given(SecretString::from(text.to_owned()));
        let pair = keygen(&given("one")).unwrap();
        assert!(matches!(sign(b"", &pair.secret, &given("two"), ""), Err(Error::Password)));
        assert!(matches!(sign(b"", &pair.secret, &Password::None, ""), Err(Error::NobodyToAsk)));
        for text in ["", "a", "a\nb", pair.public.as_str()] {
            let error = sign(b"", &SecretString::from(text.to_owned()), &given("two"), "");
            assert!(matches!(error, Err(Error::Key | Error::Password)), "{text}");
        }
    }
}
