//! What the configuration switches off: nobody is offered it, nothing is asked for by it, and RBAC grants nothing for it. Pure.

use std::collections::BTreeMap;

use crate::govern::policy::pattern;
use crate::mcp::TOOLS;

/// The setting, for whoever is told that something is off.
pub const KEY: &str = "tools.off";

/// Tools of firstlook's own that are off, each with the number of the name in the setting that switches it off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Off(BTreeMap<&'static str, usize>);

impl Off {
    /// Those that are named, each by itself or with its whole server.
    ///
    /// # Errors
    /// When one is neither, with the name that is nearly it.
    pub fn of(names: &[String]) -> Result<Self, String> {
        let mut off = BTreeMap::new();
        for (nth, name) in names.iter().enumerate() {
            let meant = TOOLS.iter().filter(|(tool, server, _)| tool == name || server == name);
            let meant: Vec<&'static str> = meant.map(|(tool, ..)| *tool).collect();
            if meant.is_empty() {
                let known = TOOLS.iter().flat_map(|(tool, server, _)| [*tool, *server]);
                let hint = pattern::near(name, known).map(|near| format!("; did you mean `{near}`?"));
                let hint = hint.unwrap_or_else(|| "; `firstlook policy schema` lists the tools".to_owned());
                return Err(format!("{KEY}: there is no tool and no server `{name}`{hint}"));
            }
            for tool in meant {
                off.entry(tool).or_insert(nth);
            }
        }
        Ok(Self(off))
    }

    /// Whether this tool is off.
    pub fn has(&self, tool: &str) -> bool {
        self.0.contains_key(tool)
    }

    /// What switches this tool off, as a key of the configuration: `tools.off[1]`.
    pub fn by(&self, tool: &str) -> Option<String> {
        self.0.get(tool).map(|nth| format!("{KEY}[{nth}]"))
    }

    /// Their names, in order.
    pub fn tools(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Whether everything is on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_all_of_its_tools_and_a_slip_is_told_with_the_near_name() {
        let of = |names: &[&str]| Off::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let off = of(&["k8s-logs", "drain"]).unwrap();
        assert_eq!(off.tools().collect::<Vec<_>>(), ["drain", "pod_logs", "search_logs"]);
        assert_eq!(
            (off.by("search_logs").as_deref(), off.by("drain").as_deref()),
            (Some("tools.off[0]"), Some("tools.off[1]"))
        );
        assert_eq!(off.by("scale"), None);
        assert!(off.has("drain") && !off.has("delete_pod") && Off::default().is_empty());
        assert!(
            of(&["k8s-log"])
                .unwrap_err()
                .contains("tools.off: there is no tool and no server `k8s-log`; did you mean `k8s-logs`?")
        );
        assert!(of(&["dran"]).unwrap_err().contains("did you mean `drain`?"));
        assert!(of(&["exec"]).is_err() && of(&[""]).is_err() && of(&["Drain"]).is_err());
    }
}
