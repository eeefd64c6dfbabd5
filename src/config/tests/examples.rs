//! Examples in errors: each has one, its own or that of the key.

use super::*;
use crate::{
    access::RuleErrorReason,
    dialect::{AliasError, HostedNameError, RouteConfigError},
    package::{FolderPathError, PatternError, VersionedPattern},
};

#[test]
fn an_error_of_a_value_has_one_example() {
    for text in [
        "disk.limit = \"50 parsecs\"",
        "disk.scrub = \"soon\"",
        "server.trusted_proxies = [\"10.0.0.0/33\"]",
        "server.public_url = \"mirror\"",
        "server.listen = [\":8080\"]",
        "server.listen = [\"localhost\"]",
        "server.tls.listen = [\"443\"]",
        "server.max_connections = \"many\"",
        "packages.private = \"show\"",
        "packages.deny = [\"a/b@\"]",
        "upstreams.github.moving = [\"a b\"]",
        "upstreams.github.address = \"1.2.3.4\"",
        "log.level = \"inof\"",
        "names.aliases.x = \"a/y///z\"",
        "names.aliases.x = \"y\"",
        "access.metrics = [\"me\"]",
        "[access.groups]\ndev = [\"group:x\"]",
        "[[routes]]\npackages = \"a b\"\nupstreams = []",
        "[[routes]]\npackages = \"fc*\"\nupstreams = [\"github\"]",
    ] {
        let message = error_of(text, &[]);
        assert_eq!(message.matches("for example").count(), 1, "{message}");
    }
}

#[test]
fn an_error_knows_whether_it_has_an_example() {
    let has = |text: String| text.contains("for example");
    use HostedNameError as Hosted;
    for error in [Hosted::Pattern, Hosted::Name, Hosted::Alias, Hosted::Form, Hosted::Reserved] {
        assert_eq!(error.has_example(), has(error.to_string()), "{error}");
    }
    let names = Config::default().names().expect("valid");
    let name_error = names.parse_package("a b").expect_err("no name");
    for error in [
        AliasError::Unreachable("v3".into()),
        AliasError::Duplicate,
        AliasError::Package(name_error),
        AliasError::FolderPath(FolderPathError::Empty),
        AliasError::FolderOfRegistry("official".into()),
        AliasError::FolderWithOwner,
    ] {
        assert_eq!(error.has_example(), has(error.to_string()), "{error}");
    }
    for error in [
        RouteConfigError::Pattern(PatternError),
        RouteConfigError::PatternWithUpstream,
        RouteConfigError::UnknownUpstream("x".into()),
        RouteConfigError::OtherForm { upstream: "github".into(), form: "name", hint: "" },
        RouteConfigError::RepeatedUpstream("github".into()),
        RouteConfigError::Repeated(1),
    ] {
        assert_eq!(error.has_example(), has(error.to_string()), "{error}");
    }
    use RuleErrorReason as Rule;
    for error in [
        Rule::Pattern(PatternError),
        Rule::UnknownGroup,
        Rule::NestedGroup,
        Rule::NoPackages,
        Rule::NoRights,
        Rule::AdminOfSome,
        Rule::UnknownIssuer,
        Rule::IssuerWithoutGroups,
        Rule::IssuerName,
        Rule::IssuerUrl,
        Rule::NoAudience,
        Rule::IssuerAlgorithm,
        Rule::RepeatedIssuer,
        Rule::NoGroupsClaim,
    ] {
        assert_eq!(error.has_example(), has(error.to_string()), "{error}");
    }
    for text in ["", "a/b@"] {
        assert!(has(text.parse::<VersionedPattern>().expect_err(text).to_string()));
    }
}
