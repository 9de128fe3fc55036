//! A TCP proxy on loopback that can lose answers, fall silent, carry only so much, or cut every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
const SILENT: u8 = 1;
const LOSE: u8 = 2;
const THIN: u8 = 3;

/// So much a connection carries up in [`THIN`], bytes; what comes after never arrives.
const THIN_BYTES: usize = 400 * 1024;

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    mode: AtomicU8,
    commits: AtomicU64,
    to: u16,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { mode: AtomicU8::new(PASS), commits: AtomicU64::new(0), to });
        let accept = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, Arc::clone(&accept)));
            }
        });
        Self { port, shared, task }
    }

    /// Passes everything (again).
    pub fn pass(&self) {
        self.shared.mode.store(PASS, Ordering::SeqCst);
    }

    /// Takes what the client says and never answers; connections stay open.
    pub fn fall_silent(&self) {
        self.shared.mode.store(SILENT, Ordering::SeqCst);
    }

    /// A line that never carries a large batch to its end.
    pub fn be_thin(&self) {
        self.shared.mode.store(THIN, Ordering::SeqCst);
    }

    /// Two of every three PostgreSQL commits come through; of the others the server commits and the answer is lost.
    pub fn lose_commits(&self) {
        self.shared.mode.store(LOSE, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.to)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut carried = 0;
        while let Ok(n) = from_client.read(&mut buffer).await {
            carried += n;
            if n > 0 && carried > THIN_BYTES && shared.mode.load(Ordering::SeqCst) == THIN {
                continue;
            }
            if n == 0 || to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n) = from_server.read(&mut buffer).await {
            let mode = shared.mode.load(Ordering::SeqCst);
            // CommandComplete of a COMMIT: the server has committed.
            let committed = buffer[..n].windows(7).any(|w| w == b"COMMIT\0");
            if mode == LOSE && committed && shared.commits.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
                return;
            }
            if n == 0 || (mode != SILENT && to_client.write_all(&buffer[..n]).await.is_err()) {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
