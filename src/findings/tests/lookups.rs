//! Names that do not resolve: the name, the Service, or the DNS.

use super::*;

fn stands(world: &mut World, namespace: &str, name: &str, ready: u32) {
    let object = ObjectRef::new(Kind::Service, Some(namespace), name).unwrap();
    let at = world.stands(ScenePart::Network, Source::Object { object: object.clone() }, "{}");
    let Part::Known(services) = &mut world.scene.services else { panic!() };
    services.push(logged(object, &[("app", name)], ready, at));
}

const ABSENT: &str = "dial tcp: lookup ledger on 10.9.0.10:53: no such host";
const SILENT: &str = "dial tcp: lookup ledger on 10.9.0.10:53: read udp 10.1.0.2:999->10.9.0.10:53: i/o timeout";

#[test]
fn a_short_name_is_matched_with_its_service_in_another_namespace() {
    let mut world = ends_with(ABSENT);
    stands(&mut world, "books", "ledger", 2);
    let report = world.report();
    assert!(report.cause.as_str().contains("no Service of that name in shop, but in books"), "{}", report.cause);
    assert!(report.headline.as_str().ends_with("that Service is in books"), "{}", report.headline);
    assert_eq!(report.advice.unwrap().as_str(), "Call it ledger.books, if that is the one that is meant.");
}

#[test]
fn a_service_that_stands_is_not_said_to_be_missing() {
    let mut world = ends_with(ABSENT);
    stands(&mut world, "shop", "ledger", 2);
    let report = world.report();
    assert!(
        report.cause.as_str().contains("Yet Service shop/ledger stands, with 2 ready endpoints"),
        "{}",
        report.cause
    );
    assert!(!report.cause.as_str().contains("No Service"), "{}", report.cause);
    assert_eq!(report.certainty, Certainty::Possible);
}

#[test]
fn a_dns_that_does_not_answer_is_not_a_wrong_name() {
    for line in [SILENT, "Error: getaddrinfo EAI_AGAIN ledger", "lookup ledger on 10.9.0.10:53: server misbehaving"] {
        let mut world = ends_with(line);
        assert_eq!(world.causes(), ["dns-silent"], "{line}");
        let report = world.report();
        assert!(
            report.cause.as_str().starts_with("DNS did not answer when Deployment cart asked for ledger"),
            "{}",
            report.cause
        );
        assert!(!report.cause.as_str().contains("Service answers to that name"), "{}", report.cause);
        assert!(report.certainty <= Certainty::Likely);
        stands(&mut world, "kube-system", "kube-dns", 2);
        assert!(world.report().cause.as_str().contains("kube-dns has 2 ready endpoints"));
    }
}

#[test]
fn a_dns_without_endpoints_is_where_the_fault_lies() {
    let mut world = ends_with(SILENT);
    stands(&mut world, "kube-system", "kube-dns", 0);
    let report = world.report();
    assert_eq!(report.culprit.unwrap().to_string(), "Service kube-system/kube-dns");
    assert!(report.headline.as_str().contains("Service kube-dns has no ready endpoint"), "{}", report.headline);
}

#[test]
fn a_foreign_name_is_not_looked_for_among_the_services() {
    let mut world = ends_with("curl: (6) Could not resolve host: ledger.bank.example");
    stands(&mut world, "books", "ledger", 2);
    let cause = world.report().cause;
    assert!(cause.as_str().contains("cannot be seen from inside the cluster"), "{cause}");
}
