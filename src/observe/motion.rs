//! Motion: which objects the watches saw move, so that a stage looks at an object when it moved instead of in turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::core::ObjectMeta;

use crate::model::ObjectRef;

/// Objects whose motion is counted: subjects of open incidents and of requests for leave, of which there are fewer.
/// With more all counts begin anew, which costs one look at each.
const OBJECTS_MAX: usize = 4_096;

/// How often each object of interest moved: by itself, or something that it owns. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Motion(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By namespace and name. Two kinds of one name share a count: a look too much does no harm.
    counts: HashMap<(String, String), u64>,
    /// Whether the watches know the cluster's state; else nobody may wait for them.
    stands: bool,
}

impl Motion {
    /// How often this object moved since somebody first asked; None while the watches do not stand, when whoever asks
    /// has to look by itself.
    pub fn of(&self, object: &ObjectRef) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.stands {
            return None;
        }
        if state.counts.len() >= OBJECTS_MAX {
            state.counts.clear();
        }
        let namespace = object.namespace.as_ref().map(|namespace| namespace.as_str().to_owned()).unwrap_or_default();
        let place = (namespace, object.name.as_str().to_owned());
        Some(*state.counts.entry(place).or_insert(0))
    }

    /// A watch saw this object appear, change or go.
    pub fn saw(&self, object: &ObjectMeta) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.counts.is_empty() {
            return;
        }
        let namespace = object.namespace.clone().unwrap_or_default();
        let owners = object.owner_references.iter().flatten().map(|owner| &owner.name);
        for name in owners.chain(&object.name) {
            if let Some(count) = state.counts.get_mut(&(namespace.clone(), name.clone())) {
                *count += 1;
            }
        }
    }

    /// Whether every watch knows the cluster's state now.
    pub fn stand(&self, stands: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).stands = stands;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;
    use crate::model::Kind;

    fn seen(name: &str, owner: Option<&str>) -> ObjectMeta {
        let reference = |name: &str| vec![OwnerReference { name: name.to_owned(), ..OwnerReference::default() }];
        ObjectMeta {
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            owner_references: owner.map(reference),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_object_moves_with_what_it_owns_and_with_nothing_else() {
        let motion = Motion::default();
        let api = ObjectRef::new(Kind::Deployment, Some("shop"), "api").unwrap();
        assert_eq!(motion.of(&api), None, "nothing is watched yet");
        motion.stand(true);
        assert_eq!(motion.of(&api), Some(0));
        motion.saw(&seen("api", None));
        motion.saw(&seen("api-7d9f", Some("api")));
        motion.saw(&seen("cart", None));
        motion.saw(&ObjectMeta { namespace: Some("other".to_owned()), ..seen("api", None) });
        assert_eq!(motion.of(&api), Some(2));
    }
}
