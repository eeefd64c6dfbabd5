//! The JSON of GitHub's releases and repositories, with every field that the published schema requires.

use serde_json::{Value, json};

use super::{
    model::{Release, Repo, utc},
    pack::{Archive, hex},
    paths::encode,
    spec::Asset,
};

fn user(api: &str, login: &str) -> Value {
    let url = format!("{api}/users/{login}");
    json!({
        "login": login, "id": 1, "node_id": "MDQ6VXNlcjE=", "gravatar_id": "",
        "avatar_url": "https://avatars.githubusercontent.com/u/1?v=4",
        "url": url, "html_url": format!("https://github.com/{login}"),
        "followers_url": format!("{url}/followers"),
        "following_url": format!("{url}/following{{/other_user}}"),
        "gists_url": format!("{url}/gists{{/gist_id}}"),
        "starred_url": format!("{url}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{url}/subscriptions"),
        "organizations_url": format!("{url}/orgs"),
        "repos_url": format!("{url}/repos"),
        "events_url": format!("{url}/events{{/privacy}}"),
        "received_events_url": format!("{url}/received_events"),
        "type": "User", "user_view_type": "public", "site_admin": false,
    })
}

/// One release. A draft has no archive URLs and no date of publication.
pub fn release_json(api: &str, repo: &Repo, release: &Release) -> Value {
    let id = release.id;
    let name = &repo.full_name;
    let tag = &release.tag;
    let spec = &release.spec;
    let url = format!("{api}/repos/{name}/releases/{id}");
    let ball = |kind: &str| (!spec.draft).then(|| format!("{api}/repos/{name}/{kind}/{}", encode(tag)));
    let page = if spec.draft { format!("untagged-{id:020x}") } else { encode(tag) };
    json!({
        "url": url,
        "assets_url": format!("{url}/assets"),
        "upload_url": format!("https://uploads.github.com/repos/{name}/releases/{id}/assets{{?name,label}}"),
        "html_url": format!("https://github.com/{name}/releases/tag/{page}"),
        "id": id,
        "author": user(api, repo.owner()),
        "node_id": format!("RE_kwDO{id:x}"),
        "tag_name": tag,
        "target_commitish": repo.default_branch,
        "name": spec.title,
        "draft": spec.draft,
        "immutable": false,
        "prerelease": spec.prerelease,
        "created_at": utc(release.created_at),
        "updated_at": utc(release.updated_at),
        "published_at": (!spec.draft).then(|| utc(release.published_at)),
        "assets": spec.assets.iter().zip(0..).map(|(asset, n)| asset_json(api, repo, release, asset, n)).collect::<Value>(),
        "tarball_url": ball("tarball"),
        "zipball_url": ball("zipball"),
        "body": spec.body,
        "reactions": {"url": format!("{url}/reactions"), "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "hooray": 0,
            "confused": 0, "heart": 0, "rocket": 0, "eyes": 0},
        "mentions_count": 0,
    })
}

fn asset_json(api: &str, repo: &Repo, release: &Release, asset: &Asset, number: u64) -> Value {
    let id = release.id * 100 + number;
    let name = &repo.full_name;
    let download = format!("https://github.com/{name}/releases/download/{}/{}", encode(&release.tag), asset.name);
    json!({
        "url": format!("{api}/repos/{name}/releases/assets/{id}"),
        "id": id, "node_id": format!("RA_kwDO{id:x}"), "name": asset.name, "label": null,
        "uploader": user(api, repo.owner()),
        "content_type": asset.content_type, "state": "uploaded", "size": asset.data.len(),
        "digest": format!("sha256:{}", Archive::raw(asset.data.clone()).sha256()),
        "download_count": 7,
        "created_at": utc(release.published_at), "updated_at": utc(release.published_at),
        "browser_download_url": download,
    })
}

/// The repository itself.
pub fn repo_json(api: &str, repo: &Repo) -> Value {
    let id = repo.id;
    let name = &repo.full_name;
    let url = format!("{api}/repos/{name}");
    json!({
        "id": id, "node_id": format!("R_{}", hex(&id.to_be_bytes())), "name": repo.name(), "full_name": name,
        "private": repo.private, "visibility": if repo.private { "private" } else { "public" },
        "owner": user(api, repo.owner()),
        "html_url": format!("https://github.com/{name}"), "description": "A demo package", "fork": false, "url": url,
        "releases_url": format!("{url}/releases{{/id}}"),
        "archive_url": format!("{url}/{{archive_format}}{{/ref}}"),
        "tags_url": format!("{url}/tags"),
        "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z", "pushed_at": "2024-01-01T00:00:00Z",
        "default_branch": repo.default_branch, "archived": false, "disabled": false, "topics": [],
        "stargazers_count": 42, "watchers_count": 42, "forks_count": 3, "open_issues_count": 0,
        "language": "JavaScript", "size": 108,
        "permissions": {"admin": false, "maintain": false, "push": false, "triage": false, "pull": true},
    })
}

/// One tag of a list.
pub fn tag_json(api: &str, repo: &Repo, tag: &str, commit: &str) -> Value {
    let name = &repo.full_name;
    let encoded = encode(tag);
    json!({
        "name": tag,
        "zipball_url": format!("{api}/repos/{name}/zipball/refs/tags/{encoded}"),
        "tarball_url": format!("{api}/repos/{name}/tarball/refs/tags/{encoded}"),
        "commit": {"sha": commit, "url": format!("{api}/repos/{name}/commits/{commit}")},
        "node_id": format!("REF_{}", hex(tag.as_bytes())),
    })
}
