use super::*;

const ISSUER: &str =
    "[[access.issuers]]\nname = \"corp\"\nissuer = \"https://login.example.com\"\naudience = \"srm\"\n";

#[test]
fn administration_of_some_packages_is_refused() {
    let rule =
        |packages: &str, admin: &str| format!("[[access.rules]]\npackages = [\"{packages}\"]\nadmin = [{admin}]\n");
    let text = |some: &str| {
        let whole = "\"token:ops\", \"token:ci\"";
        format!("[access]\nenabled = true\n{}{}", rule("acme/*", some), rule("*", whole))
    };
    for some in ["", "\"token:ops\"", "\"*\"", "\"token:ops\", \"token:ci\", \"token:anna\""] {
        let error = error_of(&text(some), &[]);
        assert!(error.contains("].admin") && error.contains("administration is of the whole mirror"), "{error}");
    }
    assert!(loaded(&text("\"token:ci\", \"token:ops\""), &[]).is_ok());
}

#[test]
fn an_issuer_that_cannot_be_used_is_reported_with_its_table_key_and_line() {
    let rule = |read: &str| format!("[[access.rules]]\npackages = [\"*\"]\nread = [\"{read}\"]\n");
    let enabled = "[access]\nenabled = true\n";
    let with_algorithm = |name: &str| format!("{enabled}{ISSUER}algorithms = [\"{name}\"]\n");
    for (text, parts) in [
        (with_algorithm("none"), ["access.issuers[1].algorithms", "mirror.toml:3"]),
        (with_algorithm("HS256"), ["access.issuers[1].algorithms", "RS256"]),
        (format!("{enabled}{ISSUER}algoritms = []\n"), ["access.issuers[1].algoritms", "did you mean algorithms"]),
        (format!("{enabled}{ISSUER}jwks_url = 1\n"), ["access.issuers[1].jwks_url", "must be a string"]),
        (format!("{enabled}{ISSUER}").replace("https:", "http:"), ["access.issuers[1].issuer", "must be https"]),
        (format!("{enabled}{ISSUER}{ISSUER}"), ["access.issuers[2].name", "another [[access.issuers]]"]),
        (format!("{enabled}[[access.issuers]]\nname = \"corp\"\n"), ["access.issuers[1].issuer", "must be https"]),
        (ISSUER.to_owned(), ["access.issuers", "has no effect without enabled = true"]),
        (format!("{enabled}{}", rule("oidc:corp:anna")), ["access.rules[1].read", "no issuer is called so"]),
        (format!("{enabled}{ISSUER}{}", rule("group:corp:dev")), ["access.rules[1].read", "no groups_claim"]),
    ] {
        let error = error_of(&text, &[]);
        assert!(parts.iter().all(|part| error.contains(part)), "{text}\n{error}");
    }
    let text = format!("{enabled}{ISSUER}groups_claim = \"groups\"\n{}{}", rule("group:corp:dev"), rule("oidc:corp:*"));
    assert_eq!(loaded(&text, &[]).expect("valid").config.access.issuers[0].algorithms, ["RS256"]);
}
