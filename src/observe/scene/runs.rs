//! Runs of a CronJob: what differs between this Job and the last one that completed before it.

use serde_json::Value;

use crate::model::scene::{Change, Template};
use crate::model::{Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::changes;
use crate::observe::json;
use crate::observe::scene::Look;
use crate::observe::scene::page::Page;

/// Jobs of a namespace that are looked through for earlier runs.
const SEARCHED_MAX: usize = 500;

impl Look<'_> {
    /// The change of the CronJob between its last run that completed and this one, if the two differ. It stands at the
    /// earlier Job, which shows the values before.
    pub(super) async fn since_the_last_run(&self, page: &mut Page) -> Result<Vec<Change>, ReadError> {
        let Some((_, name, uid)) = json::controller(&self.root).filter(|(kind, _, _)| *kind == "CronJob") else {
            return Ok(Vec::new());
        };
        let Some(cron_job) = ObjectRef::new(Kind::CronJob, self.namespace(), name) else { return Ok(Vec::new()) };
        let ask = Selector::all().at_most(SEARCHED_MAX);
        let (jobs, written) =
            tokio::join!(self.reader.list(Kind::Job, self.namespace(), &ask), self.reader.get(&cron_job));
        let made = json::created(&self.root);
        let earlier = |job: &&Value| {
            json::controller(job).is_some_and(|(_, _, owner)| owner == uid) && json::created(job) < made && is_done(job)
        };
        let jobs = jobs?;
        let Some(before) = jobs.iter().filter(earlier).max_by_key(|job| json::created(job)) else {
            return Ok(Vec::new());
        };
        let template = self.typed.template(before.pointer("/spec/template").unwrap_or(&Value::Null));
        let lines = changes::compare(&bare(&template), &bare(&self.template), self.typed.redactor);
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        // Who wrote the CronJob is worth a word, not the part.
        let written = written.ok().flatten();
        let written = written.as_ref().and_then(json::spec_written);
        let between = written.filter(|(at, _)| *at > json::created(before) && *at <= made);
        Ok(vec![Change {
            object: cron_job,
            changed_at: between.map_or(made, |(at, _)| at),
            by: between.map(|(_, by)| self.typed.redactor.redact(by)),
            from_revision: None,
            to_revision: None,
            lines,
            at: page.object(before, self.typed.redactor),
        }])
    }
}

/// Without the labels: the controller gives each Job's pods its own.
fn bare(template: &Template) -> Template {
    Template { labels: Default::default(), ..template.clone() }
}

fn is_done(job: &Value) -> bool {
    let complete =
        |condition: &Value| json::text(condition, "/type") == "Complete" && json::text(condition, "/status") == "True";
    json::list(job, "/status/conditions").iter().any(complete)
}
