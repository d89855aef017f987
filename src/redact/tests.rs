//! Nothing of a secret gets through, whatever it stands in; what is none stays as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, gone: &str) {
    let clean = Redactor::default().redact(text);
    assert!(!clean.as_str().contains(gone), "{clean}");
    assert_eq!(Redactor::default().redact(clean.as_str()), clean, "redacting twice changes nothing");
}

#[test]
fn secrets_of_every_shape_are_replaced() {
    check("-----BEGIN RSA PRIVATE KEY-----\\nMIIabc\\n-----END RSA PRIVATE KEY-----", "MIIabc");
    check("key: -----BEGIN PRIVATE KEY-----\nMIIabcdef cut off", "MIIabcdef");
    check("authorization: Bearer abcdefgh12345678", "abcdefgh12345678");
    check("dial postgres://app:hunter22@db:5432/app failed", "hunter22");
    check("DB_PASSWORD=hunter22 starting", "hunter22");
    check(r#"{"command": "password=hunter22"}"#, "hunter22");
    check("args: --db-url=host:5432 --opts=user:app,password:hunter22", "hunter22");
    check(r#"{"apiKey": "k-3f9a88"}"#, "k-3f9a88");
    check(r#"{\"password\":\"hunter22\"}"#, "hunter22");
    check("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", "eyJzdWIi");
    check("xoxb-1234567890-abcdefgh", "1234567890");
    check("7xBEM1m9hD2ZDvr42rqf0WOz6mzaqTzP6HQQ3sk1GJ5MNQMB5i1nSppGn6M9lJ5G", "7xBEM1m9");
    check("password: |\n  hunter22\nuser: a", "hunter22");
    check("<password>hunter22</password>", "hunter22");
    check("X-Api-Key: hunter22", "hunter22");
    check("Cookie: session=hunter22; theme=dark", "hunter22");
    check("ALTER ROLE app PASSWORD 'hunter22'", "hunter22");
}

#[test]
fn what_is_no_secret_stays_readable() {
    for text in [
        "secretName: checkout-tls",
        r#"MountVolume.SetUp failed for volume "certs" : secret "checkout-tls" not found"#,
        "sha256:9b2cf54b3a1c6b1e0e1de7d2d3a5a0c4f7a9f0aa1b2c3d4e5f60718293a4b5c6",
        "tokenExpirationSeconds: 3607",
        "/var/log/pods/kube-system_coredns-674b8bbfcf-x2lkq_0f1e2d3c/coredns/0.log",
        "image: registry.example/fleet/dispatch-api:4.17.3",
        "failed to refresh token: context deadline exceeded",
        "cannot verify token: signature is invalid",
        "basic authentication failed for user checkout",
        "bearer token required",
        "unexpected status from GET request to https://reg.example/token: 401 Unauthorized",
        "may require authorization: server message: insufficient_scope: authorization failed",
        "- name: auth-token\n  image: web",
        "error: flag --password is missing",
        "topologyKey: kubernetes.io/hostname partition_key=customer-orders-eu-west",
        "monkey=Gorilla17Banana4Tree sort_key=createdAtTimestamp tls_key=/etc/Tls1/Server/private",
        "- key: node-role.kubernetes.io/control-plane\n  operator: Exists",
        "max_tokens: 500 total_tokens=9140",
        "12 pass: 10 fail: 2, PWD=/app",
        "git clone ssh://git@github.example/shop/checkout",
        "env DB_PASSWORD=$(DB_PASSWORD) from secretKeyRef",
        "at com.example.shop.checkout.IllegalStateExceptionTranslator.translate(IllegalStateExceptionTranslator.java:41)",
        "connect to http://host.example:8080/path?email=a@b.example",
    ] {
        assert_eq!(Redactor::default().redact(text).as_str(), text);
    }
}

#[test]
fn only_what_was_stored_is_rebuilt_without_the_rules() {
    let written = r#""password=hunter22""#;
    let read = || serde_json::from_str::<Redacted>(written).unwrap();
    assert_eq!(as_stored(read).as_str(), "password=hunter22");
    assert!(!read().as_str().contains("hunter22"), "outside of it the rules stand");
}

#[test]
fn two_secrets_can_be_told_apart_and_own_secrets_go_whatever_they_look_like() {
    let redactor = Redactor::new(["plainwords".to_owned(), "a+b/c \"d\"e".to_owned()]);
    assert_eq!(redactor.redact("a plainwords b").as_str(), "a [redacted secret 0c8a] b");
    let twice = redactor.redact("password=first1 password=second2 password=first1");
    let masks: Vec<_> = twice.as_str().split(' ').map(|part| part.trim_start_matches("password=")).collect();
    assert_eq!(masks[..3], masks[6..]);
    assert_ne!(masks[2], masks[5]);
    for form in ["?key=a%2Bb%2Fc%20%22d%22e", r#"{"x": "a+b/c \"d\"e"}"#, &STANDARD.encode("login user:plainwords now")]
    {
        let clean = redactor.redact(form);
        assert!(clean.as_str().contains("[redacted secret"), "{clean}");
    }
}

/// A secret of people or of machines, with what may stand in one; never a word alone.
fn secret() -> impl Strategy<Value = String> {
    ("[A-Za-z0-9._~+!@#%^*-]{7,39}", "[0-9]", "[A-Za-z]")
        .prop_map(|(most, digit, letter)| format!("{letter}{most}{digit}"))
}

/// Letters and digits, as machines make them.
fn opaque(least: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::char::ranges(vec!['a'..='z', 'A'..='Z', '0'..='9'].into()), least..least + 24)
        .prop_map(|chars| format!("{}7", chars.into_iter().collect::<String>()))
}

const KEYS: [&str; 23] = [
    "DB_PASSWORD",
    "password",
    "apiKey",
    "API_KEY",
    "client_secret",
    "AWS_SECRET_ACCESS_KEY",
    "token",
    "auth-token",
    "DB_PASS",
    "redisPwd",
    "spring.datasource.password",
    "private_key",
    "AccountKey",
    "credentials",
    "jwt_signing_key",
    "passphrase",
    "MASTER_KEY",
    "sessionKey",
    "HMAC_KEY",
    "shared_key",
    "SSH_KEY",
    "LICENSE_KEY",
    "COOKIE_SALT",
];

/// Keys under which names stand as well as secrets.
const WEAK_KEYS: [&str; 6] = ["DATA_KEY", "cipherKey", "service.key", "sig", "X-Amz-Signature", "hashSalt"];

/// A secret, and a text in which it stands.
fn planted() -> impl Strategy<Value = (String, String)> {
    let key = || prop::sample::select(&KEYS[..]);
    let pair = prop::sample::select(
        &[
            "{k}={s}",
            "{k}: {s}",
            "{k}={s} user=app",
            "{k}=\"{s}\"",
            "{k}: '{s}'",
            "{\"{k}\":\"{s}\"}",
            "{\"{k}\": \"{s}\", \"user\": \"app\"}",
            "msg=\"started with {k}={s}\" level=info",
            r#"{\"{k}\":\"{s}\",\"a\":\"b\"}"#,
            r#"{"m":"{\\\"{k}\\\": \\\"{s}\\\"}"}"#,
            "{\"name\": \"{k}\", \"value\": \"{s}\"}",
            "- name: {k}\n  value: {s}\n",
            "{Name:{k} Value:{s} ValueFrom:nil}",
            "run --{k}={s} --port=80",
            "run --{k} {s} --port 80",
            "[\"run\", \"--{k}\", \"{s}\"]",
            "map[{k}:{s} user:app]",
            "{k} => {s}",
            "<{k}>{s}</{k}>",
            "host=db user=app {k}={s} sslmode=disable",
            "jdbc:postgresql://db/app?user=app&{k}={s}&ssl=true",
            "Server=db;User=app;{k}={s};Encrypt=true",
        ][..],
    );
    let whole = prop::sample::select(
        &[
            "Authorization: Bearer {s}",
            "curl -H 'Authorization: Bearer {s}' http://api",
            "GET / HTTP/1.1\\r\\nauthorization: token {s}\\r\\n",
            "postgres://app:{s}@db:5432/app",
            "redis://:{s}@cache:6379/0",
            "mongodb+srv://app:{s}@cluster.example/app?w=1",
            "app:{s}@tcp(db:3306)/shop",
            "https://app:{s}@registry.example/v2/",
            "Authorization: ApiKey {s}",
            "X-Auth-Token: {s}",
            "-----BEGIN PRIVATE KEY-----\n{s}\n-----END PRIVATE KEY-----",
            "-----BEGIN OPENSSH PRIVATE KEY-----\\n{s}\\n-----END OPENSSH PRIVATE KEY-----",
            "xoxb-123456789-{s}",
            "ghp_{s}abcdefghijklmnopqrst",
            "flk_{s}abcdefghijklmnopqrst",
            "glpat-{s}abcdefghijkl",
            "sk-{s}abcdefghijkl",
            "sk_live_{s}abcdefghijkl",
            "hvs.{s}abcdefghijklmnop",
            "npm_{s}abcdefghijklmnopqrstuvwxyz0123",
            "eyJhbGciOiJIUzI1NiJ9.{s}.{s}",
            "{\"auths\":{\"r.example\":{\"username\":\"app\",\"password\":\"{s}\"}}}",
        ][..],
    );
    let of_pair =
        (key(), pair, secret()).prop_map(|(key, shape, s)| (s.clone(), shape.replace("{k}", key).replace("{s}", &s)));
    let of_shape = (whole, opaque(10)).prop_map(|(shape, s)| (s.clone(), shape.replace("{s}", &s)));
    prop_oneof![3 => of_pair, 2 => of_shape]
}

/// What logs and objects are made of.
fn ordinary() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(
            &[
                "level=info",
                "msg=\"request done\"",
                "GET",
                "/api/v1/items/17",
                "200",
                "14ms",
                "shop/checkout-7f9c8d-x2lkq",
                "10.0.0.7:8080",
                "Deployment",
                "restarted",
                "node",
                "ip-10-0-3-7.ec2.internal",
                "image:",
                "registry.example/shop/checkout:2.4.0",
                "v1.34.2",
                "reason=BackOff",
                "2026-03-24T16:20:00Z",
                "java.lang.NullPointerException",
                "\tat shop.Cart.add(Cart.java:41)",
                "{\"level\":\"warn\"}",
                "usage: 83%",
                "sha256:9b2cf54b3a1c6b1e0e1de7d2d3a5a0c4f7a9f0aa1b2c3d4e5f60718293a4b5c6",
                "550e8400-e29b-41d4-a716-446655440000",
                "connection",
                "refused",
                "http://orders.shop.svc.cluster.local:8080/health",
                "checkout@shop.example",
                "errors=0",
                "(exit 137)",
                "0x7ffd5e8c",
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-z]{1,12}",
        "[0-9]{1,9}",
    ];
    prop::collection::vec(word, 1..12).prop_map(|words| words.join(" "))
}

/// Whether eight characters of the secret in a row are still there.
fn survives(secret: &str, clean: &str) -> bool {
    let chars: Vec<char> = secret.chars().collect();
    chars.windows(8).any(|window| clean.contains(&window.iter().collect::<String>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn nothing_of_a_planted_secret_survives((secret, text) in planted(), before in ordinary(), after in ordinary()) {
        let whole = format!("{before} {text} {after}");
        let clean = Redactor::default().redact(&whole);
        prop_assert!(!survives(&secret, clean.as_str()), "{} of {}", clean, whole);
        prop_assert_eq!(Redactor::default().redact(&whole), clean.clone(), "a placeholder is stable");
        prop_assert_eq!(&Redactor::default().redact(clean.as_str()), &clean, "redacting twice changes nothing");
    }

    #[test]
    fn nor_of_its_base64((secret, text) in planted(), before in ordinary()) {
        let coded = STANDARD.encode(&text);
        let clean = Redactor::default().redact(&format!("{before} data: {coded} end"));
        prop_assert!(!survives(&coded, clean.as_str()), "{} with {} of {}", clean, secret, text);
    }

    #[test]
    fn values_of_secret_keys_are_masked_whole(key in prop::sample::select(&KEYS[..]), secret in ".{8,60}") {
        let clean = Redactor::default().redact_value(key, &secret);
        prop_assert!(clean.as_str().starts_with("[redacted value ") && clean.as_str().len() == 21, "{}", clean);
    }

    #[test]
    fn what_a_machine_made_is_masked_under_any_key(key in prop::sample::select(&WEAK_KEYS[..]), hex in "[0-9a-f]{31}7", mixed in opaque(18)) {
        for secret in [hex, format!("aB{mixed}")] {
            for shape in ["{k}={s}", "{k}: {s}", "https://a.example/b?se=1&{k}={s}&sv=2", "{\"name\": \"{k}\", \"value\": \"{s}\"}"] {
                let text = shape.replace("{k}", key).replace("{s}", &secret);
                let clean = Redactor::default().redact(&text);
                prop_assert!(!survives(&secret, clean.as_str()), "{} of {}", clean, text);
            }
            prop_assert!(Redactor::default().redact_value(key, &secret).as_str().starts_with("[redacted value "));
        }
    }

    #[test]
    fn ordinary_text_is_unchanged(text in ordinary()) {
        let clean = Redactor::default().redact(&text);
        prop_assert_eq!(clean.as_str(), text);
    }
}
