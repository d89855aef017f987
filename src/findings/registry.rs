//! What a registry or a runtime answers to a pull, and how far that answer explains the trouble.

use super::view;
use crate::model::finding::Certainty;
use crate::model::scene::{ContainerState, Pod, Scene};
use crate::redact::Redacted;
use crate::text;

/// What was answered to a pull.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// There is no such repository, tag or digest.
    Missing,
    /// It is not there, or the login may not see it: registries do not tell the two apart.
    Hidden,
    /// It is there, but not for the node's platform.
    Platform,
    Denied,
    Unreachable,
    Untrusted,
    Limited,
    /// The node has no room for it.
    Full,
    /// It is not on the node, and may not be pulled (`imagePullPolicy: Never`).
    Barred,
    Unclear,
}

/// What runtimes and registries answer, most telling first, and what it means.
const ANSWERS: [(&str, Answer); 34] = [
    ("no space left on device", Answer::Full),
    ("no match for platform in manifest", Answer::Platform),
    ("no matching manifest for", Answer::Platform),
    ("repository does not exist or may require authorization", Answer::Hidden),
    ("repository does not exist", Answer::Missing),
    ("manifest unknown", Answer::Missing),
    ("name unknown", Answer::Missing),
    ("toomanyrequests", Answer::Limited),
    ("Too Many Requests", Answer::Limited),
    ("x509", Answer::Untrusted),
    ("no such host", Answer::Unreachable),
    ("server misbehaving", Answer::Unreachable),
    ("i/o timeout", Answer::Unreachable),
    ("TLS handshake timeout", Answer::Unreachable),
    ("context deadline exceeded", Answer::Unreachable),
    ("Client.Timeout exceeded", Answer::Unreachable),
    ("connection refused", Answer::Unreachable),
    ("connection reset", Answer::Unreachable),
    ("no route to host", Answer::Unreachable),
    ("network is unreachable", Answer::Unreachable),
    ("500 Internal Server Error", Answer::Unreachable),
    ("502 Bad Gateway", Answer::Unreachable),
    ("503 Service Unavailable", Answer::Unreachable),
    ("504 Gateway Time", Answer::Unreachable),
    ("unexpected EOF", Answer::Unreachable),
    ("401 Unauthorized", Answer::Denied),
    ("unauthorized", Answer::Denied),
    ("authorization failed", Answer::Denied),
    ("no basic auth credentials", Answer::Denied),
    ("authentication required", Answer::Denied),
    ("403 Forbidden", Answer::Denied),
    ("not found", Answer::Missing),
    ("couldn't parse image", Answer::Missing),
    ("invalid reference format", Answer::Missing),
];

/// What part of its image a revision changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    Registry,
    Repository,
    /// The tag or digest alone.
    Tag,
    /// The image came with the revision; what it was before is not known.
    Whole,
}

/// What the registry answered to the pull of a container's image: its meaning, and its own words.
pub(super) fn answer(scene: &Scene, pod: &Pod, container: &ContainerState) -> (Answer, Redacted) {
    let (reason, message) = view::waiting(container);
    // What a probe or a mount of the same pod complains of says nothing about an image.
    let of_a_pull = |text: &&Redacted| {
        let text = text.as_str();
        text.contains(container.image.as_str()) || text.contains("pull") || text.contains("image")
    };
    let events = view::warnings(scene, &pod.object).map(|event| &event.message).filter(of_a_pull);
    let texts: Vec<&Redacted> = message.into_iter().chain(events).collect();
    for (words, answer) in ANSWERS {
        if let Some(words) = texts.iter().find_map(|text| text.part(words)) {
            return (answer, words);
        }
    }
    let answer = match reason {
        "RegistryUnavailable" => Answer::Unreachable,
        "ErrImageNeverPull" => Answer::Barred,
        _ => Answer::Unclear,
    };
    (answer, message.and_then(|message| message.part(reason)).unwrap_or_default())
}

impl Answer {
    /// Whether the answer speaks of the image that was asked for, as the revision that changed this part of it brought it:
    /// then going back helps. A registry that is down or that counts requests says nothing about a tag.
    pub(super) fn blames(self, changed: Part) -> bool {
        match self {
            Self::Missing | Self::Platform | Self::Barred | Self::Unclear => true,
            Self::Hidden | Self::Denied => changed != Part::Tag,
            Self::Unreachable | Self::Untrusted => changed == Part::Registry,
            Self::Limited | Self::Full => false,
        }
    }

    /// How sure the cause is: only what speaks of the very image proves it.
    pub(super) fn certainty(self, changed: Option<Part>) -> Certainty {
        match (self, changed) {
            (Self::Missing | Self::Platform | Self::Barred, _) => Certainty::Proved,
            (Self::Hidden, Some(Part::Registry | Part::Repository | Part::Whole) | None) => Certainty::Proved,
            _ => Certainty::Likely,
        }
    }

    /// What keeps the image from the node, as a whole sentence's beginning.
    pub(super) fn says(self, host: &Redacted, words: &Redacted) -> Option<Redacted> {
        let registry = if host.is_empty() { "The registry".into() } else { text!("Registry {}", host) };
        match self {
            Self::Unreachable => Some(text!("{} did not answer as it should ({})", registry, words)),
            Self::Untrusted => Some(text!("The node does not trust the certificate of {} ({})", registry, words)),
            Self::Limited => Some(text!("{} limits how often it may be asked ({})", registry, words)),
            Self::Denied => Some(text!("{} refuses the login of the pods, or their want of one ({})", registry, words)),
            Self::Full => Some(text!("The node has no room for the image ({})", words)),
            Self::Barred => {
                Some("The node does not have the image, and its pull policy Never forbids to ask for it".into())
            }
            Self::Missing | Self::Hidden | Self::Platform | Self::Unclear => None,
        }
    }

    /// The same in a few words.
    pub(super) fn brief(self, host: &Redacted, repository: &Redacted, tag: &Redacted) -> Redacted {
        let registry = name(host);
        let image = || text!("cannot pull image {}", repository);
        match self {
            Self::Missing if !tag.is_empty() => text!("{}, no tag {}", image(), tag),
            Self::Missing | Self::Unclear => image(),
            Self::Hidden => text!("{}: it is gone, or its login may not read it", image()),
            Self::Platform => text!("{}: none for the node's platform", image()),
            Self::Denied => text!("{}: login refused", image()),
            Self::Unreachable => text!("{}: {} does not answer", image(), registry),
            Self::Untrusted => text!("{}: certificate of {} not trusted", image(), registry),
            Self::Limited => text!("{}: {} limits requests", image(), registry),
            Self::Full => text!("{}: no room on the node", image()),
            Self::Barred => text!("image {} is not on the node, and the pull policy is Never", repository),
        }
    }

    /// What to do where going back would not help.
    pub(super) fn advice(self, host: &Redacted, image: &Redacted) -> Redacted {
        let registry = name(host);
        match self {
            Self::Missing | Self::Hidden | Self::Unclear => {
                text!("Check that {} exists in its registry and that the pods may pull it.", image)
            }
            Self::Platform => {
                text!("Build {} for the platform of the nodes, or select nodes that it is built for.", image)
            }
            Self::Denied => text!(
                "Check the pull secret of the pods and of their service account, and what its login may read of {}.",
                image,
            ),
            Self::Unreachable => text!(
                "Ask who runs {}, and check the way from the nodes to it (DNS, proxy, firewall). Do not restart the pods that run: a new one could not pull {}.",
                registry,
                image,
            ),
            Self::Untrusted => text!("Check the certificate of {} and the authorities that the nodes trust.", registry),
            Self::Limited => text!(
                "Wait until {} answers again, or pull with a login or through a mirror. Do not restart the pods that run: each new one asks again.",
                registry,
            ),
            Self::Barred => {
                text!("Load {} onto the nodes, or let the pods pull it (imagePullPolicy IfNotPresent).", image,)
            }
            Self::Full => text!(
                "Look at what fills the disk of the node; its images are cleaned up only below the kubelet's mark."
            ),
        }
    }
}

/// `registry r.example`.
pub(super) fn name(host: &Redacted) -> Redacted {
    if host.is_empty() { "the registry".into() } else { text!("registry {}", host) }
}
