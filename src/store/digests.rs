//! Digests: which incidents of a storm share one message, and what its lines tell.

use jiff::Timestamp;

use crate::model::{Digest, DigestLine, IncidentId, Member, Post};
use crate::store::Store;
use crate::store::operation::{Context, Fault};
use crate::store::sql::{Conn, Row, args};

/// How full the channel is, for who is about to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Cards and digests that were posted, or are about to be.
    pub messages: u32,
    /// The newest digest that another incident may join.
    pub digest: Option<IncidentId>,
}

impl Store {
    /// What was posted at `since` or later, and the newest digest that began at `begun_since` or later and has fewer
    /// than `members_max` incidents.
    pub async fn crowd(&self, since: Timestamp, begun_since: Timestamp, members_max: u32) -> anyhow::Result<Crowd> {
        const MESSAGES: &str = "SELECT count(*) FROM post
            WHERE cluster = $1 AND posting_ms >= $2 AND kind IN ('card', 'digest')";
        const NEWEST: &str = "SELECT digest FROM digest WHERE cluster = $1 GROUP BY digest
            HAVING min(at_ms) >= $2 AND count(*) < $3 ORDER BY min(at_ms) DESC, digest DESC LIMIT 1";
        let mut held = self.held().await?;
        let mut conn = held.conn();
        let cluster = self.cluster().as_str();
        let messages = conn.number(MESSAGES, args![cluster, since.as_millisecond()]).await? as u32;
        let newest = conn.first(NEWEST, args![cluster, begun_since.as_millisecond(), members_max]).await?;
        let digest = newest.map(|row| digest_id(&row)).transpose()?;
        Ok(Crowd { messages, digest })
    }

    /// The digest on which this incident stands.
    pub async fn digest_of(&self, incident: &IncidentId) -> anyhow::Result<Option<IncidentId>> {
        const SQL: &str = "SELECT digest FROM digest WHERE incident = $1";
        let row = self.held().await?.conn().first(SQL, args![incident.as_str()]).await?;
        row.map(|row| digest_id(&row)).transpose()
    }

    /// All that a digest shows.
    pub async fn digest(&self, digest: &IncidentId) -> anyhow::Result<Digest> {
        const SQL: &str = "SELECT digest.doc, card.doc, entry.doc FROM digest
            LEFT JOIN post AS card ON card.cluster = digest.cluster AND card.incident = digest.incident
             AND card.kind = 'card' AND card.ts IS NOT NULL
            LEFT JOIN post AS entry ON entry.cluster = digest.cluster AND entry.incident = digest.incident
             AND entry.kind = 'entry'
            WHERE digest.cluster = $1 AND digest.digest = $2 ORDER BY digest.at_ms, digest.incident";
        let rows = self.fetch(SQL, args![self.cluster().as_str(), digest.as_str()]).await?;
        let lines = rows.iter().map(line).collect::<anyhow::Result<_>>()?;
        Ok(Digest { cluster: self.cluster().clone(), lines })
    }
}

fn line(row: &Row) -> anyhow::Result<DigestLine> {
    let (card, entry) = (row.maybe_doc::<Post>(1)?, row.maybe_doc::<Post>(2)?);
    let has_own_card = card.is_some();
    Ok(DigestLine { member: row.doc(0)?, link: card.or(entry).and_then(|post| post.link), has_own_card })
}

fn digest_id(row: &Row) -> anyhow::Result<IncidentId> {
    IncidentId::parse(&row.text(0)?).ok_or_else(|| anyhow::anyhow!("a stored digest has no readable id"))
}

pub(super) async fn put(
    conn: &mut Conn<'_>,
    context: &Context,
    digest: &IncidentId,
    member: &Member,
) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO digest (incident, cluster, digest, at_ms, doc) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (incident) DO UPDATE SET doc = excluded.doc";
    let args = args![
        member.incident.as_str(),
        context.cluster.as_str(),
        digest.as_str(),
        context.clock.now_ms(),
        serde_json::to_string(member)?,
    ];
    conn.execute(SQL, args).await?;
    Ok(())
}
