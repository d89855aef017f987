//! A scene under construction, for the stories of the rules.

use super::*;

/// A scene under construction: the Deployment `shop/cart`, or what `of` names; every part known and empty.
pub(super) struct World {
    pub(super) scene: Scene,
}

impl World {
    pub(super) fn of(subject: ObjectRef) -> Self {
        let evidence = ScenePart::ALL.iter().map(|part| Evidence {
            id: part.evidence(),
            tool: "scene".into(),
            asked: "".into(),
            read_at: now(),
            reading: Reading::Segments(Vec::new()),
        });
        Self {
            scene: Scene {
                subject,
                read_at: now(),
                not_found: None,
                workload: Part::Known(None),
                revisions: Part::Known(Vec::new()),
                changes: Part::Known(Vec::new()),
                pods: Part::Known(Vec::new()),
                logs: Part::Known(Vec::new()),
                events: Part::Known(Vec::new()),
                nodes: Part::Known(Vec::new()),
                figures: Part::Known(Vec::new()),
                services: Part::Known(Vec::new()),
                ingresses: Part::Known(Vec::new()),
                traffic: Part::Known(None),
                ingress_classes: Part::Known(Vec::new()),
                config_maps: Part::Known(Vec::new()),
                claims: Part::Known(Vec::new()),
                volumes: Part::Known(Vec::new()),
                autoscalers: Part::Known(Vec::new()),
                budgets: Part::Known(Vec::new()),
                quotas: Part::Known(Vec::new()),
                neighbours: Part::Known(Vec::new()),
                evidence: evidence.collect(),
            },
        }
    }

    /// The Deployment `shop/cart`.
    pub(super) fn cart(wanted: u32, ready: u32) -> Self {
        let subject = named(Kind::Deployment, "cart");
        let mut world = Self::of(subject.clone());
        let at = world.stands(ScenePart::Subject, Source::Object { object: subject.clone() }, r#"{"name": "cart"}"#);
        world.scene.workload = Part::Known(Some(Workload {
            object: subject,
            uid: "u".into(),
            created_at: ago(100_000),
            generation: 1,
            observed_generation: 1,
            wanted,
            ready,
            updated: wanted,
            available: ready,
            failed: 0,
            succeeded: 0,
            conditions: Vec::new(),
            revision: Some(1),
            template: template(),
            labels: BTreeMap::new(),
            selector: map(&[("app", "cart")]),
            paused: false,
            strategy: "".into(),
            partition: 0,
            suspended: false,
            gitops: None,
            changed_by: None,
            written_at: None,
            backoff_limit: None,
            deadline_seconds: None,
            last_scheduled_at: None,
            last_succeeded_at: None,
            cron_job: None,
            at,
        }));
        world
    }

    pub(super) fn workload(&mut self) -> &mut Workload {
        match &mut self.scene.workload {
            Part::Known(Some(workload)) => workload,
            _ => panic!("no workload"),
        }
    }

    /// Puts a verbatim text into a part's evidence.
    pub(super) fn stands(&mut self, part: ScenePart, source: Source, text: &str) -> At {
        let evidence = &mut self.scene.evidence[part as usize - 1];
        let Reading::Segments(segments) = &mut evidence.reading else { panic!("missing") };
        segments.push(Segment { source, text: r(text), verbatim: true });
        At { evidence: evidence.id, segment: segments.len() as u32 - 1 }
    }

    /// Revision `number`, made so many minutes ago, from this template; the last added is the running one.
    pub(super) fn revision(&mut self, number: i64, minutes: i64, ready: u32, template: Template) -> &mut Self {
        let object = named(Kind::ReplicaSet, &format!("cart-h{number}"));
        let at = self.stands(ScenePart::Changes, Source::Object { object: object.clone() }, "{}");
        let Part::Known(revisions) = &mut self.scene.revisions else { panic!() };
        for revision in revisions.iter_mut() {
            revision.current = false;
        }
        let hash = format!("h{number}");
        let revision = Revision {
            number,
            earlier_numbers: Vec::new(),
            object,
            uid: hash.clone(),
            hash,
            created_at: ago(minutes),
            wanted: 1,
            ready,
            current: true,
            template: template.clone(),
            at,
        };
        revisions.insert(0, revision);
        self.workload().template = template;
        self
    }

    /// What the running revision changed: field, before, after (empty for absent).
    pub(super) fn changed(&mut self, lines: &[(&str, &str, &str)]) -> &mut Self {
        let said = lines.iter().map(|(field, before, after)| format!("{field}: {before} -> {after}"));
        let text = said.collect::<Vec<_>>().join("\n");
        let object = self.scene.subject.clone();
        let at = self.stands(ScenePart::Changes, Source::Rollout { object: object.clone() }, &text);
        let number = self.scene.revisions.items()[0].number;
        let some = |text: &str| (!text.is_empty()).then(|| r(text));
        let lines = lines.iter().map(|(field, before, after)| DiffLine {
            container: None,
            field: r(field),
            before: some(before),
            after: some(after),
        });
        let change = Change {
            object,
            changed_at: self.scene.revisions.items()[0].created_at,
            by: Some(r("helm")),
            from_revision: Some(number - 1),
            to_revision: Some(number),
            lines: lines.collect(),
            at,
        };
        let Part::Known(changes) = &mut self.scene.changes else { panic!() };
        changes.push(change);
        self
    }

    pub(super) fn pod(&mut self, name: &str, revision: i64, minutes: i64, container: ContainerState) -> &mut Self {
        let object = named(Kind::Pod, name);
        let text = match view::last_end(&container) {
            Some(end) => format!(r#"{{"exitCode": {}, "reason": "{}"}}"#, end.exit_code, end.reason),
            None => match &container.state {
                State::Waiting { reason, .. } => format!(r#"{{"reason": "{reason}"}}"#),
                _ => "{}".into(),
            },
        };
        let at = self.stands(ScenePart::Pods, Source::Object { object: object.clone() }, &text);
        let ready = container.ready;
        let waiting =
            matches!(&container.state, State::Waiting { reason, .. } if reason.as_str() != "CrashLoopBackOff");
        let pod = Pod {
            object,
            uid: name.into(),
            created_at: ago(minutes),
            phase: r(if waiting { "Pending" } else { "Running" }),
            ready,
            node: Some(r("n1")),
            template: Some(format!("h{revision}")),
            labels: map(&[("app", "cart")]),
            reason: "".into(),
            message: "".into(),
            conditions: Vec::new(),
            containers: vec![container],
            deleting: false,
            ends_at: None,
            finalizers: Vec::new(),
            owner: Some(self.scene.subject.clone()),
            cpu_milli: 500,
            memory_bytes: 1 << 28,
            at,
        };
        let Part::Known(pods) = &mut self.scene.pods else { panic!() };
        pods.push(pod);
        self
    }

    pub(super) fn last_pod(&mut self) -> &mut Pod {
        let Part::Known(pods) = &mut self.scene.pods else { panic!() };
        pods.last_mut().unwrap()
    }

    pub(super) fn log(&mut self, pod: &str, lines: &[(&str, i64)]) -> &mut Self {
        let text = lines.iter().map(|(line, _)| *line).collect::<Vec<_>>().join("\n");
        let name = |text: &str| Name::parse(text).unwrap();
        let source = Source::Log { namespace: name("shop"), pod: name(pod), container: name("app"), previous: false };
        let at = self.stands(ScenePart::Logs, source, &text);
        let lines = lines.iter().map(|(line, minutes)| LogLine {
            text: r(line),
            count: 1,
            first_at: Some(ago(*minutes)),
            last_at: Some(ago(*minutes)),
        });
        let log = LogTail {
            pod: named(Kind::Pod, pod),
            container: r("app"),
            previous: false,
            lines: lines.collect(),
            missing: None,
            at,
        };
        let Part::Known(logs) = &mut self.scene.logs else { panic!() };
        logs.push(log);
        self
    }

    pub(super) fn event(&mut self, object: ObjectRef, reason: &str, message: &str, minutes: (i64, i64)) -> &mut Self {
        let source = Source::Event { object: object.clone(), reason: r(reason) };
        let at = self.stands(ScenePart::Events, source, message);
        let event = Event {
            object,
            warning: true,
            reason: r(reason),
            message: r(message),
            count: 4,
            first_at: ago(minutes.0),
            last_at: ago(minutes.1),
            source: "kubelet".into(),
            at,
        };
        let Part::Known(events) = &mut self.scene.events else { panic!() };
        events.push(event);
        self
    }

    pub(super) fn node(&mut self, name: &str, ready: bool, labels: &[(&str, &str)], cpu: (i64, i64)) -> &mut Self {
        let object = ObjectRef::new(Kind::Node, None, name).unwrap();
        let text = r#"{"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}"#;
        let at = self.stands(ScenePart::Nodes, Source::Object { object: object.clone() }, text);
        let condition = Condition {
            kind: "Ready".into(),
            status: if ready { "True" } else { "Unknown" }.into(),
            reason: if ready { "KubeletReady" } else { "NodeStatusUnknown" }.into(),
            message: if ready { "" } else { "Kubelet stopped posting node status." }.into(),
            changed_at: Some(ago(20)),
            heartbeat_at: Some(ago(21)),
        };
        let node = Node {
            object,
            ready: if ready { Some(true) } else { None },
            conditions: vec![condition],
            labels: map(labels),
            taints: Vec::new(),
            unschedulable: false,
            allocatable_cpu_milli: cpu.0,
            allocatable_memory_bytes: 1 << 34,
            extended: BTreeMap::new(),
            requested_cpu_milli: Some(cpu.1),
            requested_memory_bytes: Some(1 << 30),
            pods: Some(3),
            pods_not_ready: Some(0),
            lease_renewed_at: Some(ago(21)),
            lease_written_at: Some(ago(21)),
            at,
        };
        let Part::Known(nodes) = &mut self.scene.nodes else { panic!() };
        nodes.push(node);
        self
    }

    pub(super) fn neighbour(
        &mut self,
        name: &str,
        wanted: u32,
        ready: u32,
        minutes: i64,
        image: &str,
        cpu: i64,
    ) -> &mut Self {
        let object = named(Kind::Deployment, name);
        let at = self.stands(ScenePart::Neighbours, Source::Object { object: object.clone() }, "{}");
        let neighbour = Neighbour {
            object,
            wanted,
            ready,
            rolled_out_at: Some(ago(minutes)),
            images: vec![r(image)],
            cpu_milli: cpu,
            at,
        };
        let Part::Known(neighbours) = &mut self.scene.neighbours else { panic!() };
        neighbours.push(neighbour);
        self
    }

    pub(super) fn report(&self) -> Report {
        let report = conclude(&self.scene, find(&self.scene, now()), now());
        let (headline, cause) = (report.headline.as_str(), report.cause.as_str());
        assert!(headline.chars().count() <= 150, "{headline}");
        assert!(cause.chars().count() <= 550, "{cause}");
        for citation in &report.citations {
            let evidence = self.scene.evidence.iter().find(|evidence| evidence.id == citation.evidence).unwrap();
            assert!(evidence.prove(citation.quote.as_str()).is_some(), "unproved: {}", citation.quote);
        }
        report
    }

    /// The rules that fire as causes, surest first.
    pub(super) fn causes(&self) -> Vec<String> {
        let found = find(&self.scene, now()).into_iter();
        found.filter(|finding| finding.role == Role::Cause).map(|finding| finding.rule).collect()
    }
}
