//! What a request's path means: a collection, an object or a subresource of it.

use crate::sim::cluster::access::Ask;
use crate::sim::cluster::kinds::{Kind, Kinds};

/// The target of a request on resources.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a Kind,
    /// Empty: cluster scope, or all namespaces.
    pub(crate) ns: &'a str,
    /// Empty: the collection.
    pub(crate) name: &'a str,
    /// Empty: the object itself.
    pub(crate) sub: &'a str,
}

/// Where a path leads.
pub(crate) enum Place<'a> {
    Resource(Target<'a>),
    /// The group is served, but has no such resource.
    NoResource,
    /// Nothing is served there at all.
    Nothing,
}

/// Reads `/api/v1/...` and `/apis/GROUP/VERSION/...`.
pub(crate) fn place<'a>(kinds: &'a Kinds, path: &'a str) -> Place<'a> {
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match steps[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return Place::Nothing,
    };
    let (ns, plural, name, sub) = match *rest {
        ["namespaces", name, sub @ ("status" | "finalize")] => ("", "namespaces", name, sub),
        ["namespaces", ns, plural] => (ns, plural, "", ""),
        ["namespaces", ns, plural, name] => (ns, plural, name, ""),
        ["namespaces", ns, plural, name, sub] => (ns, plural, name, sub),
        [plural] => ("", plural, "", ""),
        [plural, name] => ("", plural, name, ""),
        [plural, name, sub] => ("", plural, name, sub),
        _ => return Place::NoResource,
    };
    match kinds.by_plural(group, version, plural) {
        Some(kind) if kind.namespaced || ns.is_empty() => Place::Resource(Target { kind, ns, name, sub }),
        Some(_) => Place::NoResource,
        None if kinds.all().iter().any(|k| k.group == group && k.version == version) => Place::NoResource,
        None => Place::Nothing,
    }
}

impl<'a> Target<'a> {
    /// The namespace that a list or watch is narrowed to.
    pub(crate) fn within(&self) -> Option<&'a str> {
        (self.kind.namespaced && !self.ns.is_empty()).then_some(self.ns)
    }

    /// The question that RBAC is asked for `verb` on this target.
    pub(crate) fn ask(&'a self, verb: &'a str) -> Ask<'a> {
        Ask {
            verb,
            group: &self.kind.group,
            resource: &self.kind.plural,
            subresource: self.sub,
            namespace: self.ns,
            name: self.name,
        }
    }
}
