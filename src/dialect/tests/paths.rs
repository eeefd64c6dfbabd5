use super::*;

#[test]
fn srm_paths_are_parsed_by_the_four_rules() {
    check(
        &usual(),
        &[
            // owner/repo, rule 3.
            ("/devsapp/fc3/releases", "srm github:devsapp/fc3 releases"),
            ("/DevsApp/FC3/releases", "srm github:DevsApp/FC3 releases"),
            ("/devsapp/fc3/releases/latest", "srm github:devsapp/fc3 latest"),
            ("/devsapp/fc3/releases/tags/1.0.0", "srm github:devsapp/fc3 tag Name(\"1.0.0\")"),
            ("/devsapp/fc3/zipball/1.0.0", "srm github:devsapp/fc3 zip Name(\"1.0.0\")"),
            ("/devsapp/fc3/flat/v1.0.0", "srm github:devsapp/fc3 flat Name(\"v1.0.0\")"),
            ("/devsapp/fc3/metadata", "srm github:devsapp/fc3 metadata None"),
            ("/devsapp/fc3/metadata/1.0.0", "srm github:devsapp/fc3 metadata Some(Name(\"1.0.0\"))"),
            ("HEAD /devsapp/fc3/zipball/1.0.0", "srm github:devsapp/fc3 zip Name(\"1.0.0\")"),
            // The rest of the path is the version.
            ("/o/r/zipball", "srm github:o/r zip DefaultBranch"),
            ("/o/r/zipball/a/b", "srm github:o/r zip Name(\"a/b\")"),
            ("/o/r/zipball/a%2Fb", "srm github:o/r zip Name(\"a/b\")"),
            ("/o/r/zipball/a%2fb/c", "srm github:o/r zip Name(\"a/b/c\")"),
            ("/o/r/zipball/refs/tags/v1", "srm github:o/r zip Tag(\"v1\")"),
            ("/o/r/zipball/refs%2Ftags%2Fv1", "srm github:o/r zip Tag(\"v1\")"),
            ("/o/r/zipball/refs/heads/main", "srm github:o/r zip Branch(\"main\")"),
            ("/o/r/zipball/latest", "srm github:o/r zip Name(\"latest\")"),
            ("/o/r/zipball/1.0.0%2Bbuild", "srm github:o/r zip Name(\"1.0.0+build\")"),
            ("/o/r/zipball/1.0.0+build", "srm github:o/r zip Name(\"1.0.0+build\")"),
            ("/o/r/zipball/100%25", "srm github:o/r zip Name(\"100%\")"),
            ("/o/r/releases/tags/releases/1.0.0", "srm github:o/r tag Name(\"releases/1.0.0\")"),
            (
                "/o/r/zipball/12b27abb78e04142adfbdc4aa7fa9571ff05d67B",
                "srm github:o/r zip Commit(\"12b27abb78e04142adfbdc4aa7fa9571ff05d67b\")",
            ),
            ("/o/r/zipball/%E5%88%9D", "srm github:o/r zip Name(\"初\")"),
            // Aliases, rule 2; owner/name aliases; plain names, rule 4.
            ("/fc3/releases", "srm github:devsapp/fc3 releases"),
            ("/FC3/releases/latest", "srm github:devsapp/fc3 latest"),
            ("/start/zipball/0.0.1", "srm gitee:devsapp/start-fc3 zip Name(\"0.0.1\")"),
            ("/fc3/zipball/releases", "srm github:devsapp/fc3 zip Name(\"releases\")"),
            ("/fc3/releases/zipball", "srm 404"),
            ("/devsapp/core/zipball/0.1.66", "srm github:Serverless-Devs/core zip Name(\"0.1.66\")"),
            ("/DEVSAPP/CORE/releases", "srm github:Serverless-Devs/core releases"),
            ("/fc/releases/latest", "srm github:devsapp/fc latest"),
            ("/core/releases", "srm github:Serverless-Devs/core releases"),
            // Rule 3 precedes rule 4.
            ("/fc/releases/releases", "srm github:fc/releases releases"),
            ("/o/zipball/zipball/1", "srm github:o/zipball zip Name(\"1\")"),
            // Upstreams, rule 1: no aliases, always owner/repo.
            ("/gitee/devsapp/fc3/releases", "srm gitee:devsapp/fc3 releases"),
            ("/github/simple/fc3/releases", "srm github:simple/fc3 releases"),
            ("/github/github/hub/zipball/v1", "srm github:github/hub zip Name(\"v1\")"),
            ("/github/devsapp/core/releases", "srm github:devsapp/core releases"),
            ("/github/fc3/releases", "srm 404"),
            ("/gitee/fc3/releases/latest", "srm 404"),
            ("/github/hub/releases", "srm 404"),
            ("/Gitee/x/releases", "srm github:Gitee/x releases"),
            // Queries.
            ("/o/r/releases?per_page=5", "srm github:o/r releases 1x5"),
            ("/o/r/releases?page=2", "srm github:o/r releases 2x30"),
            ("/o/r/releases?x=1&page=2&per_page=%31%30%30", "srm github:o/r releases 2x100"),
            ("/o/r/releases?", "srm github:o/r releases"),
            ("/o/r/releases?sort=asc", "srm github:o/r releases"),
            ("/o/r/releases/latest?page=x", "srm github:o/r latest"),
            ("/o/r/releases?per_page=0", "srm 400"),
            ("/o/r/releases?per_page=101", "srm 400"),
            ("/o/r/releases?page=0", "srm 400"),
            ("/o/r/releases?page=-1", "srm 400"),
            ("/o/r/releases?page=+1", "srm 400"),
            ("/o/r/releases?page=%2B1", "srm 400"),
            ("/o/r/releases?page=99999999999", "srm 400"),
            ("/o/r/releases?page=", "srm 400"),
        ],
    );
}

#[test]
fn malformed_path_is_400_and_unknown_path_is_404() {
    check(
        &usual(),
        &[
            ("/", "srm 404"),
            ("//", "srm 404"),
            ("*", "srm 404"),
            ("/fc3", "srm 404"),
            ("/favicon.ico", "srm 404"),
            ("/o/r", "srm 404"),
            ("/o/r/issues", "srm 404"),
            ("/o/r/Releases", "srm 404"),
            ("/o/r/releases/1", "srm 404"),
            ("/o/r/releases/latest/x", "srm 404"),
            ("/o/r/releases/tags", "srm 400"),
            ("/o/r/flat", "srm 400"),
            // Slashes.
            ("//o/r/releases", "srm github:o/r releases"),
            ("///o/r/releases", "srm 400"),
            ("/o//r/releases", "srm 400"),
            ("/o/r/releases/", "srm 400"),
            ("/o/r/zipball/", "srm 400"),
            ("/o/r/zipball/1.0.0/", "srm 400"),
            ("/o/r/zipball/a//b", "srm 400"),
            ("/o/r/zipball/a%2F%2Fb", "srm 400"),
            // Dots.
            ("/o/r/zipball/..", "srm 400"),
            ("/o/r/zipball/%2e%2e", "srm 400"),
            ("/o/r/zipball/%2E./x", "srm 400"),
            ("/o/r/zipball/a%2F..%2Fb", "srm 400"),
            ("/./r/releases", "srm 400"),
            ("/o/../releases", "srm 400"),
            ("/simple/../etc/passwd", "simple 400"),
            ("/%2e%2e/r/releases", "srm 400"),
            // Characters and encodings.
            ("/o/r/zipball/a%00b", "srm 400"),
            ("/o/r/zipball/a%0d%0aSet-Cookie:x", "srm 400"),
            ("/o/r/zipball/%7f", "srm 400"),
            ("/o/r/zipball/%C2%85", "srm 400"),
            ("/o/r/zipball/%zz", "srm 400"),
            ("/o/r/zipball/%4", "srm 400"),
            ("/o/r/zipball/%", "srm 400"),
            ("/o/r/zipball/%ff", "srm 400"),
            ("GET /o/r/zipball/a b", "srm 400"),
            ("/o/r/zipball/a%5Cb", "srm 400"),
            ("/o%2Fx/r/releases", "srm 400"),
            ("/o/r%2Fx/releases", "srm 400"),
            ("/o%20x/r/releases", "srm 400"),
            ("/%E5%88%9D/r/releases", "srm 400"),
            ("/o/r%3Fx/releases", "srm 400"),
            // An encoded letter is the letter (RFC 3986 §6.2.2.2).
            ("/%6f/r/%72eleases", "srm github:o/r releases"),
            ("/%73imple/o/r/releases", "simple github:o/r releases"),
            // Methods.
            ("POST /o/r/releases", "srm 405"),
            ("OPTIONS /o/r/zipball/1", "srm 405"),
            ("DELETE /simple/o/r/releases", "simple 405"),
            ("POST /repos/o/r/releases", "github 405"),
            ("POST /repos/o/r/releases/1/assets", "github 405"),
            ("POST /o/r", "srm 404"),
            ("POST /healthz", "srm 405"),
        ],
    );
    let long = format!("/{}/r/releases", "o".repeat(1000));
    assert_eq!(parse_line(&usual(), &long), "srm 400");
    let deep = format!("/o/r/zipball{}", "/a".repeat(4000));
    assert_eq!(parse_line(&usual(), &deep), "srm 400");
}

#[test]
fn plain_name_without_a_default_owner_and_without_a_route_leads_nowhere() {
    let names = names(None, &[("fc3", "devsapp/fc3")]);
    check(
        &names,
        &[
            ("/fc3/releases", "srm github:devsapp/fc3 releases"),
            ("/fc/releases", "srm nowhere:fc releases"),
            ("/simple/fc/releases", "simple nowhere:fc releases"),
            ("/v3/packages/fc/release/latest", "v3 nowhere:fc latest"),
        ],
    );
}

#[test]
fn github_paths_have_no_reserved_words_and_both_roots() {
    check(
        &usual(),
        &[
            ("/repos/devsapp/fc3", "github github:devsapp/fc3 repository"),
            ("/repos/devsapp/fc3/releases", "github github:devsapp/fc3 releases"),
            ("/repos/devsapp/fc3/releases?per_page=100&page=1", "github github:devsapp/fc3 releases 1x100"),
            ("/repos/devsapp/fc3/releases?per_page=101&page=0", "github github:devsapp/fc3 releases 1x100"),
            ("/api/v3/repos/o/r/releases?per_page=0&page=-3", "github/api/v3 github:o/r releases 1x30"),
            ("/repos/o/r/releases?per_page=many&page=99999999999999999999", "github github:o/r releases 4294967295x30"),
            ("/repos/o/r/zipball", "github github:o/r zip DefaultBranch"),
            ("/repos/devsapp/fc3/releases/latest", "github github:devsapp/fc3 latest"),
            ("/repos/devsapp/fc3/releases/tags/v1", "github github:devsapp/fc3 tag Name(\"v1\")"),
            ("/repos/devsapp/fc3/releases/42", "github github:devsapp/fc3 id 42 false"),
            ("/repos/devsapp/fc3/releases/42/assets", "github github:devsapp/fc3 id 42 true"),
            ("/repos/devsapp/fc3/releases/42x", "github 404"),
            ("/repos/devsapp/fc3/releases/99999999999999999999999", "github 404"),
            ("/repos/devsapp/fc3/releases/assets/42", "github 404"),
            ("/repos/devsapp/fc3/zipball/main", "github github:devsapp/fc3 zip Name(\"main\")"),
            ("/repos/devsapp/fc3/zipball/refs/heads/main", "github github:devsapp/fc3 zip Branch(\"main\")"),
            ("/repos/devsapp/fc3/flat/1", "github 404"),
            ("/repos/devsapp/fc3/tags", "github 404"),
            ("/api/v3/repos/devsapp/fc3", "github/api/v3 github:devsapp/fc3 repository"),
            ("/api/v3/repos/o/r/zipball/a%2Fb", "github/api/v3 github:o/r zip Name(\"a/b\")"),
            ("/api/v3//repos/o/r/releases", "github/api/v3 github:o/r releases"),
            ("/api/v3/users/o", "github/api/v3 404"),
            ("/api/v4/repos/o/r", "github/api/v3 404"),
            ("/api", "github/api/v3 404"),
            ("/repos", "github 404"),
            ("/repos/", "github 404"),
            ("/repos/o", "github 404"),
            ("/repos//o/r/releases", "github github:o/r releases"),
            ("/repos/o/r/", "github 400"),
            ("/repos/github/hub", "github github:github/hub repository"),
            ("/repos/github/hub/releases", "github github:github/hub releases"),
            ("/repos/simple/repos/releases", "github github:simple/repos releases"),
            ("/repos/gitee/o/r", "github gitee:o/r repository"),
            ("/repos/gitee/o/r/releases/latest", "github gitee:o/r latest"),
            ("/repos/devsapp/core/releases", "github github:Serverless-Devs/core releases"),
            ("/repos/github/devsapp/core/releases", "github github:devsapp/core releases"),
            ("/repos/other/o/r", "github 404"),
        ],
    );
}

#[test]
fn simple_paths_are_srm_paths_under_a_prefix() {
    check(
        &usual(),
        &[
            ("/simple/devsapp/fc3/releases", "simple github:devsapp/fc3 releases"),
            ("/simple/devsapp/core/zipball/0.1.66", "simple github:Serverless-Devs/core zip Name(\"0.1.66\")"),
            ("/simple/fc/releases/latest", "simple github:devsapp/fc latest"),
            ("/simple//fc/releases/latest", "simple github:devsapp/fc latest"),
            ("/simple/start/releases", "simple gitee:devsapp/start-fc3 releases"),
            ("/simple/gitee/o/r/releases", "simple gitee:o/r releases"),
            ("/simple/simple/x/releases", "simple github:simple/x releases"),
            ("/simple/healthz", "simple 404"),
            ("/simple", "simple 404"),
            ("/simple/o/r/releases?page=0", "simple 400"),
        ],
    );
}

#[test]
fn v3_names_have_no_slash() {
    check(
        &usual(),
        &[
            ("/v3/packages/fc3/release/latest", "v3 github:devsapp/fc3 latest"),
            ("/v3//packages/fc3/release/latest", "v3 github:devsapp/fc3 latest"),
            ("/v3/packages/fc/release/latest", "v3 github:devsapp/fc latest"),
            ("/v3/packages/o__r/release/tags/1.2.3", "v3 github:o/r tag Name(\"1.2.3\")"),
            ("/v3/packages/o__r__x/release/latest", "v3 github:o/r__x latest"),
            ("/v3/packages/gitee__o__r/release/latest", "v3 gitee:o/r latest"),
            ("/v3/packages/gitee__o__r__x/release/latest", "v3 gitee:o/r__x latest"),
            ("/v3/packages/gitee__r/release/latest", "v3 400"),
            ("/v3/packages/gitee__o__r/zipball/a/b", "v3 gitee:o/r zip Name(\"a/b\")"),
            ("/v3/packages/fc/zipball/1.0.0", "v3 github:devsapp/fc zip Name(\"1.0.0\")"),
            ("/v3/packages/devsapp__core/release", "v3 github:Serverless-Devs/core detail 1x20"),
            ("/v3/packages/github__devsapp__core/release", "v3 github:devsapp/core detail 1x20"),
            ("/v3/packages/fc3/release?page=2", "v3 github:devsapp/fc3 detail 2x20"),
            ("/v3/packages/releases/release/latest", "v3 github:devsapp/releases latest"),
            ("/v3/packages/fc3/release?page=-1", "v3 github:devsapp/fc3 detail all"),
            ("/v3/packages/releases", "v3 catalog 1x20"),
            ("/v3/packages/releases?search=f%20c&page=2", "v3 catalog search=f c 2x20"),
            ("/v3/packages/releases?search=&tag=x&page=-1", "v3 catalog tag=x all"),
            ("/v3/packages/releases?category=a&category=b&provider=p", "v3 catalog category=b provider=p 1x20"),
            ("/v3/packages/releases?type=3&platform=3&lang=zh&sort=time", "v3 catalog type=Application 1x20"),
            ("/v3/packages/releases?type=plugin&page=3&per_page=5", "v3 catalog type=Plugin 3x5"),
            ("/v3/packages/releases?type=", "v3 catalog 1x20"),
            ("/v3/packages/releases?type=4", "v3 400"),
            ("/v3/packages/releases?page=x", "v3 400"),
            ("/v3/packages/releases?page=-2", "v3 400"),
            ("/v3/packages/releases?page=-1&page=0", "v3 400"),
            ("/v3/common/categories", "v3 Categories"),
            ("/v3/common/providers", "v3 Providers"),
            ("/v3/common/tags", "v3 404"),
            ("/v3/packages/o%2Fr/release/latest", "v3 400"),
            ("/v3/packages/__r/release/latest", "v3 400"),
            ("/v3/packages/o__/release/latest", "v3 400"),
            ("/v3/packages/gitee____/release/latest", "v3 400"),
            ("/v3/packages/fc3/release/tags", "v3 400"),
            ("/v3/packages/fc3", "v3 404"),
            ("/v3/packages", "v3 404"),
            ("/v3", "v3 404"),
            ("/v3/user/check", "v3 404"),
            ("/v3/package/user?page=1", "v3 own packages 1x20"),
            ("POST /v3/package/user", "v3 405"),
            ("POST /v3/packages/releases", "v3 405"),
            ("POST /v3/user/token", "v3 renew code"),
            ("DELETE /v3/packages/fc3/release/tags/1", "v3 405"),
            ("HEAD /v3/packages/fc3/release/latest", "v3 github:devsapp/fc3 latest"),
        ],
    );
}

#[test]
fn operations_are_exact_paths_and_administration_has_its_own_methods() {
    check(
        &usual(),
        &[
            ("/healthz", "srm Healthz"),
            ("HEAD /readyz", "srm Readyz"),
            ("/metrics", "srm Metrics"),
            ("/healthz/x", "srm 404"),
            ("/metrics/x/releases", "srm 404"),
            ("/-/purge/a%2Fb", "srm Admin(\"purge/a/b\")"),
            ("DELETE /-/x", "srm Admin(\"x\")"),
            ("/-/../x", "srm 400"),
        ],
    );
}
