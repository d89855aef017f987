//! Storms: the first cards of a minute stand in the channel, the others in the thread of one digest.

use std::time::Duration;

use jiff::SignedDuration;

use crate::model::{Card, IncidentId, Post, PostKind};
use crate::redact::Redacted;
use crate::slack::client::SlackError;
use crate::slack::render;
use crate::slack::render::Options;
use crate::stages::deliver::PROGRESS_EVERY;
use crate::stages::deliver::posting::{Trouble, Way, is_unsent, unsent};
use crate::stages::deliver::{Deliver, Job, Thread};
use crate::stages::lease;
use crate::stages::lease::LEASE;
use crate::store::{Durability, Write};

/// Cards of one minute that stand in the channel: as many as Slack takes in a burst, and as a person can tell apart.
const CARDS_A_MINUTE: u32 = 5;
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// Incidents join a digest for so long: what comes later is another story, and would not be seen on an old message.
const JOINS_FOR: SignedDuration = SignedDuration::from_mins(10);
/// More in one thread are not looked through; at one post a second it takes them 100 seconds already.
const MEMBERS_MAX: u32 = 100;
/// Another process posts just now: a message takes about as long.
const SOON: Duration = Duration::from_secs(1);

/// Where the card of an incident stands.
pub(super) enum Place {
    Channel,
    /// In the thread of this digest; in the channel too, once it must.
    Digest(IncidentId),
}

impl Deliver {
    /// Where this card stands. Decided once, and durable before anything is posted, by one process at a time: else two
    /// would each count five.
    pub(super) async fn place(&self, way: Way<'_>, card: &Card) -> Result<Place, Trouble> {
        if let Some(digest) = self.store.digest_of(way.of).await? {
            return Ok(Place::Digest(digest));
        }
        if self.store.posts_of(way.of).await?.iter().any(|post| post.kind == PostKind::Card) {
            return Ok(Place::Channel);
        }
        let Some(placing) = self.store.exclude("place", way.channel, LEASE).await? else {
            return Err(Trouble::Later(SOON));
        };
        let placed = self.decide(Way { claim: &placing, ..way }, card).await;
        self.store.release(placing).await?;
        placed
    }

    async fn decide(&self, way: Way<'_>, card: &Card) -> Result<Place, Trouble> {
        let now = self.clock.now();
        let (since, begun_since) = (now.checked_sub(MINUTE)?, now.checked_sub(JOINS_FOR)?);
        let crowd = self.store.crowd(since, begun_since, MEMBERS_MAX).await?;
        if crowd.messages < CARDS_A_MINUTE || card.stands_alone() {
            // It counts from now on, also while it waits for its turn.
            self.put(way, &unsent(self.begun(way, PostKind::Card))).await?;
            return Ok(Place::Channel);
        }
        let digest = crowd.digest.unwrap_or_else(|| way.of.clone());
        let joins = Write::OnDigest { digest: digest.clone(), member: Box::new(render::member(card)) };
        self.store.commit(vec![joins], Durability::Durable, Some(way.claim)).await?;
        Ok(Place::Digest(digest))
    }

    /// An incident on a digest: its line there, its card in the thread; and in the channel where it must stand there. A
    /// digest that Slack refuses, or that somebody deleted, hides nothing: the card then stands in the channel.
    pub(super) async fn in_digest(&self, way: Way<'_>, job: Job<'_>, digest: &IncidentId) -> Result<Thread, Trouble> {
        let posts = self.store.posts_of(way.of).await?;
        // A card that Slack has refused in the channel as well stands nowhere yet.
        let stands = |post: &Post| post.kind == PostKind::Card && !is_unsent(post);
        let stands_alone = job.card.stands_alone() || posts.iter().any(stands);
        // Its line on the digest does not wait for a thread.
        let thread = if stands_alone { self.in_channel(way, job).await? } else { Thread::Whole };
        if matches!(thread, Thread::AfterOthers) {
            return Ok(thread);
        }
        let Some(claim) = self.store.exclude("digest", digest.as_str(), LEASE).await? else {
            return Err(Trouble::Later(SOON));
        };
        let tell = Box::pin(self.tell(Way { claim: &claim, ..way }, job, digest, stands_alone));
        let told = async { Ok(tell.await) };
        let told = lease::hold(&self.store, &claim, told).await;
        self.store.release(claim).await?;
        match told.unwrap_or_else(|lost| Err(Trouble::Failed(lost))) {
            Err(Trouble::Failed(error)) if error.is::<SlackError>() => {
                tracing::warn!("a digest does not take a card, which stands in the channel instead: {error:#}");
                if stands_alone { Ok(thread) } else { self.in_channel(way, job).await }
            }
            // It may be the thread alone, which somebody has locked: if it is all of Slack, the channel tells it.
            Err(Trouble::Shut(why)) => {
                tracing::warn!("a digest takes no card until this is mended; the card stands in the channel: {why}");
                if stands_alone { Ok(thread) } else { self.in_channel(way, job).await }
            }
            told => told.map(|()| thread),
        }
    }

    /// The line on the digest, the card in its thread, and then the line's link.
    async fn tell(&self, way: Way<'_>, job: Job<'_>, digest: &IncidentId, stands_alone: bool) -> Result<(), Trouble> {
        let (card, options) = (job.card, Options { now: self.clock.now() });
        let line = Write::OnDigest { digest: digest.clone(), member: Box::new(render::member(card)) };
        self.store.commit(vec![line], Durability::Soon, Some(way.claim)).await?;
        let of_digest = Way { of: digest, ..way };
        let mut ts = self.ts_of(digest, &PostKind::Digest).await?;
        if ts.is_none() {
            let first = render::digest(&self.store.digest(digest).await?, &options);
            ts = self.bring(of_digest, PostKind::Digest, &first, None).await?.ts;
            self.edits.note(digest, self.clock.now());
        }
        let own = if stands_alone { self.linked(way, PostKind::Card).await? } else { None };
        let entry = if stands_alone { render::moved(card, own.as_ref()) } else { render::entry(card, &options) };
        self.bring(way, PostKind::Entry, &entry, ts.as_deref()).await?;
        if !stands_alone {
            self.observe(job);
        }
        self.linked(way, PostKind::Entry).await?;
        let whole = render::digest(&self.store.digest(digest).await?, &options);
        let shown = self.store.posts_of(digest).await?.into_iter().find(|post| post.kind == PostKind::Digest);
        if shown.is_some_and(|post| post.rendered == whole.digest()) {
            return Ok(());
        }
        // Everybody's line is on it; one edit a second is enough.
        if self.edits.is_recent(digest, self.clock.now()) {
            return Err(Trouble::Later(PROGRESS_EVERY.unsigned_abs()));
        }
        self.bring(of_digest, PostKind::Digest, &whole, None).await?;
        self.edits.note(digest, self.clock.now());
        Ok(())
    }

    /// Slack's link to a message of ours that stands; where Slack does not tell it, it is asked again at the next change.
    async fn linked(&self, way: Way<'_>, kind: PostKind) -> Result<Option<Redacted>, Trouble> {
        let posts = self.store.posts_of(way.of).await?;
        let Some(post) = posts.into_iter().find(|post| post.kind == kind) else { return Ok(None) };
        let (None, Some(ts)) = (&post.link, &post.ts) else { return Ok(post.link) };
        match way.slack.permalink(&post.channel, ts).await {
            Ok(link) => {
                self.put(way, &Post { link: Some(link.clone()), ..post }).await?;
                Ok(Some(link))
            }
            Err(error) => {
                tracing::warn!("a line of a digest goes without its link: {error}");
                Ok(None)
            }
        }
    }

    async fn ts_of(&self, incident: &IncidentId, kind: &PostKind) -> Result<Option<String>, Trouble> {
        let posts = self.store.posts_of(incident).await?;
        Ok(posts.into_iter().find(|post| post.kind == *kind).and_then(|post| post.ts))
    }
}
