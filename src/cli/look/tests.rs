//! What the command says, against simulated clusters.

use super::*;

const PLAIN: Paint = Paint { colours: false, width: None };

/// What is said of an object (or, for an empty text, of the namespace) of a scenario, and how the command ends.
async fn look(scenario: &str, object: &str, namespace: Option<&str>) -> anyhow::Result<(String, u8)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = format!("{}/fixtures/scenarios/{scenario}", env!("CARGO_MANIFEST_DIR"));
    let named = (!object.is_empty()).then(|| named(object).unwrap());
    let args = LookArgs {
        object: None,
        namespace: namespace.map(str::to_owned),
        context: None,
        scenario: Some(folder),
        json: false,
    };
    let place = Place::find(&args, named).await?;
    let sight = place.look(named).await?;
    let report = &place.json(&sight)["objects"];
    assert!(report.as_array().unwrap().iter().all(|object| object["report"]["headline"].is_string()), "{report}");
    Ok((place.text(&sight, PLAIN), sight.exit()))
}

#[tokio::test]
async fn a_namespace_shows_what_is_in_trouble_and_names_the_rest() {
    let (text, exit) = look("bad-image-rollout", "", None).await.unwrap();
    assert!(text.starts_with("🟠 checkout in shop is stuck at revision 7"), "{text}");
    assert!(text.contains("kubectl rollout undo deployment/checkout -n shop --to-revision=6"), "{text}");
    assert!(text.ends_with("shop: 1 object in trouble, 2 workloads healthy (cart, storefront), 9 pods\n"), "{text}");
    assert!(!text.contains("thread") && !text.contains("audit"), "{text}");
    assert_eq!(exit, 3);
}

#[tokio::test]
async fn two_faults_are_two_cards_worst_first() {
    let (text, _) = look("two-faults-one-namespace", "", None).await.unwrap();
    let (worse, better) = (text.find("🟠 geo-fence").unwrap(), text.find("🟡 trip-report").unwrap());
    assert!(worse < better, "{text}");
}

#[tokio::test]
async fn what_a_lost_node_took_along_stands_on_its_card() {
    let (text, exit) = look("d06-node-lost-kubelet", "", None).await.unwrap();
    assert!(text.starts_with("🔴 Node tide-eu-west-w2 is not ready"), "{text}");
    assert!(text.contains("Hit by it") && text.contains("Deployment parcels/track-api"), "{text}");
    assert_eq!(text.matches("What changed").count(), 1, "one fault, one card: {text}");
    assert_eq!(exit, 3);
}

#[tokio::test]
async fn what_is_healthy_is_said_in_one_line() {
    let (text, exit) = look("stale-alert-recovered", "", None).await.unwrap();
    assert_eq!((text.as_str(), exit), ("✅ mailing is healthy: 1 workload (mail-fanout), 3 pods\n", 0));
    let (text, exit) = look("bad-image-rollout", "deploy/cart", None).await.unwrap();
    assert!(text.starts_with("✅ cart in shop is healthy (2 of 2 pods ready)"), "{text}");
    assert!(!text.contains("Cause") && !text.contains("since"), "{text}");
    assert_eq!(exit, 0);
}

#[tokio::test]
async fn a_pod_leads_to_what_made_it() {
    let (text, _) = look("oom-loop", "po/pricing-z5w6whvwm-8k95p", None).await.unwrap();
    assert!(text.starts_with("🔴 pricing in shop is down") && text.contains("Deployment shop/pricing"), "{text}");
}

#[tokio::test]
async fn a_name_that_is_not_there_is_answered_with_near_ones_and_never_replaced() {
    let error = look("bad-image-rollout", "deploy/chekout", None).await.unwrap_err().to_string();
    assert_eq!(error, "Deployment shop/chekout does not exist; there is Deployment shop/checkout");
    let error = look("bad-image-rollout", "", Some("shap")).await.unwrap_err().to_string();
    assert_eq!(error, "Namespace shap does not exist; there is Namespace shop");
    assert!(named("checkout").unwrap_err().contains("deployment/checkout"));
    assert!(named("secret/x").unwrap_err().contains("no kind that firstlook looks at"));
}

#[test]
fn colours_and_breaks_are_for_terminals() {
    let card = "🔴 a is down\ncluster `c`\n*Proof*  `not found` (event)\nmore";
    let plain = PLAIN.card(card);
    assert_eq!(plain, "🔴 a is down\n   cluster c\n   Proof           `not found` (event)\n                   more\n");
    let painted = Paint { colours: true, width: Some(40) }.card(card);
    assert!(painted.contains("\x1b[36mnot found\x1b[0m") && painted.contains("\x1b[1mProof\x1b[0m"), "{painted}");
}

#[tokio::test]
async fn claims_and_autoscalers_are_looked_at_with_the_rest() {
    let (text, exit) = look("pvc-storage-class-missing", "", None).await.unwrap();
    assert!(text.contains("PersistentVolumeClaim") && exit == 3, "{text}");
    let (text, exit) = look("hpa-at-maximum", "", None).await.unwrap();
    assert!(text.contains("autoscaler at its maximum") && exit == 3, "{text}");
}
