//! GitHub's REST API: releases, archives and commits.

use std::sync::{Arc, MutexGuard};

use http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    State, apps,
    body::Answer,
    github_json::{release_json, repo_json, tag_json},
    model::{Found, Reference, Release, Repo, Store, Tree, http_date},
    pack::hex,
    paths::{PageQuery, Path, encode},
    rate::Standing,
};

const DOCS: &str = "https://docs.github.com/rest";

/// The caller.
struct Caller {
    token: Option<String>,
    accept: String,
    authorization: String,
}

fn header<'a>(request: &'a Request<()>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Parses `Bearer T` and `token T`.
pub fn token_of(request: &Request<()>) -> Option<String> {
    let (scheme, token) = header(request, "authorization").split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    known.then(|| token.trim().to_owned())
}

pub fn error(status: u16, message: &str, page: &str) -> Answer {
    let documentation_url = format!("{DOCS}/{page}");
    Answer::json(
        status,
        &json!({"message": message, "documentation_url": documentation_url, "status": status.to_string()}),
    )
}

/// GitHub's secondary limit, with quota left and an optional `Retry-After`.
pub fn secondary(retry_after: Option<&str>) -> Answer {
    let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    let answer = error(403, message, "overview/rate-limits-for-the-rest-api#about-secondary-rate-limits")
        .header("x-ratelimit-limit", "60")
        .header("x-ratelimit-remaining", "21")
        .header("x-ratelimit-resource", "core");
    match retry_after {
        Some(wait) => answer.header("retry-after", wait),
        None => answer,
    }
}

/// Responds to a request to the API host.
pub fn answer(state: &State, request: &Request<()>) -> Answer {
    if header(request, "user-agent").is_empty() {
        let text = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header\n";
        return Answer::new(403, "text/html; charset=utf-8", text);
    }
    let token = token_of(request);
    let authorization = header(request, "authorization").to_owned();
    if let Some(app) = token.as_ref().and_then(|token| apps::caller(state, token)) {
        return apps::answer(state, request, &app);
    }
    let unknown = !authorization.is_empty() && !token.as_ref().is_some_and(|token| state.knows_token(token));
    if unknown {
        return error(401, "Bad credentials", "");
    }
    let caller = Caller { token, accept: header(request, "accept").to_owned(), authorization };
    let mut standing = state.rate.take(caller.token.as_deref());
    if standing.exceeded {
        return standing.write(exceeded(&caller));
    }
    let mut answer = match request.method().as_str() {
        "GET" | "HEAD" => route(state, request, &caller),
        _ => error(404, "Not Found", ""),
    };
    if answer.status == 200 {
        answer = conditional(state, answer, request, &caller, &mut standing);
    }
    answer = answer.header("server", "github.com").header("x-github-media-type", "github.v3; format=json");
    standing.write(answer)
}

fn exceeded(caller: &Caller) -> Answer {
    let message = match &caller.token {
        None => {
            "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher \
             rate limit. Check out the documentation for more details.)"
        }
        Some(_) => "API rate limit exceeded for user ID 1.",
    };
    error(403, message, "overview/resources-in-the-rest-api#rate-limiting")
}

/// Adds validators to a 200, or turns it into a 304 with the same validator without `W/`.
fn conditional(
    state: &State,
    answer: Answer,
    request: &Request<()>,
    caller: &Caller,
    standing: &mut Standing,
) -> Answer {
    let mut hasher = Sha256::new();
    hasher.update(format!("{}:{}:", caller.accept, caller.authorization));
    hasher.update(answer.content.bytes());
    let tag = format!("\"{}\"", hex(&hasher.finalize()));
    let vary = "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding, X-Requested-With";
    let answer = answer
        .header("cache-control", if caller.token.is_some() { "private, max-age=60, s-maxage=60" } else { PUBLIC })
        .header("vary", vary);
    let asked = header(request, "if-none-match");
    let same = asked == "*" || asked.split(',').any(|one| one.trim().trim_start_matches("W/") == tag);
    if !same {
        return answer.header("etag", &format!("W/{tag}"));
    }
    if let Some(token) = &caller.token {
        state.rate.give_back(token, standing);
    }
    let mut answer = Answer { status: 304, ..answer }.without_body().header("etag", &tag);
    answer.headers.remove("content-type");
    answer
}

const PUBLIC: &str = "public, max-age=60, s-maxage=60";

fn route(state: &State, request: &Request<()>, caller: &Caller) -> Answer {
    let path = Path::of(request.uri());
    if path.trailing_slash {
        return error(404, "Not Found", "");
    }
    let store = state.github.lock().unwrap();
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let (repo, rest) = match *segments.as_slice() {
        ["repos", owner, name, ref rest @ ..] => match store.find(&format!("{owner}/{name}")) {
            Found::Repo(repo) => (repo, rest.len()),
            Found::Moved(id) => return moved(state, &store, caller, id, rest.len(), request),
            Found::Missing => return error(404, "Not Found", "repos/repos#get-a-repository"),
        },
        ["repositories", id, ref rest @ ..] => match id.parse().ok().and_then(|id| store.by_id(id)) {
            Some(repo) => (repo, rest.len()),
            None => return error(404, "Not Found", ""),
        },
        ["rate_limit"] => return Answer::json(200, &json!({"resources": {}})),
        _ => return error(404, "Not Found", ""),
    };
    if repo.private && caller.token.is_none() {
        return error(404, "Not Found", "repos/repos#get-a-repository");
    }
    if repo.blocked {
        return blocked();
    }
    let repo = repo.clone();
    drop(store);
    answer_of_repo(state, &repo, &segments[segments.len() - rest..], &path, caller)
}

fn blocked() -> Answer {
    let notice = "https://github.com/github/dmca/blob/master/2021/04/2021-04-20-example.md";
    let block = json!({"reason": "dmca", "created_at": "2021-04-22T17:53:56Z", "html_url": notice});
    json(451, json!({"message": "Repository access blocked", "block": block}))
}

/// Responds to a request for a repository; `rest` is what follows its name.
fn answer_of_repo(state: &State, repo: &Repo, rest: &[&str], path: &Path, caller: &Caller) -> Answer {
    let api = state.github_api();
    let show = |release: &Release| {
        json(200, release_json(&api, repo, release)).header("last-modified", &http_date(release.updated_at))
    };
    match *rest {
        [] => json(200, repo_json(&api, repo)),
        ["releases"] => releases(&api, repo, path, caller),
        ["tags"] => tags(&api, repo, path),
        ["branches"] => branches(&api, repo, path),
        ["releases", "latest"] => match repo.latest() {
            Some(release) => show(release),
            None => error(404, "Not Found", "releases/releases#get-the-latest-release"),
        },
        ["releases", "tags", tag] => match repo.release(tag).filter(|release| !release.spec.draft) {
            Some(release) => show(release),
            None => error(404, "Not Found", "releases/releases#get-a-release-by-tag-name"),
        },
        ["releases", id] => match repo.releases.iter().find(|release| release.id.to_string() == id) {
            Some(release) => show(release),
            None => error(404, "Not Found", "releases/releases#get-a-release"),
        },
        ["zipball"] => zipball(state, repo, &repo.default_branch, caller),
        ["zipball", ref reference @ ..] => zipball(state, repo, &reference.join("/"), caller),
        ["commits", ref reference @ ..] => commit(&api, repo, &reference.join("/"), caller),
        _ => error(404, "Not Found", ""),
    }
}

fn json(status: u16, value: Value) -> Answer {
    Answer::json(status, &value)
}

/// 301 from an old name to the same resource by id.
fn moved(
    state: &State,
    store: &MutexGuard<'_, Store>,
    caller: &Caller,
    id: u64,
    rest: usize,
    request: &Request<()>,
) -> Answer {
    if store.by_id(id).is_some_and(|repo| repo.private) && caller.token.is_none() {
        return error(404, "Not Found", "repos/repos#get-a-repository");
    }
    let raw: Vec<&str> = request.uri().path().split('/').collect();
    let tail: String = raw[raw.len() - rest..].iter().map(|segment| format!("/{segment}")).collect();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{}/repositories/{id}{tail}{query}", state.github_api());
    let body = json!({"message": "Moved Permanently", "url": url,
        "documentation_url": format!("{DOCS}/guides/best-practices-for-using-the-rest-api#follow-redirects")});
    json(301, body).header("location", &url)
}

fn releases(api: &str, repo: &Repo, path: &Path, caller: &Caller) -> Answer {
    let page = PageQuery::of(path, 30);
    if page.offset() >= 1000 {
        return error(422, "Only the first 1000 results are available.", "releases/releases#list-releases");
    }
    let visible: Vec<&Release> =
        repo.releases.iter().rev().filter(|release| !release.spec.draft || caller.token.is_some()).collect();
    let shown = page.select(visible.iter());
    let answer = json(200, shown.map(|release| release_json(api, repo, release)).collect());
    with_links(
        answer,
        &format!("{api}/repositories/{}/releases", repo.id),
        path,
        page.number,
        page.pages(visible.len()),
    )
}

/// The tags in reverse order of their names.
fn tags(api: &str, repo: &Repo, path: &Path) -> Answer {
    let page = PageQuery::of(path, 30);
    let shown = page.select(repo.tags.iter().rev());
    let answer = json(200, shown.map(|(name, tree)| tag_json(api, repo, name, &tree.commit)).collect());
    with_links(answer, &format!("{api}/repositories/{}/tags", repo.id), path, page.number, page.pages(repo.tags.len()))
}

/// The branches in the order of their names.
fn branches(api: &str, repo: &Repo, path: &Path) -> Answer {
    let page = PageQuery::of(path, 30);
    let branch = |(name, tree): (&String, &Arc<Tree>)| {
        let url = format!("{api}/repos/{}/commits/{}", repo.full_name, tree.commit);
        json!({"name": name, "commit": {"sha": tree.commit, "url": url}, "protected": false})
    };
    let answer = json(200, page.select(repo.branches.iter()).map(branch).collect());
    let url = format!("{api}/repositories/{}/branches", repo.id);
    with_links(answer, &url, path, page.number, page.pages(repo.branches.len()))
}

/// Adds the links to the other pages of a list.
fn with_links(answer: Answer, url: &str, path: &Path, page: usize, pages: usize) -> Answer {
    let link = |page: usize, rel: &str| {
        let size = path.query("per_page").map(|size| format!("per_page={size}&")).unwrap_or_default();
        format!("<{url}?{size}page={page}>; rel=\"{rel}\"")
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(link(page - 1, "prev"));
    }
    if page < pages {
        links.push(link(page + 1, "next"));
        links.push(link(pages, "last"));
    }
    if page > 1 {
        links.push(link(1, "first"));
    }
    if links.is_empty() { answer } else { answer.header("link", &links.join(", ")) }
}

/// 302 to the archive host. GitHub does not check whether the ref exists; the archive host does.
fn zipball(state: &State, repo: &Repo, reference: &str, caller: &Caller) -> Answer {
    let full = match repo.resolve(reference) {
        Reference::Tag(name, _) => format!("refs/tags/{name}"),
        Reference::Branch(name, _) => format!("refs/heads/{name}"),
        Reference::Commit(tree) => tree.commit.clone(),
        Reference::Ambiguous | Reference::Missing => reference.to_owned(),
    };
    let mut location = format!("{}/{}/legacy.zip/{}", state.archive_url(), repo.full_name, encode(&full));
    if caller.token.is_some() {
        location = format!("{location}?token={}", state.issue_archive_token());
    }
    Answer::new(302, "text/html;charset=utf-8", "")
        .header("location", &location)
        .header("cache-control", "public, must-revalidate, max-age=0")
}

fn commit(api: &str, repo: &Repo, reference: &str, caller: &Caller) -> Answer {
    // In this route `heads/x` and `tags/x` stand for the full names too.
    let full = match reference.split_once('/') {
        Some(("heads" | "tags", _)) => format!("refs/{reference}"),
        _ => reference.to_owned(),
    };
    let found = match repo.resolve(&full) {
        Reference::Ambiguous => repo.resolve(&format!("refs/heads/{full}")),
        found => found,
    };
    let Some(tree) = found.tree() else {
        return error(422, &format!("No commit found for SHA: {reference}"), "commits/commits#get-a-commit");
    };
    let sha = &tree.commit;
    if caller.accept.contains(".sha") {
        return Answer::new(200, "application/vnd.github.sha; charset=utf-8", sha.clone());
    }
    let url = format!("{api}/repos/{}/commits/{sha}", repo.full_name);
    json(200, json!({"sha": sha, "url": url, "commit": {"message": "A commit"}, "parents": []}))
}
