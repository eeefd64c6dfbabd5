"""PyGithub against the mirror: with_pygithub.py BASE TOKEN"""

import io
import sys
import urllib.request
import zipfile

from github import Auth, Github, UnknownObjectException

base, token = sys.argv[1:]
for root in (base, f"{base}/api/v3"):
    for per_page in (30, 2):
        github = Github(base_url=root, auth=Auth.Token(token), per_page=per_page)
        repo = github.get_repo("devsapp/fc3")
        assert repo.default_branch == "main", repo.default_branch
        tags = [release.tag_name for release in repo.get_releases()]
        assert tags == ["v0.2.0", "v0.2.0-rc.1", "v0.1.1", "v0.1.0"], tags
    latest = repo.get_latest_release()
    assert latest.tag_name == "v0.2.0", latest.tag_name
    assert repo.get_release("v0.1.0").tag_name == "v0.1.0"
    assert latest.zipball_url.startswith(f"{base}/"), latest.zipball_url
    try:
        repo.get_release("v9")
        raise AssertionError("a release that does not exist")
    except UnknownObjectException as why:
        assert why.data["errors"][0]["message"] == "devsapp/fc3 on github has no release v9", why
    with urllib.request.urlopen(latest.zipball_url) as answer:
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    assert archive.testzip() is None
    names = archive.namelist()
    assert len({name.split("/")[0] for name in names}) == 1, names
    assert any(name.endswith("/publish.yaml") for name in names), names
print("PyGithub: all as it should be")
