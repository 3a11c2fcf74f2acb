//! A socket before HAProxy's own that passes everything on, but for what a test wants lost on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The exchange: HAProxy never hears of it.
    Before,
    /// The second half of the reply: HAProxy has done what it was told.
    Half,
}

/// Stands between the driver and HAProxy's socket, and cuts the first exchanges that say a word.
pub(crate) struct Gate {
    pub(crate) path: PathBuf,
    cuts: Arc<AtomicU32>,
}

impl Gate {
    pub(crate) fn before(socket: &Path, word: &'static str, cuts: u32, cut: Cut) -> Gate {
        let path = socket.with_extension("gate");
        let listener = UnixListener::bind(&path).unwrap();
        let (socket, cuts) = (socket.to_owned(), Arc::new(AtomicU32::new(cuts)));
        let left = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, socket.clone(), word, Arc::clone(&left), cut));
            }
        });
        Gate { path, cuts }
    }

    /// How many exchanges would still be cut.
    pub(crate) fn cuts_left(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// A connection that HAProxy refuses or breaks is broken here, too.
async fn pass(mut client: UnixStream, socket: PathBuf, word: &str, left: Arc<AtomicU32>, cut: Cut) {
    let mut said = String::new();
    if client.read_to_string(&mut said).await.is_err() {
        return;
    }
    let less = |left: u32| left.checked_sub(1);
    let cuts = said.contains(word) && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
    if cuts && cut == Cut::Before {
        return;
    }
    let Ok(reply) = exchange(&socket, &said).await else { return };
    let end = if cuts { reply.len() / 2 } else { reply.len() };
    let _ = client.write_all(&reply[..end]).await;
}

async fn exchange(socket: &Path, said: &str) -> std::io::Result<Vec<u8>> {
    let mut haproxy = UnixStream::connect(socket).await?;
    let mut reply = Vec::new();
    haproxy.write_all(said.as_bytes()).await?;
    haproxy.shutdown().await?;
    haproxy.read_to_end(&mut reply).await?;
    Ok(reply)
}
