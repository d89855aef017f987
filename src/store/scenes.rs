//! Scenes: the newest reading around each subject, and those of them that were read last, kept decoded.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{ObjectRef, Scene};
use crate::store::Store;
use crate::store::operation::{Context, Fault};
use crate::store::sql::{Conn, args, from_json};

/// Bytes of JSON whose scenes are kept decoded: about a hundred usual ones, as many as incidents are worked on at once.
const KEPT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Scenes as they were when last read. A kept one is only used while the store says that it is still that reading.
#[derive(Default)]
pub(super) struct Scenes(Mutex<Vec<Kept>>);

/// One scene; the most recently used stand last.
struct Kept {
    subject: ObjectRef,
    stamp: Stamp,
    bytes: usize,
    scene: Arc<Scene>,
}

/// Which reading of a subject it is. The version starts anew when a scene was pruned; then the instant differs.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    version: i64,
    read_ms: i64,
}

impl Scenes {
    fn get(&self, subject: &ObjectRef) -> Option<(Stamp, Arc<Scene>)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|kept| kept.subject == *subject)?;
        let used = kept.remove(at);
        let found = (used.stamp, Arc::clone(&used.scene));
        kept.push(used);
        Some(found)
    }

    fn put(&self, new: Kept) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.subject != new.subject);
        kept.push(new);
        let mut bytes: usize = kept.iter().map(|kept| kept.bytes).sum();
        while bytes > KEPT_MAX_BYTES {
            bytes -= kept.remove(0).bytes;
        }
    }
}

impl Store {
    /// The newest reading around this subject.
    pub async fn scene(&self, subject: &ObjectRef) -> anyhow::Result<Option<Arc<Scene>>> {
        self.scene_over(&mut self.held().await?.conn(), subject).await
    }

    /// The same, over a connection that is held already.
    pub(super) async fn scene_over(
        &self,
        conn: &mut Conn<'_>,
        subject: &ObjectRef,
    ) -> anyhow::Result<Option<Arc<Scene>>> {
        const SQL: &str = "SELECT version, read_ms, CASE WHEN version = $3 AND read_ms = $4 THEN NULL ELSE doc END
            FROM scene WHERE cluster = $1 AND subject = $2";
        let known = self.0.scenes.get(subject);
        let (version, read_ms) = known.as_ref().map_or((-1, -1), |(stamp, _)| (stamp.version, stamp.read_ms));
        let args = args![self.cluster().as_str(), subject.to_string(), version, read_ms];
        let Some(row) = conn.first(SQL, args).await? else { return Ok(None) };
        match (row.maybe_text(2)?, known) {
            (None, Some((_, scene))) => Ok(Some(scene)),
            (doc, _) => {
                let doc = doc.unwrap_or_default();
                let scene = Arc::new(from_json::<Scene>(&doc)?);
                let stamp = Stamp { version: row.int(0)?, read_ms: row.int(1)? };
                let bytes = doc.len();
                self.0.scenes.put(Kept { subject: subject.clone(), stamp, bytes, scene: Arc::clone(&scene) });
                Ok(Some(scene))
            }
        }
    }
}

/// Stores a reading unless a newer one is there; the cards of its subject's open incidents show it.
pub(super) async fn put(conn: &mut Conn<'_>, context: &Context, scene: &Scene) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO scene (cluster, subject, read_ms, doc) VALUES ($1, $2, $3, $4)
        ON CONFLICT (cluster, subject) DO UPDATE
        SET read_ms = excluded.read_ms, doc = excluded.doc, version = scene.version + 1
        WHERE scene.read_ms <= excluded.read_ms";
    const SHOWN: &str =
        "UPDATE incident SET version = version + 1 WHERE cluster = $1 AND subject = $2 AND state = 'open'";
    let (cluster, subject) = (context.cluster.as_str(), scene.subject.to_string());
    let args = args![cluster, subject.as_str(), scene.read_at.as_millisecond(), serde_json::to_string(scene)?];
    if conn.execute(SQL, args).await? == 1 {
        conn.execute(SHOWN, args![cluster, subject]).await?;
    }
    Ok(())
}
