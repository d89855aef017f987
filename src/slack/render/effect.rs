//! What a step would do, in words: how many pods it touches, how fast, and who might object.

use crate::model::approval::{Dependents, Few};
use crate::model::{Action, Approval, Part, Preview};
use crate::redact::Redacted;
use crate::slack::render::buttons;
use crate::slack::render::escape;

/// Who computed the difference.
pub(super) fn source(preview: &Preview) -> String {
    let note = preview.note.as_ref().map(|note| escape::prose(escape::bare(&escape::cut(note.as_str(), 160))));
    match (preview.by_api_server, note) {
        (true, None) => "dry run by the API server".to_owned(),
        (true, Some(note)) => format!("dry run by the API server; {note}"),
        (false, None) => "computed without a dry run".to_owned(),
        (false, Some(note)) => format!("computed without a dry run: {note}"),
    }
}

/// Which object it is, whose, and how many of its pods may be down at once: the rest of what was computed, for the thread.
pub(super) fn exactly(approval: &Approval, preview: &Preview) -> String {
    let mut parts = Vec::new();
    parts.extend(approval.bound.as_ref().map(|bound| format!("uid {}", escape::code_cut(&bound.uid, 60))));
    parts.extend(preview.owner.as_ref().map(|owner| format!("belongs to {}", escape::code_cut(owner.as_str(), 80))));
    if preview.pods_touched > 0 {
        parts.push(format!("at worst {} of {} pods down at once", preview.down_at_worst, preview.pods_touched));
    }
    if parts.is_empty() { String::new() } else { format!("\n{}", parts.join(" · ")) }
}

/// What happens to how many pods, how fast, and who might object.
pub(super) fn effect(action: &Action, preview: &Preview) -> String {
    if action.mutes() {
        let then = preview.then.as_ref().map(|then| escape::prose(escape::bare(&escape::cut(then.as_str(), 200))));
        return format!("no pod is touched, {}", then.as_deref().unwrap_or("and this alert is heard again"));
    }
    let pace = escape::prose(&escape::cut(preview.pace.as_str(), 60));
    let mut parts = vec![buttons::moved(action, preview.pods_touched, false)];
    if !pace.is_empty() {
        parts.push(pace);
    }
    if action.moves_pods() || matches!(action, Action::Drain { .. }) {
        parts.push(match preview.disruptions_allowed {
            Some(allowed) => format!("budget allows {allowed} down"),
            None => "no disruption budget".to_owned(),
        });
    }
    if action.moves_pods() {
        parts.push(match &preview.autoscaler {
            Some(autoscaler) => format!("autoscaler: {}", escape::prose(&escape::cut(autoscaler.as_str(), 100))),
            None => "no autoscaler".to_owned(),
        });
    }
    parts.push(match &preview.gitops {
        Some(gitops) => {
            format!("⚠️ managed by {}, which may revert it", escape::prose(&escape::cut(gitops.as_str(), 60)))
        }
        None => "no mark of Argo CD or Flux".to_owned(),
    });
    parts.extend(preview.dependents.as_ref().map(before));
    let then = preview.then.as_ref().map_or_else(String::new, |then| {
        format!(". Then {}", escape::prose(escape::bare(&escape::cut(then.as_str(), 200))))
    });
    format!("{}{then}", parts.join(", "))
}

/// What stands before the pods and would feel their absence.
fn before(dependents: &Dependents) -> String {
    let unknown = |kind: &str, why: &Redacted| {
        let why = escape::prose(escape::bare(&escape::cut(why.as_str(), 100)));
        format!("could not read the {kind} before them ({why})")
    };
    let services = match &dependents.services {
        Part::Missing(why) => return unknown("Services", why),
        Part::Known(few) if few.named.is_empty() => return "no Service selects them".to_owned(),
        Part::Known(few) => named("Service", few),
    };
    match &dependents.ingresses {
        Part::Missing(why) => format!("behind {services}; {}", unknown("Ingresses", why)),
        Part::Known(few) if few.named.is_empty() => format!("behind {services}, no Ingress"),
        Part::Known(few) => format!("behind {services}, {}", named("Ingress", few)),
    }
}

fn named(kind: &str, few: &Few) -> String {
    let names: Vec<String> = few.named.iter().map(|object| escape::name(&object.name)).collect();
    let more = if few.more > 0 { format!(" and {} more", few.more) } else { String::new() };
    format!("{kind} {}{more}", names.join(", "))
}
