//! What the command says, against simulated clusters.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cli::model::ModelArgs;
use crate::model::Room;
use crate::sim::model::ScriptedModel;
use crate::sim::world::Scenario;

const PLAIN: Paint = Paint { colours: false, width: None };

/// What is said of an object (or, for an empty text, of the namespace) of a scenario, and how the command ends.
async fn look(scenario: &str, object: &str, namespace: Option<&str>) -> anyhow::Result<(String, u8)> {
    let (text, _, exit) = asked(scenario, object, namespace, None).await?;
    Ok((text, exit))
}

/// The same, and the reports, with this model.
async fn asked(
    scenario: &str,
    object: &str,
    namespace: Option<&str>,
    llm: Option<LlmOptions>,
) -> anyhow::Result<(String, serde_json::Value, u8)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = format!("{}/fixtures/scenarios/{scenario}", env!("CARGO_MANIFEST_DIR"));
    let named = (!object.is_empty()).then(|| named(object).unwrap());
    let args = LookArgs {
        object: None,
        namespace: namespace.map(str::to_owned),
        context: None,
        scenario: Some(folder),
        json: false,
        model: ModelArgs { model: "none".into(), model_name: "default".into(), turn_timeout: Duration::ZERO },
    };
    let place = Place::find(&args, named, llm).await?;
    let sight = place.look(named).await?;
    let report = place.json(&sight);
    let mut objects = report["objects"].as_array().unwrap().iter();
    assert!(objects.all(|object| object["report"]["headline"].is_string()), "{report}");
    Ok((place.text(&sight, PLAIN), report, sight.exit()))
}

#[tokio::test]
async fn a_namespace_shows_what_is_in_trouble_and_names_the_rest() {
    let (text, exit) = look("bad-image-rollout", "", None).await.unwrap();
    assert!(text.starts_with("🟠 checkout in shop is stuck at revision 7"), "{text}");
    assert!(text.contains("kubectl rollout undo deployment/checkout -n shop --to-revision=6"), "{text}");
    assert!(text.ends_with("shop: 1 object in trouble, 2 workloads healthy (cart, storefront), 9 pods\n"), "{text}");
    assert!(!text.contains("thread") && !text.contains("audit") && !text.contains("[ "), "{text}");
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
fn what_to_do_about_a_failed_read_follows_its_kind_and_not_its_words() {
    let of = |error: ReadError| remedy(&error, "https://api.example");
    assert!(of(ReadError::Forbidden("pods is forbidden".into())).contains("kubectl auth can-i"));
    assert!(of(ReadError::TimedOut).contains("https://api.example: is it up"));
    assert!(of(ReadError::Unreachable("nobody is there".into())).contains("is a VPN needed"));
    assert_eq!(of(ReadError::Unavailable("not allowed: etcd is down".into())), "");
    assert_eq!(of(ReadError::Refused("the API server cannot be reached".into())), "");
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

/// A server of this address.
fn server(address: impl std::fmt::Display) -> Option<LlmOptions> {
    Some(LlmOptions {
        base_url: format!("http://{address}/v1"),
        model: "scripted".into(),
        api_key: Some("key-of-the-models-server".to_owned().into()),
        turn_timeout: Duration::from_secs(10),
        room: Room::default(),
    })
}

/// A scenario's own model with these answers changed, and where it is served for the rest of the test.
async fn model(scenario: &str, change: impl Fn(&mut Scenario)) -> (ScriptedModel, Option<LlmOptions>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(scenario);
    let mut scenario = Scenario::from_folder(&folder).unwrap();
    change(&mut scenario);
    let model = ScriptedModel::from_files(&scenario.files).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let llm = server(listener.local_addr().unwrap());
    tokio::spawn(crate::http::serve(listener, model.router(), CancellationToken::new()));
    (model, llm)
}

#[tokio::test]
async fn a_model_that_is_asked_has_its_report_on_the_card() {
    let (model, llm) = model("bad-image-rollout", |_| {}).await;
    let (text, report, exit) = asked("bad-image-rollout", "", None, llm).await.unwrap();
    assert!(text.contains("revision 7 asks for image tag v2.4.0, which the registry does not have"), "{text}");
    assert!(text.contains("Roll back: kubectl rollout undo deployment/checkout -n shop --to-revision=6"), "{text}");
    assert!(!text.contains("thread") && !text.contains("audit") && !text.contains("[ "), "{text}");
    assert_eq!(exit, 3);
    let object = &report["objects"][0];
    assert_eq!((&object["report"]["origin"], &object["investigation"]["state"]), (&"model".into(), &"done".into()));
    let requests = model.requests();
    let first = requests[0].body.to_string();
    assert!(first.contains("checkout:v2.4.0") && first.contains("submit_report"), "{first}");
    assert_eq!(model.missing(), Vec::<String>::new());
    assert!(requests.iter().all(|request| request.incident == 1), "one incident is asked about");
}

#[tokio::test]
async fn a_model_is_asked_about_the_worst_alone_and_of_nothing_that_is_well() {
    let (model, llm) = model("two-faults-one-namespace", |_| {}).await;
    let (_, report, _) = asked("two-faults-one-namespace", "", None, llm.clone()).await.unwrap();
    let objects = report["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "{report}");
    assert!(objects[0]["investigation"].is_object() && objects[1]["investigation"].is_null(), "{report}");
    let requests = model.requests().len();
    assert!(requests > 0);
    let (_, report, exit) = asked("stale-alert-recovered", "", None, llm).await.unwrap();
    assert_eq!((exit, model.requests().len()), (0, requests), "{report}");
}

#[tokio::test]
async fn a_step_that_the_gate_refuses_stands_on_no_card() {
    let (_, llm) = model("bad-image-rollout", |scenario| {
        for (path, bytes) in scenario.files.iter_mut().filter(|(path, _)| path.starts_with("model/")) {
            let mut answer: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let call = answer["tool_calls"].as_array_mut().into_iter().flatten().find(|c| c["name"] == "submit_report");
            let Some(call) = call else { continue };
            let proposals = call["arguments"]["proposals"].as_array_mut().unwrap();
            assert_eq!(proposals.len(), 1, "{path}");
            // Healthy, and no part of this.
            let text = proposals[0].to_string().replace("checkout", "cart");
            proposals[0] = serde_json::from_str(&text).unwrap();
            *bytes = answer.to_string().into_bytes();
        }
    })
    .await;
    let (text, report, _) = asked("bad-image-rollout", "", None, llm).await.unwrap();
    assert_eq!(report["objects"][0]["report"]["origin"], "model", "{report}");
    assert!(
        !text.contains("deployment/cart") && report["objects"][0]["report"]["proposals"] == serde_json::json!([]),
        "{text}"
    );
}

#[tokio::test]
async fn without_an_answer_the_card_is_that_of_the_rules_and_says_why() {
    let (rules, _, without) = asked("bad-image-rollout", "deploy/checkout", None, None).await.unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (text, report, exit) = asked("bad-image-rollout", "deploy/checkout", None, server(nobody)).await.unwrap();
    let (said, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("No model answer ("));
    assert_eq!((rest, exit), (rules.lines().collect(), without), "{text}");
    assert_eq!(said.len(), 1, "{text}");
    assert!(report["objects"][0]["investigation"]["state"]["failed"]["why"].is_string(), "{report}");
}

#[test]
fn the_answers_of_a_folder_are_no_model_of_ones_own_cluster() {
    assert!(llm(Mind::Scripted).unwrap_err().contains("eval alone"));
    assert!(llm(Mind::None).unwrap().is_none());
}
