//! Gitee: API v5 and the archive routes of the web site, on one port.

use std::sync::Arc;

use http::Request;
use serde_json::{Value, json};

use super::{
    State,
    body::Answer,
    github::token_of,
    model::{Found, Reference, Release, Repo, Tree, beijing, gitee_top, utc},
    paths::{PageQuery, Path, encode},
};

/// The response of `zipball?ref=` to a request with a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GiteeZips {
    /// 200 with the zip.
    #[default]
    Direct,
    /// 302 to the archive route on the same origin.
    RedirectToWeb,
}

/// The behaviour of Gitee.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub zips: GiteeZips,
    /// The archive routes send a page, `200 text/html`.
    pub html_archives: bool,
    /// Number of anonymous API requests before 403; `None` for no limit.
    pub anonymous_limit: Option<u64>,
    pub anonymous_used: u64,
    /// Archives have `Content-Length`.
    pub with_length: bool,
}

fn message(status: u16, text: &str) -> Answer {
    Answer::new(status, "application/json", json!({"message": text}).to_string())
}

fn json(value: &Value) -> Answer {
    Answer::new(200, "application/json", value.to_string())
}

/// The page that is sent instead of a zip.
pub fn page() -> Answer {
    let html = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>";
    Answer::new(200, "text/html; charset=utf-8", html)
}

/// Responds to a request to Gitee.
pub fn answer(state: &State, request: &Request<()>) -> Answer {
    let path = Path::of(request.uri());
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return message(405, "Method Not Allowed");
    }
    let token = token_of(request).or_else(|| path.query("access_token").map(ToOwned::to_owned));
    let known = token.as_ref().is_some_and(|token| state.knows_token(token));
    match *segments.as_slice() {
        ["api", "v5", "repos", owner, name, ref rest @ ..] => {
            if token.is_some() && !known {
                return message(401, "401 Unauthorized: Access token does not exist");
            }
            if !known && over_limit(state) {
                return message(403, "Rate Limit Exceeded");
            }
            match find(state, owner, name, known) {
                Ok(repo) => api(state, &repo, rest, &path, known),
                Err(answer) => answer,
            }
        }
        [owner, name, "repository", "archive", ref file @ ..] => web(state, owner, name, &file.join("/")),
        [owner, name, "archive", ref file @ ..] => web(state, owner, name, &file.join("/")),
        _ => Answer::new(404, "text/html; charset=utf-8", "<html><body>404</body></html>"),
    }
}

fn over_limit(state: &State) -> bool {
    let mut options = state.gitee_options.lock().unwrap();
    let over = options.anonymous_limit.is_some_and(|limit| options.anonymous_used >= limit);
    options.anonymous_used += 1;
    over
}

/// The repository, or the error response if it does not exist or this caller has no access.
fn find(state: &State, owner: &str, name: &str, known: bool) -> Result<Arc<Repo>, Answer> {
    let store = state.gitee.lock().unwrap();
    match store.find(&format!("{owner}/{name}")) {
        Found::Repo(repo) if known || !repo.private => Ok(repo.clone()),
        Found::Moved(id) => {
            let full_name = store.by_id(id).map(|repo| repo.full_name.clone()).unwrap_or_default();
            let url = format!("{}/api/v5/repos/{full_name}", state.gitee_web());
            Err(message(301, "Moved Permanently").header("location", &url))
        }
        Found::Repo(_) | Found::Missing => Err(message(404, "Not Found Project")),
    }
}

fn api(state: &State, repo: &Repo, rest: &[&str], path: &Path, known: bool) -> Answer {
    let web = state.gitee_web();
    match *rest {
        [] => json(&repo_json(&web, repo)),
        ["releases"] => releases(&web, repo, path),
        ["tags"] => tags(repo, path),
        // Gitee means the release that was last updated, prereleases not excepted.
        ["releases", "latest"] => match repo.releases.iter().max_by_key(|release| release.updated_at) {
            Some(release) => json(&release_json(&web, repo, release)),
            None => message(404, "Not Found"),
        },
        ["releases", "tags", tag] => {
            let release = repo.release(tag).map(|release| release_json(&web, repo, release));
            json(&release.unwrap_or(Value::Null))
        }
        ["branches"] => {
            let branch = |(name, tree): (&String, &Arc<Tree>)| json!({"name": name, "commit": {"sha": tree.commit}, "protected": false});
            let page = PageQuery::of(path, 20);
            json(&page.select(repo.branches.iter()).map(branch).collect())
                .header("total_page", &page.pages(repo.branches.len()).to_string())
        }
        ["branches", ref name @ ..] => {
            let name = name.join("/");
            match repo.resolve(&format!("refs/heads/{name}")).tree() {
                Some(tree) => json(&json!({
                    "name": name, "protected": false,
                    "commit": {"sha": tree.commit, "url": format!("{web}/api/v5/repos/{}/commits/{}", repo.full_name, tree.commit)},
                })),
                None => message(404, "Not Found Branch"),
            }
        }
        ["commits", reference] => match repo.resolve(reference).tree() {
            Some(tree) => json(&json!({"sha": tree.commit, "commit": {"message": "A commit"}})),
            None => message(404, "Not Found Commit"),
        },
        ["zipball"] if !known => {
            let body = json!({"message": "登录失效，无权限访问该资源", "code": 40001});
            Answer::new(401, "application/json", body.to_string())
        }
        ["zipball"] => {
            let reference = path.query("ref").unwrap_or(&repo.default_branch);
            let zips = state.gitee_options.lock().unwrap().zips;
            match zips {
                GiteeZips::Direct => zip(state, repo, reference),
                GiteeZips::RedirectToWeb => {
                    let url = format!("{web}/{}/repository/archive/{}.zip", repo.full_name, encode(reference));
                    Answer::new(302, "text/html; charset=utf-8", "").header("location", &url)
                }
            }
        }
        _ => message(404, "404 Not Found"),
    }
}

fn releases(web: &str, repo: &Repo, path: &Path) -> Answer {
    let page = PageQuery::of(path, 20);
    let mut all: Vec<&Release> = repo.releases.iter().filter(|release| !release.spec.draft).collect();
    if path.query("direction") == Some("desc") {
        all.reverse();
    }
    let shown = page.select(all.iter()).map(|release| release_json(web, repo, release));
    json(&shown.collect())
        .header("total_count", &all.len().to_string())
        .header("total_page", &page.pages(all.len()).to_string())
}

/// The tags in the order of their names.
fn tags(repo: &Repo, path: &Path) -> Answer {
    let page = PageQuery::of(path, 20);
    let tag = |(name, tree): (&String, &Arc<Tree>)| json!({"name": name, "message": "", "commit": {"sha": tree.commit, "date": utc(tree.mtime)}, "tagger": null});
    json(&page.select(repo.tags.iter()).map(tag).collect())
        .header("total_count", &repo.tags.len().to_string())
        .header("total_page", &page.pages(repo.tags.len()).to_string())
}

fn user(web: &str, login: &str) -> Value {
    json!({"id": 1, "login": login, "name": login, "url": format!("{web}/api/v5/users/{login}"),
        "html_url": format!("https://gitee.com/{login}"), "remark": "", "type": "User"})
}

/// No `zipball_url`, `draft`, `published_at` or `html_url`; assets have a name and an address only.
fn release_json(web: &str, repo: &Repo, release: &Release) -> Value {
    let base = format!("https://gitee.com/{}", repo.full_name);
    let tag = encode(&release.tag);
    let mut assets: Vec<Value> = release
        .spec
        .assets
        .iter()
        .map(|asset| {
            json!({"browser_download_url": format!("{base}/releases/download/{tag}/{}", asset.name), "name": asset.name})
        })
        .collect();
    for kind in ["zip", "tar.gz"] {
        let url = format!("{base}/archive/refs/tags/{tag}.{kind}");
        assets.push(json!({"browser_download_url": url, "name": format!("{}.{kind}", release.tag)}));
    }
    json!({
        "id": release.id, "tag_name": release.tag, "target_commitish": repo.default_branch,
        "prerelease": release.spec.prerelease, "name": release.spec.title, "body": release.spec.body,
        "author": user(web, repo.owner()), "created_at": beijing(release.created_at), "assets": assets,
    })
}

fn repo_json(web: &str, repo: &Repo) -> Value {
    let name = &repo.full_name;
    json!({
        "id": repo.id, "full_name": name, "human_name": name, "path": repo.name(), "name": repo.name(),
        "url": format!("{web}/api/v5/repos/{name}"), "html_url": format!("https://gitee.com/{name}.git"),
        "owner": user(web, repo.owner()), "private": repo.private, "public": !repo.private, "internal": false,
        "fork": false, "description": "A demo package", "default_branch": repo.default_branch,
        "releases_url": format!("{web}/api/v5/repos/{name}/releases{{/id}}"),
    })
}

/// `/{o}/{r}/repository/archive/{ref}.zip` and `/{o}/{r}/archive/refs/tags/{tag}.zip`.
fn web(state: &State, owner: &str, name: &str, file: &str) -> Answer {
    if state.gitee_options.lock().unwrap().html_archives {
        return page();
    }
    let Some(reference) = file.strip_suffix(".zip") else { return message(404, "Not Found") };
    match find(state, owner, name, false) {
        Ok(repo) => zip(state, &repo, reference),
        Err(_) => Answer::new(404, "text/html; charset=utf-8", "<html><body>404</body></html>"),
    }
}

fn zip(state: &State, repo: &Repo, reference: &str) -> Answer {
    let found = match repo.resolve(reference) {
        Reference::Ambiguous => repo.resolve(&format!("refs/tags/{reference}")),
        found => found,
    };
    let Some(tree) = found.tree() else { return message(404, "Not Found") };
    let top = gitee_top(repo, reference);
    let with_length = state.gitee_options.lock().unwrap().with_length;
    Answer { content: tree.archive(&top), with_length, ..Answer::new(200, "application/zip", "") }
        .header("content-disposition", &format!("attachment; filename={}.zip", encode(&top)))
}
