//! GitHub's archive host: zips of refs, first chunked, without ranges; a token must never be sent to it.

use http::Request;

use super::{
    State,
    body::Answer,
    model::{Found, Reference},
    paths::Path,
};

/// When the archive host sends `Content-Length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lengths {
    /// The first response for a zip is chunked, later ones have `Content-Length`, as on GitHub.
    #[default]
    AfterFirst,
    Never,
    Always,
}

fn missing() -> Answer {
    Answer::new(404, "text/plain; charset=utf-8", "404: Not Found")
}

/// Responds to a request to the archive host.
pub fn answer(state: &State, request: &Request<()>) -> Answer {
    if request.headers().contains_key("authorization") {
        // The real one has its own token in the query; who sends this has leaked the API's.
        return Answer::new(400, "text/plain; charset=utf-8", "400: Authorization has no place here");
    }
    let path = Path::of(request.uri());
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let [owner, name, "legacy.zip", ref reference @ ..] = *segments.as_slice() else { return missing() };
    let store = state.github.lock().unwrap();
    let full_name = format!("{owner}/{name}");
    let repo = match store.find(&full_name) {
        Found::Repo(repo) => repo.clone(),
        Found::Moved(_) | Found::Missing => return missing(),
    };
    drop(store);
    let allowed = path.query("token").is_some_and(|token| state.knows_archive_token(token));
    if repo.blocked || (repo.private && !allowed) {
        return missing();
    }
    let tree = match repo.resolve(&reference.join("/")) {
        Reference::Tag(_, tree) | Reference::Branch(_, tree) | Reference::Commit(tree) => tree,
        Reference::Missing => return missing(),
        Reference::Ambiguous => {
            let text = "the given path has multiple possibilities: #<Git::Ref:0x00007f1>, #<Git::Ref:0x00007f2>";
            return Answer::new(300, "text/plain; charset=utf-8", text);
        }
    };
    let top = repo.github_top(&tree);
    let archive = tree.archive(&top);
    let tag = format!("W/\"{}\"", archive.sha256());
    let with_length = state.names_length(&format!("{}:{}", repo.id, tree.commit));
    let answer = Answer { content: archive, with_length, ..Answer::new(200, "application/zip", "") }
        .header("content-disposition", &format!("attachment; filename={top}.zip"))
        .header("etag", &tag)
        .header("vary", "Authorization,Accept-Encoding,Origin")
        .header("x-content-type-options", "nosniff");
    let asked = request.headers().get("if-none-match").and_then(|value| value.to_str().ok());
    if asked.is_some_and(|asked| asked.contains(tag.trim_start_matches("W/"))) {
        return Answer { status: 304, ..answer }.without_body();
    }
    answer
}
