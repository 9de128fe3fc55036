//! Real web servers, each one process on a free port: apache2 (MD5) and lighttpd (SHA-256), which want a digest login, and
//! nginx, which speaks TLS.
//!
//! Must not: touch a server of the machine, or leave one behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::Digest as _;

use super::{DEADLINE, Process, eventually, find_program, free_port};

/// What the login is for.
const REALM: &str = "events of the site";

/// A running server; killed on drop.
pub struct Web {
    /// Where it listens, on loopback.
    pub port: u16,
    /// What lies in `htdocs` is served; `error.log` is its log.
    pub dir: tempfile::TempDir,
    _process: Process,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Not under the build directory: a root user's server gives its rights up and then could not read there.
fn place() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("portero-web-").tempdir().unwrap();
    std::fs::create_dir(dir.path().join("htdocs")).unwrap();
    for part in ["", "htdocs"] {
        std::fs::set_permissions(dir.path().join(part), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn as_root() -> bool {
    rustix::process::getuid().is_root()
}

fn start(mut command: Command, port: u16, dir: tempfile::TempDir) -> Web {
    let process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("the web server listens", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    Web { port, dir, _process: process }
}

/// nginx with one TLS server on a port of its own, which is answered; `server` is what stands in its block, everything else
/// lies in `dir`. Ends with what is answered.
pub fn nginx(dir: &Path, server: &str) -> (Process, u16) {
    let (port, at) = (free_port(), dir.display());
    let user = if as_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {at}/{what};"))
        .join("\n");
    // One process: a worker would outlive a master that is killed.
    let config = format!(
        "daemon off; master_process off; {user} pid {at}/nginx.pid; worker_processes 1;\nevents {{}}\nhttp {{\naccess_log off;\n\
         {temporary}\nserver {{\nlisten 127.0.0.1:{port} ssl;\n{server}\n}}\n}}\n"
    );
    write(dir, "nginx.conf", &config);
    let mut command = Command::new(find_program("nginx", &[]));
    command.arg("-e").arg(dir.join("nginx.log")).arg("-c").arg(dir.join("nginx.conf"));
    let process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("nginx listens", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (process, port)
}

impl Web {
    /// apache2 with `htdocs` at `/` and `behind` (a port) at `/api`; a nonce is good for so many seconds.
    pub fn apache(user: &str, password: &str, nonce_life: u32, behind: u16) -> Self {
        let (dir, port) = (place(), free_port());
        let at = dir.path().display();
        let digest = hex(&md5::Md5::digest(format!("{user}:{REALM}:{password}")));
        write(dir.path(), "users", &format!("{user}:{REALM}:{digest}\n"));
        let modules = [
            "mpm_prefork",
            "authn_core",
            "authn_file",
            "authz_core",
            "authz_user",
            "auth_digest",
            "proxy",
            "proxy_http",
        ]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
        let user = if as_root() { "User www-data\nGroup www-data\n" } else { "" };
        let config = format!(
            "ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nErrorLog {at}/error.log\n\
             DefaultRuntimeDir {at}\nCustomLog {at}/access.log %>s\nMutex file:{at} default\n{}{user}DocumentRoot {at}/htdocs\n\
             <Location \"/\">\nAuthType Digest\nAuthName \"{REALM}\"\nAuthDigestProvider file\nAuthUserFile {at}/users\n\
             AuthDigestNonceLifetime {nonce_life}\nRequire valid-user\n</Location>\n\
             ProxyPass \"/api\" \"http://127.0.0.1:{behind}/api\"\n",
            modules.concat()
        );
        write(dir.path(), "apache.conf", &config);
        let mut command = Command::new(find_program("apache2", &[]));
        command.arg("-X").arg("-f").arg(dir.path().join("apache.conf"));
        start(command, port, dir)
    }

    /// apache2 as a forward proxy to this machine that knows one user.
    pub fn forward_proxy(user: &str, password: &str, tunnels_to: u16) -> Self {
        use base64::Engine as _;
        let (dir, port) = (place(), free_port());
        let at = dir.path().display();
        let sha1 = <sha1::Sha1 as sha1::Digest>::digest(password);
        let hash = base64::engine::general_purpose::STANDARD.encode(sha1);
        write(dir.path(), "users", &format!("{user}:{{SHA}}{hash}\n"));
        let modules = [
            "mpm_event",
            "authn_core",
            "authn_file",
            "authz_core",
            "authz_user",
            "auth_basic",
            "proxy",
            "proxy_http",
            "proxy_connect",
        ]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
        let user = if as_root() { "User www-data\nGroup www-data\n" } else { "" };
        let config = format!(
            "ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nErrorLog {at}/error.log\n\
             DefaultRuntimeDir {at}\nCustomLog {at}/access.log \"%m %>s\"\nMutex file:{at} default\n{}{user}\
             DocumentRoot {at}/htdocs\nProxyRequests On\nProxyVia On\nAllowCONNECT {tunnels_to}\n\
             <Proxy \"*\">\nAuthType Basic\nAuthName \"proxy\"\nAuthBasicProvider file\nAuthUserFile {at}/users\n\
             Require valid-user\n</Proxy>\n",
            modules.concat()
        );
        write(dir.path(), "apache.conf", &config);
        let mut command = Command::new(find_program("apache2", &[]));
        command.arg("-X").arg("-f").arg(dir.path().join("apache.conf"));
        start(command, port, dir)
    }

    /// lighttpd with `behind` (a port) at `/`.
    pub fn lighttpd(user: &str, password: &str, behind: u16) -> Self {
        let (dir, port) = (place(), free_port());
        let at = dir.path().display();
        let digest = hex(&sha2::Sha256::digest(format!("{user}:{REALM}:{password}")));
        write(dir.path(), "users", &format!("{user}:{REALM}:{digest}\n"));
        let config = format!(
            "server.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_proxy\")\nserver.bind = \"127.0.0.1\"\n\
             server.port = {port}\nserver.document-root = \"{at}/htdocs\"\nserver.errorlog = \"{at}/error.log\"\n\
             server.upload-dirs = (\"{at}\")\nauth.backend = \"htdigest\"\nauth.backend.htdigest.userfile = \"{at}/users\"\n\
             auth.require = (\"/\" => (\"method\" => \"digest\", \"algorithm\" => \"SHA-256\", \"realm\" => \"{REALM}\", \
             \"require\" => \"valid-user\"))\n\
             proxy.server = (\"/\" => ((\"host\" => \"127.0.0.1\", \"port\" => {behind})))\n"
        );
        write(dir.path(), "lighttpd.conf", &config);
        let mut command = Command::new(find_program("lighttpd", &[]));
        command.arg("-D").arg("-f").arg(dir.path().join("lighttpd.conf"));
        start(command, port, dir)
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}
