//! The card after its first report: answers of people, endings, incidents that became one, and text that stays text.

use super::*;

#[test]
fn what_was_only_looked_at_and_is_well_has_no_beginning_no_severity_and_no_unknown_cause() {
    let mut card = with_report();
    card.incident.severity = Severity::None;
    card.incident.alert_severity = None;
    let report = card.report.as_mut().unwrap();
    (report.certainty, report.headline) = (Certainty::Unknown, "since it is well · none · is said".into());
    let told = |tone| flatten(&looked(&card, &Options { now: at(11) }, tone));
    let (trouble, quiet, well) = (told(Tone::Trouble), told(Tone::Quiet), told(Tone::Well));
    let place = |text: &str| text.lines().nth(1).unwrap().to_owned();
    assert!(place(&trouble).contains(" · none · alert since ") && trouble.contains("*Cause unknown*"), "{trouble}");
    assert!(!place(&quiet).contains("none") && !place(&quiet).contains("since"), "{quiet}");
    assert!(!quiet.contains("*Cause unknown*") && quiet.contains("*Seen*"), "{quiet}");
    assert!(quiet.starts_with("⚪ since it is well · none"), "its own words stay: {quiet}");
    assert!(well.starts_with("✅ since it is well") && place(&well) == place(&quiet), "{well}");
}

#[test]
fn after_a_click_the_buttons_go_and_the_card_says_who_pressed_what() {
    let pressed = asked(|approval| {
        approval.state = ApprovalState::Executing;
        approval.presses.push(press(true, None));
    });
    see("pressed", &pressed);
    see("rolling-out", &executed(Verification::Watching { ready: 1, wanted: 4 }));
    let mut better = executed(Verification::Better { at: at(9), ready: 4, wanted: 4 });
    better.heard.alerts_firing = 0;
    better.heard.resolved_at = Some(at(10));
    better.incident.healthy_since = Some(at(9));
    see("verified", &better);
    insta::assert_snapshot!("thread-of-the-outcome", flatten(&replies(&better, &Options { now: at(11) })[1].1));
    let mut worse = executed(Verification::NotBetter { at: at(9), why: "pods still exit 1".into() });
    worse.incident.investigation.state = InvestigationState::Running;
    worse.incident.investigation.again =
        vec![Again { after: worse.approvals[0].id.clone(), from_turn: 4, answered: false }];
    see("done-but-not-better", &worse);
    worse.incident.investigation.state = InvestigationState::Failed { why: "provider returned 503".into() };
    let says = render(&worse);
    assert!(says.contains("Looked again, without an answer (provider returned 503); this was said before"), "{says}");
    assert!(says.contains("*Possible cause*") && !says.contains("rules alone"), "{says}");
    worse.incident.investigation.answer();
    assert!(render(&worse).contains("*Likely cause*"), "a report that knows of it says itself how sure it is");
}

#[test]
fn what_took_effect_late_says_so_and_never_that_nothing_was_done() {
    let mut late = executed(Verification::Better { at: at(9), ready: 4, wanted: 4 });
    late.approvals[0].because =
        "it took effect late: its request was still on its way when its approval had ended".into();
    let says = render(&late);
    assert!(says.contains("*Rolled back*") && says.contains("\nIt took effect late: its request was still"), "{says}");
    assert!(!says.contains("Withdrawn"), "{says}");
}

#[test]
fn healthy_again_is_said_of_the_incident_and_of_no_action_that_moves_no_pod() {
    let mut better = executed(Verification::Better { at: at(9), ready: 4, wanted: 4 });
    assert!(!render(&better).contains("Healthy again"), "its incident is not seen to be healthy, or ill again");
    better.incident.healthy_since = Some(at(9));
    assert!(render(&better).contains("Healthy again"));
    better.approvals[0].verification = Verification::Better { at: at(9), ready: 0, wanted: 0 };
    for action in [
        Action::PauseRollout { object: checkout() },
        Action::Cordon { object: ObjectRef::new(Kind::Node, None, "n1").unwrap() },
    ] {
        better.approvals[0].action = Some(action);
        let says = render(&better);
        assert!(!says.contains("Healthy again") && !says.contains("0 of 0"), "{says}");
        let thread = flatten(&replies(&better, &Options { now: at(11) })[1].1);
        assert!(!thread.contains("0 of 0") && thread.contains("it stands"), "{thread}");
    }
    better.approvals[0].action = Some(Action::PauseRollout { object: checkout() });
    assert!(render(&better).starts_with("🔴 Rollout paused. checkout is failing in shop"), "{}", render(&better));
}

#[test]
fn what_made_things_worse_says_so_first() {
    let why = "new pods still fail: container app restarted 2 times".into();
    let mut worse = executed(Verification::Worse { at: at(9), why, before: 3, ready: 1 });
    let says = render(&worse);
    let first = "🔴 Made worse by “Roll back checkout to revision 6”: 1 ready, 3 before. checkout is failing in shop";
    assert!(says.starts_with(first), "{says}");
    let step = "🔴 *Made worse*  1 ready, 3 before: *Rolled back*";
    assert!(says.contains(step) && says.contains("container app restarted 2 times."), "{says}");
    let thread = flatten(&replies(&worse, &Options { now: at(11) })[1].1);
    assert!(thread.contains("1 ready, 3 before: new pods still fail"), "{thread}");
    worse.incident.healthy_since = Some(at(10));
    assert!(!render(&worse).starts_with("🔴 Made worse"), "it is over");
}

#[test]
fn a_cluster_that_binds_no_writer_shows_the_step_without_a_button() {
    let refused = asked(|approval| {
        approval.state = ApprovalState::Refused;
        approval.because = "firstlook changes nothing here".into();
        let preview = approval.preview.as_mut().unwrap();
        preview.by_api_server = false;
        preview.unguarded = Some(approval.because.clone());
        preview.note = Some("no dry run: the admission policy of the preview account is not installed".into());
    });
    let says = render(&refused);
    assert!(says.contains("computed without a dry run") && says.contains("kubectl -n shop rollout undo"), "{says}");
    assert!(!says.contains("[ Roll back"), "no button: {says}");
}

#[test]
fn a_standing_leave_is_named_with_its_person_and_what_became_of_it() {
    let counted = |approval: &mut Approval| {
        approval.presses.push(press(true, None));
        approval.standing = Some(Standing::Counted {
            by: "U024BE7LH".into(),
            rule: "standing_leave[0] (line 12)".into(),
            key: String::new(),
            at: at(7),
        });
    };
    let pressed = asked(|approval| {
        approval.state = ApprovalState::Executing;
        counted(approval);
    });
    see("pressed-by-standing-leave", &pressed);
    let mut worse = executed(Verification::NotBetter { at: at(9), why: "pods still exit 1".into() });
    worse.approvals[0].presses.clear();
    counted(&mut worse.approvals[0]);
    see("standing-leave-suspended", &worse);
    let not_now = asked(|approval| {
        let why =
            "it is suspended: rollout_undo of Deployment shop/checkout did not help; given again in the policy, with \
                   another `until`, it counts"
                .into();
        let (by, rule) = ("U024BE7LH".into(), "standing_leave[0] (line 12)".into());
        approval.standing = Some(Standing::NotNow { by, rule, why });
    });
    see("standing-leave-does-not-count", &not_now);
}

#[test]
fn thumbs_are_counted_on_the_card() {
    let mut card = with_report();
    let thumb = |user, up| Thumb { user, up, reason: None, at: at(12) };
    card.thumbs = vec![thumb("U1".into(), true), thumb("U2".into(), true), thumb("U3".into(), false)];
    assert!(render(&card).contains("👍 2 👎 1"), "{}", render(&card));
    card.report.as_mut().unwrap().cause = "".into();
    assert!(!render(&card).contains("Right"), "what names no cause cannot be right or wrong");
}

#[test]
fn every_way_in_which_nothing_was_done_has_its_own_words() {
    let refused = asked(|approval| {
        approval.state = ApprovalState::Refused;
        approval.action = None;
        approval.because =
            "`report-nightly` is a running Job (42 of 60 done); restarting it would lose its work.".into();
    });
    see("refused-before-asking", &refused);
    see(
        "rejected",
        &asked(|approval| {
            approval.state = ApprovalState::Rejected;
            approval.presses.push(press(false, Some("DBA raises the limit")));
        }),
    );
    see(
        "withdrawn",
        &asked(|approval| {
            approval.state = ApprovalState::Withdrawn;
            approval.because = "someone changed checkout at 02:19 (revision 8, by `kubectl-edit`)".into();
        }),
    );
    see(
        "expired",
        &asked(|approval| {
            approval.state = ApprovalState::Expired;
            approval.expires_at = at(5);
        }),
    );
    see("nobody-may-approve", &asked(|approval| approval.approvers.clear()));
    see(
        "denied-by-policy",
        &asked(|approval| {
            approval.state = ApprovalState::Refused;
            approval.rule = "deny[0]".into();
            approval.because = "`kube-system` is protected".into();
        }),
    );
    see(
        "failed",
        &asked(|approval| {
            approval.state = ApprovalState::Failed;
            approval.because = "the API server refused: exceeded quota".into();
        }),
    );
    see("outcome-unknown", &asked(|approval| approval.state = ApprovalState::OutcomeUnknown));
}

#[test]
fn a_newer_request_for_the_same_object_takes_the_place_of_an_older_one() {
    let mut card = asked(|approval| approval.id = ApprovalId::parse("a0002").unwrap());
    card.approvals.push(approval(ApprovalState::Expired));
    let text = render(&card);
    assert!(text.contains("[ Roll back checkout to revision 6 ]") && !text.contains("Expired"), "{text}");
}

#[test]
fn a_model_that_gave_no_answer_is_named_and_one_that_is_off_is_not() {
    let mut card = first_card();
    assert!(!render(&card).to_lowercase().contains("model"));
    card.incident.investigation.state = InvestigationState::Failed { why: "provider returned 503".into() };
    see("model-down", &card);
    card.incident.investigation.state =
        InvestigationState::Failed { why: "today's budget of 2,000,000 tokens is spent".into() };
    see("budget-spent", &card);
    let mut unknown = with_report();
    let report = unknown.report.as_mut().unwrap();
    report.certainty = Certainty::Unknown;
    report.cause = "".into();
    report.citations.clear();
    report.advice = Some("look at the load balancer".into());
    see("cause-unknown", &unknown);
}

#[test]
fn an_ending_says_how_and_through_whom() {
    let mut card = with_report();
    card.incident.healthy_since = Some(at(8));
    card.incident.state = IncidentState::Over { at: at(10), how: Ending::Resolved };
    see("recovered", &card);
    card.incident.state = IncidentState::Over { at: at(10), how: Ending::Presumed };
    see("presumed-over", &card);
    let mut before = first_card();
    before.findings.clear();
    before.incident.severity = Severity::None;
    before.incident.unhealthy_at = None;
    before.incident.healthy_since = Some(at(2));
    let change = |card: &mut Card, minutes| {
        let Some(Part::Known(changes)) = card.scene.as_mut().map(|scene| &mut Arc::make_mut(scene).changes) else {
            panic!()
        };
        changes[0].changed_at = at(minutes);
    };
    change(&mut before, 1);
    see("already-over", &before);
    change(&mut before, -300);
    see("never-seen-ill", &before);
}

#[test]
fn a_name_that_does_not_exist_is_answered_with_its_neighbours_and_no_action() {
    let mut card = first_card();
    let scene = Arc::make_mut(card.scene.as_mut().unwrap());
    scene.not_found = Some(NotFound {
        namespace_exists: true,
        near: vec![ObjectRef::new(Kind::Deployment, Some("shop"), "checkout-api").unwrap()],
    });
    card.findings.clear();
    see("which-one", &card);
}

#[test]
fn what_was_in_trouble_before_the_first_start_is_one_list() {
    let mut card = first_card();
    card.incident.fault = "arrival".into();
    card.incident.subject = ObjectRef::new(Kind::Namespace, None, "default").unwrap();
    card.incident.also =
        (0..30).filter_map(|n| ObjectRef::new(Kind::Deployment, Some("shop"), &format!("w{n}"))).collect();
    see("found-on-arrival", &card);
}

#[test]
fn of_two_incidents_that_became_one_both_cards_say_so() {
    let node = ObjectRef::new(Kind::Node, None, "ip-10-0-3-7").unwrap();
    let merge = |subject: &ObjectRef| Merge {
        incident: IncidentId::parse("i0002").unwrap(),
        subject: subject.clone(),
        at: at(4),
        because: "its 3 not-ready pod(s) all stand on node ip-10-0-3-7, which is not ready".into(),
        by_model: false,
        carried: Vec::new(),
        paid: false,
    };
    let mut gone = first_card();
    gone.incident.absorbed_by = Some(Box::new(merge(&node)));
    gone.incident.state = IncidentState::Over { at: at(4), how: Ending::Absorbed };
    see("absorbed", &gone);
    let mut stays = first_card();
    stays.incident.absorbed = vec![merge(&ObjectRef::new(Kind::Deployment, Some("shop"), "cart").unwrap())];
    see("took-in-another", &stays);
}

/// Every `mrkdwn` text below `value`.
fn markup_of(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "mrkdwn") => {
            texts.extend(fields["text"].as_str().map(str::to_owned));
        }
        Value::Object(fields) => fields.values().for_each(|field| markup_of(field, texts)),
        Value::Array(items) => items.iter().for_each(|item| markup_of(item, texts)),
        _ => {}
    }
}

#[test]
fn hostile_text_stays_text() {
    let long = "x".repeat(300);
    let hostile =
        "<!channel> *pay* _now_ ~no~ `rm` ``` \u{202E}evil\u{202C} <https://evil.example|click> &amp; 🔥 שלום";
    let text = Redacted::literal(hostile);
    let mut card = asked(|approval| {
        approval.because = text.clone();
        approval.presses.push(Press { user: text.clone(), yes: true, at: at(7), reason: Some(text.clone()) });
        let preview = approval.preview.as_mut().unwrap();
        preview.pace = text.clone();
        preview.gitops = Some(text.clone());
        preview.diff.push(DiffLine {
            container: Some(text.clone()),
            field: text.clone(),
            before: None,
            after: Some(text.clone()),
        });
    });
    let object = ObjectRef::new(Kind::Deployment, Some(&long[..200]), &long[..253]).unwrap();
    card.approvals[0].action = Some(Action::RolloutRestart { object: object.clone() });
    card.incident.subject = object.clone();
    let report = card.report.as_mut().unwrap();
    report.headline = crate::text!("{} {}", object, text);
    report.cause = text.clone();
    report.ruled_out = vec![text.clone()];
    report.advice = Some(text.clone());
    report.citations = vec![Citation {
        evidence: EvidenceId(1),
        segment: None,
        quote: text.clone(),
        source: Some(Source::Event { object, reason: text.clone() }),
    }];
    card.links = vec![Link { label: text.clone(), url: text.clone() }];
    Arc::make_mut(card.scene.as_mut().unwrap()).changes = Part::Missing(text.clone());
    let message = super::card(&card, &Options { now: at(11) });
    let mut texts = Vec::new();
    markup_of(&serde_json::to_value(&message).unwrap(), &mut texts);
    // Within code Slack formats nothing; what stands between backticks may look as it likes.
    let payload: String = texts.join("\n").split('`').step_by(2).collect();
    for forbidden in ["<!channel", "<https://evil", "\u{202E}", "*pay*", "_now_", "~no~", "`rm`"] {
        assert!(!payload.contains(forbidden), "{forbidden} in {payload}");
    }
    see("hostile", &card);
    let worst = Redacted::literal(Box::leak(hostile.repeat(200).into_boxed_str()));
    let report = card.report.as_mut().unwrap();
    (report.cause, report.advice) = (worst.clone(), Some(worst.clone()));
    report.reasoning = vec![worst.clone(); 5];
    report.ruled_out = vec![worst.clone(); 9];
    card.heard.says = Some(worst.clone());
    card.approvals[0].preview.as_mut().unwrap().diff =
        vec![DiffLine { container: None, field: worst.clone(), before: Some(worst.clone()), after: Some(worst) }; 60];
    render(&card);
}

#[test]
fn what_depends_on_the_pods_is_named_counted_or_said_to_be_unknown() {
    let with = |services, ingresses| {
        let dependents = Dependents { services, ingresses };
        render(&asked(|approval| approval.preview.as_mut().unwrap().dependents = Some(dependents)))
    };
    let many = with(few(&["api", "grpc", "web"], 9), few(&[], 0));
    assert!(many.contains("behind Service `api`, `grpc`, `web` and 9 more, no Ingress"), "{many}");
    let none = with(few(&[], 0), few(&[], 0));
    assert!(none.contains("no Service selects them"), "{none}");
    let unread = with(few(&["api"], 0), Part::Missing("not allowed: ingresses".into()));
    let says = "behind Service `api`; could not read the Ingresses before them (not allowed: ingresses)";
    assert!(unread.contains(says), "{unread}");
    let blind = with(Part::Missing("no answer in time".into()), Part::default());
    assert!(blind.contains("could not read the Services before them (no answer in time)"), "{blind}");
}

#[test]
fn what_waits_for_a_person_keeps_its_buttons_whatever_is_asked_after_it() {
    use ApprovalState::*;
    let all = [
        Proposed,
        Pending,
        Approved,
        Rejected,
        Expired,
        Withdrawn,
        Executing,
        Executed,
        Failed,
        OutcomeUnknown,
        Refused,
    ];
    let values = |card: &Card| serde_json::to_string(&super::card(card, &Options { now: at(8) }).blocks).unwrap();
    for (state, others) in all.into_iter().flat_map(|state| [(state, 1), (state, 4)]) {
        let mut card = asked(|_| {});
        let waits = card.approvals[0].clone();
        for nth in 0..others {
            let id = ApprovalId::fresh();
            let mut other = Approval { id, ..approval(state) };
            if nth % 2 == 1 {
                let namespace = ObjectRef::new(Kind::Deployment, Some("shop"), &format!("other-{nth}"));
                other.proposal = Proposal::RolloutRestart { object: namespace.unwrap() };
            }
            card.approvals.insert(0, other);
        }
        for how in [Ending::Presumed, Ending::Unlisted, Ending::ResolveNotSeen] {
            assert!(values(&card).contains(&format!("\"value\":\"{}\"", waits.id)), "{others} {state:?}: {how:?}");
            card.incident.state = IncidentState::Over { at: at(7), how };
        }
        assert!(values(&card).contains(waits.id.as_str()), "{others} {state:?}");
    }
}

#[test]
fn what_was_refused_hides_nothing_but_what_was_refused() {
    let mut card = asked(|approval| approval.state = ApprovalState::Expired);
    card.approvals.insert(0, Approval { id: ApprovalId::fresh(), action: None, ..approval(ApprovalState::Refused) });
    let text = render(&card);
    assert!(text.contains("[ Ask again ]") && text.contains("*No safe action*"), "{text}");
    card.approvals.insert(0, Approval { id: ApprovalId::fresh(), action: None, ..approval(ApprovalState::Refused) });
    assert_eq!(render(&card).matches("*No safe action*").count(), 1);
}

#[test]
fn no_button_leads_to_what_is_switched_off() {
    let mut better = executed(Verification::Better { at: at(9), ready: 4, wanted: 4 });
    assert!(render(&better).contains("[ Undo: back to revision 7 ]"));
    better.off = vec!["scale".into()];
    assert!(render(&better).contains("[ Undo: back to revision 7 ]"), "another tool is off");
    better.off.push("rollout_undo".into());
    assert!(!render(&better).contains("Undo:"));
    let mut expired = asked(|approval| approval.state = ApprovalState::Expired);
    assert!(render(&expired).contains("[ Ask again ]"));
    expired.off = vec!["rollout_undo".into()];
    assert!(!render(&expired).contains("Ask again"));
}
