//! Posting: one message is brought to Slack once, whatever becomes of the answers and of this process.

use std::time::Duration;

use crate::clock::from_ms;
use crate::model::{ClusterName, IncidentId, Nonce, Post, PostKind};
use crate::redact::Redacted;
use crate::slack::client::{Slack, SlackError};
use crate::slack::render::Message;
use crate::stages::deliver::Deliver;
use crate::store::{Claim, Durability, Write};

/// A lost answer is looked for in the channel; "not there" counts only when the second look is this long after the
/// attempt, longer than the client's own timeout, so that a post still under way has arrived, in milliseconds.
const SETTLE_AFTER_MS: i64 = 30_000;
/// Looks that must not show the message before it is posted again.
const ABSENT_READS: u32 = 2;
/// History is read from this long before the attempt: room for the clocks of Slack and of this machine to differ.
const HISTORY_BEFORE_MS: i64 = 600_000;

impl Deliver {
    /// Posts or edits one message, and gives it as it then is.
    pub(super) async fn bring(
        &self,
        way: Way<'_>,
        kind: PostKind,
        message: &Message,
        thread: Option<&str>,
    ) -> Result<Post, Trouble> {
        let posts = self.store.posts_of(way.of).await?;
        let before = posts.into_iter().find(|post| post.kind == kind);
        let elsewhere = before.clone().filter(|post| post.channel != way.channel);
        let in_thread = matches!(kind, PostKind::Reply { .. });
        let post = match before {
            // Its card has moved: a thread is where its card is.
            Some(post) if in_thread && elsewhere.is_some() => return self.begin_anew(way, post, message, thread).await,
            Some(post) => self.renew(way, post, message, thread).await,
            None => {
                let post = self.begun(way, kind);
                self.put(way, &post).await?;
                self.post(way, post, message, thread).await
            }
        };
        match (post, elsewhere) {
            (Err(Trouble::Shut(why)), Some(before)) => {
                tracing::warn!(
                    "a message begins anew in the channel that is set now, for the one of before is shut: {why}"
                );
                Box::pin(self.begin_anew(way, before, message, thread)).await
            }
            (post, _) => post,
        }
    }

    /// Edits a message that was begun before; posts it first where it does not stand yet.
    async fn renew(&self, way: Way<'_>, post: Post, message: &Message, thread: Option<&str>) -> Result<Post, Trouble> {
        let post = if post.ts.is_some() { post } else { self.settle(way, post, message, thread).await? };
        let rendered = message.digest();
        if post.rendered == rendered {
            return Ok(post);
        }
        let ts = post.ts.clone().unwrap_or_default();
        match way.slack.update(&post.channel, &ts, message).await {
            Ok(()) => {}
            Err(error @ SlackError::Gone(_)) if matches!(post.kind, PostKind::Card | PostKind::Reply { .. }) => {
                return Err(Trouble::Gone(error.into()));
            }
            Err(error) => return Err(self.trouble(error)),
        }
        let post = Post { rendered, ..post };
        self.put(way, &post).await?;
        Ok(post)
    }

    /// Posts a message in the channel that is configured now, because the one where it was takes nothing any more.
    async fn begin_anew(
        &self,
        way: Way<'_>,
        before: Post,
        message: &Message,
        thread: Option<&str>,
    ) -> Result<Post, Trouble> {
        // One message of a kind has one nonce; the channel of before is not read for it again.
        let anew = Post { nonce: before.nonce.clone(), ..self.begun(way, before.kind.clone()) };
        self.put(way, &anew).await?;
        let posted = self.post(way, anew, message, thread).await;
        if matches!(posted, Err(Trouble::Shut(_))) {
            // It is not that channel alone: what stands there is edited once Slack takes it.
            self.put(way, &before).await?;
        }
        posted
    }

    /// Posts a card in the place of one that somebody deleted, once; its thread begins anew with it. None where that was
    /// done before: then it is not wanted.
    pub(super) async fn stand_again(&self, way: Way<'_>, message: &Message) -> Result<Option<Post>, Trouble> {
        let posts = self.store.posts_of(way.of).await?;
        if posts.iter().any(|post| post.kind == PostKind::Card && post.anew) {
            return Ok(None);
        }
        let post = Post { anew: true, ..self.begun(way, PostKind::Card) };
        let writes = vec![Write::ForgetCard { incident: way.of.clone() }, Write::Post(post.clone())];
        self.store.commit(writes, Durability::Durable, Some(way.claim)).await?;
        self.post(way, post, message, None).await.map(Some)
    }

    /// A message that is about to be posted.
    pub(super) fn begun(&self, way: Way<'_>, kind: PostKind) -> Post {
        Post {
            nonce: Nonce::fresh(),
            cluster: way.cluster.clone(),
            incident: way.of.clone(),
            kind,
            channel: way.channel.to_owned(),
            posting_at: self.clock.now(),
            absent_reads: 0,
            ts: None,
            rendered: String::new(),
            link: None,
            anew: false,
        }
    }

    async fn post(&self, way: Way<'_>, post: Post, message: &Message, thread: Option<&str>) -> Result<Post, Trouble> {
        let in_thread = matches!(post.kind, PostKind::Reply { .. });
        match way.slack.post(&post.channel, thread, message, &post.incident, &post.nonce).await {
            Ok(ts) => {
                let post = Post { ts: Some(ts), rendered: message.digest(), ..post };
                self.put(way, &post).await?;
                Ok(post)
            }
            Err(error) => {
                if !matches!(error, SlackError::Unknown(_)) {
                    self.put(way, &unsent(post)).await?;
                }
                match (error, &thread) {
                    // Its card was deleted, and the thread with it.
                    (error @ SlackError::Gone(_), Some(_)) if in_thread => Err(Trouble::Gone(error.into())),
                    (error, _) => Err(self.trouble(error)),
                }
            }
        }
    }

    /// A post whose answer is not known: found in the channel by its nonce, or posted again once it certainly is not.
    async fn settle(&self, way: Way<'_>, post: Post, message: &Message, thread: Option<&str>) -> Result<Post, Trouble> {
        let mut post = post;
        if post.absent_reads < ABSENT_READS {
            let oldest = from_ms(post.posting_at.as_millisecond() - HISTORY_BEFORE_MS);
            let found =
                way.slack.find(&post.channel, thread, &post.nonce, oldest).await.map_err(|e| self.trouble(e))?;
            if found.is_some() {
                // What it shows is not known for sure: an empty digest makes the current render follow.
                let post = Post { ts: found, rendered: String::new(), ..post };
                self.put(way, &post).await?;
                return Ok(post);
            }
            let age = self.clock.now_ms() - post.posting_at.as_millisecond();
            post.absent_reads = if age >= SETTLE_AFTER_MS { post.absent_reads + 1 } else { post.absent_reads.max(1) };
            self.put(way, &post).await?;
            if post.absent_reads < ABSENT_READS {
                let wait = (SETTLE_AFTER_MS - age).clamp(1_000, SETTLE_AFTER_MS);
                return Err(Trouble::Later(Duration::from_millis(wait.unsigned_abs())));
            }
        }
        post.posting_at = self.clock.now();
        post.absent_reads = 0;
        self.put(way, &post).await?;
        self.post(way, post, message, thread).await
    }

    pub(super) async fn put(&self, way: Way<'_>, post: &Post) -> Result<(), Trouble> {
        Ok(self.store.commit(vec![Write::Post(post.clone())], Durability::Durable, Some(way.claim)).await?)
    }

    fn trouble(&self, error: SlackError) -> Trouble {
        match error {
            SlackError::Wait(wait) => Trouble::Later(wait),
            // The answer was lost: look for the message once the request can no longer arrive.
            SlackError::Unknown(why) => {
                tracing::warn!("Slack's answer was lost, the channel is read for the message: {why}");
                Trouble::Later(Duration::from_secs(1))
            }
            SlackError::Shut(why) => Trouble::Shut(why),
            error => Trouble::Failed(error.into()),
        }
    }
}

/// How a message gets to its channel, by which claim, and whose it is.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) slack: &'a Slack,
    pub(super) channel: &'a str,
    pub(super) claim: &'a Claim,
    pub(super) cluster: &'a ClusterName,
    /// The incident; of a digest the first one on it.
    pub(super) of: &'a IncidentId,
}

/// The message as one that certainly was not posted: the next attempt may start afresh.
pub(super) fn unsent(post: Post) -> Post {
    Post { absent_reads: ABSENT_READS, ..post }
}

/// Whether it certainly stands nowhere.
pub(super) fn is_unsent(post: &Post) -> bool {
    post.ts.is_none() && post.absent_reads >= ABSENT_READS
}

/// Why a card is not up to date yet.
pub(super) enum Trouble {
    /// By itself it will be, after this long.
    Later(Duration),
    /// Once a person has mended something in Slack or in the configuration.
    Shut(Redacted),
    /// Somebody deleted the card or the reply.
    Gone(anyhow::Error),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Failed(error.into())
    }
}
