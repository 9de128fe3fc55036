//! Where configurations are signed: one key, bundles for the gateway of the tests, and how a gateway comes to trust it.
//!
//! Must not: judge a bundle, or be what proves that a signature is right (`minisign` itself does, in `bundles.rs`).

use portero::manage::remote::sign::{self, Pair, Password};
use portero::manage::remote::signature::Key;

use super::shelf::Shelf;

/// Somebody with a key of its own.
pub struct Signer(Pair);

impl Signer {
    /// With a new key, unprotected.
    pub fn new() -> Self {
        Self(sign::keygen(&Password::None).unwrap())
    }

    /// `active_key`.
    pub fn key(&self) -> String {
        Key::parse(&self.0.public).unwrap().text().to_owned()
    }

    /// `[manage.remote]` of a gateway that asks `url` every second and trusts this key; `more` are further lines.
    pub fn remote(&self, url: &str, more: &str) -> String {
        let key = self.key();
        format!("\n[manage.remote]\nurl = \"{url}\"\npoll_seconds = 1\nactive_key = \"{key}\"\n{more}\n")
    }

    /// The text of a `.minisig` file.
    pub fn sign(&self, payload: &[u8]) -> String {
        sign::sign(payload, &self.0.secret, &Password::None, "test").unwrap()
    }

    /// Lays a bundle on the shelf as `gw.toml`, signed: `header` ends its `[bundle]` table, `body` follows. One that says
    /// no end of its own is good until 2099.
    pub fn lay(&self, shelf: &Shelf, header: &str, body: &str) {
        let end = if header.contains("expires") { "" } else { "expires = 2099-01-01T00:00:00Z\n" };
        let text = format!(
            "[bundle]\ngateway = \"gw-test\"\npurpose = \"portero-config\"\nnot_before = 2020-01-01T00:00:00Z\n\
             {end}{header}\n{body}"
        );
        shelf.lay("gw.toml", text.as_bytes(), &self.sign(text.as_bytes()));
    }
}
