//! Other workloads near the subject: who else suffers, who does not, who holds the capacity.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use serde_json::Value;

use crate::model::scene::{At, Neighbour, ScenePart};
use crate::model::{Kind, ObjectRef};
use crate::observe::ReadError;
use crate::observe::Selector;
use crate::observe::json;
use crate::observe::scene::nodes::Nodes;
use crate::observe::scene::page::Page;
use crate::observe::scene::{Look, Shared, Told};
use crate::observe::tables::{WORKLOAD_COLUMNS, neighbour_row, table};
use crate::redact::Redacted;

/// Workloads of each kind and namespace that are read.
const SEARCHED_MAX: usize = 200;
/// Namespaces that are read around a node.
const NAMESPACES_MAX: usize = 20;
/// Neighbours that a scene holds.
const NEIGHBOURS_MAX: usize = 40;
/// Neighbours that stand as objects in the evidence.
const SHOWN_MAX: usize = 8;
/// The largest holders of capacity, read one by one wherever they are.
const HOLDERS_MAX: usize = 5;

impl Look<'_> {
    /// Workloads of the subject's namespace, as the API server has them.
    pub(super) async fn around(&self) -> Result<Vec<Value>, ReadError> {
        match self.subject.kind {
            Kind::Namespace => self.workloads_of(self.subject.name()).await,
            _ => match self.namespace() {
                Some(namespace) => self.workloads_of(namespace).await,
                None => Ok(Vec::new()),
            },
        }
    }

    async fn workloads_of(&self, namespace: &str) -> Result<Vec<Value>, ReadError> {
        let mut kinds = vec![Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
        if matches!(self.subject.kind, Kind::Job | Kind::CronJob) {
            kinds.push(Kind::Job);
        }
        let ask = Selector::all().at_most(SEARCHED_MAX);
        let lists = try_join_all(kinds.into_iter().map(|kind| self.reader.list(kind, Some(namespace), &ask))).await?;
        Ok(lists.into_iter().flatten().collect())
    }

    pub(super) async fn neighbours(
        &self,
        pods: &Shared,
        around: &Result<Vec<Value>, Redacted>,
        nodes: &Result<Nodes, Redacted>,
    ) -> Result<Told<Vec<Neighbour>>, ReadError> {
        let around = around.as_ref().map_err(|why| ReadError::Unavailable(why.clone()))?;
        let mut values: Vec<&Value> = around.iter().collect();
        let more: Vec<Value>;
        let holders = nodes.as_ref().ok().map_or(&[][..], |nodes| nodes.holders.as_slice());
        match self.subject.kind {
            Kind::Node => {
                let mine: BTreeSet<&ObjectRef> = pods.pods().iter().filter_map(|pod| pod.owner.as_ref()).collect();
                let namespaces: BTreeSet<&str> = mine.iter().map(|owner| owner.namespace()).collect();
                let namespaces = namespaces.into_iter().filter(|n| !n.is_empty()).take(NAMESPACES_MAX);
                let lists = try_join_all(namespaces.map(|namespace| self.workloads_of(namespace))).await?;
                more = lists.into_iter().flatten().collect();
                let is_mine = |value: &&Value| json::reference(value).is_some_and(|object| mine.contains(&object));
                values = more.iter().filter(is_mine).collect();
            }
            _ => {
                let known: BTreeSet<ObjectRef> = around.iter().filter_map(json::reference).collect();
                let largest = holders.iter().take(HOLDERS_MAX).map(|holder| &holder.object);
                let largest = largest.filter(|object| object.kind.is_workload() && !known.contains(object));
                let found = try_join_all(largest.map(|object| self.reader.get(object))).await?;
                more = found.into_iter().flatten().collect();
                values.extend(&more);
            }
        }
        let blank = At { evidence: ScenePart::Neighbours.evidence(), segment: 0 };
        let mut all: Vec<(Neighbour, &Value)> = values
            .into_iter()
            .filter_map(|value| Some((self.typed.neighbour(value, blank)?, value)))
            .filter(|(neighbour, _)| neighbour.object != *self.subject)
            .collect();
        for (neighbour, _) in &mut all {
            let holder = holders.iter().find(|holder| holder.object == neighbour.object);
            neighbour.cpu_milli = holder.map_or(0, |holder| holder.cpu_milli);
        }
        // The unhealthy, then the largest, then those that rolled out last.
        all.sort_by_key(|(n, _)| {
            (n.ready >= n.wanted, std::cmp::Reverse(n.cpu_milli), std::cmp::Reverse(n.rolled_out_at))
        });
        all.truncate(NEIGHBOURS_MAX);
        let mut page = Page::new(ScenePart::Neighbours);
        for (neighbour, value) in all.iter_mut().take(SHOWN_MAX) {
            neighbour.at = page.object(value, self.typed.redactor);
        }
        let mut all: Vec<Neighbour> = all.into_iter().map(|(neighbour, _)| neighbour).collect();
        let now = self.reader.clock().now();
        if all.len() > SHOWN_MAX {
            let rows = all.iter().skip(SHOWN_MAX).map(|neighbour| neighbour_row(neighbour, now));
            let at = page.summary(table(&WORKLOAD_COLUMNS, rows));
            all.iter_mut().skip(SHOWN_MAX).for_each(|neighbour| neighbour.at = at);
        }
        Ok(Told { value: all, page })
    }
}
