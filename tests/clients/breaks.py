"""Mirrors that are wrong in one point: a proxy between the clients and the good mirror rewrites what passes.

Each break names the tests that must then fail (parts of their names); `run --break all` holds that they do.
"""

import http.client
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import NAMES

BREAKS = {}


class Answer:
    def __init__(self, status, headers, body, reason=None):
        self.status, self.headers, self.body, self.reason = status, headers, body, reason

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names):
        self.headers = [(key, value) for key, value in self.headers if key.lower() not in names]

    @property
    def is_zip(self):
        return self.header("content-type") == "application/zip"

    def text(self, change):
        """Rewrites a JSON answer as text."""
        if "json" in self.header("content-type"):
            self.body = change(self.body.decode()).encode()

    def value(self, change):
        """Rewrites a JSON answer as a value."""
        self.text(lambda text: json.dumps(change(json.loads(text))))


def fault(name, *seen_by):
    def add(change):
        change.seen_by = seen_by
        BREAKS[name] = change
        return change

    return add


@fault("v3-zips-keep-their-folder", "s 3 updates a component", "s 3 updates to a later", "the flat one has none")
def _(request, answer):
    """v3 gives the zip as the forge packs it, with its top folder"""
    if answer.is_zip and (found := re.match(r"/v3/packages/(\w+?)__(\w+?)__(.+)/zipball/(.+)", request.path)):
        whole = ask(request, "/{}/{}/{}/zipball/{}".format(*found.groups()))
        answer.status, answer.headers, answer.body = whole.status, whole.headers, whole.body
    if answer.is_zip and "/flat/" in request.path:
        whole = ask(request, request.path.replace("/flat/", "/zipball/"))
        answer.status, answer.headers, answer.body = whole.status, whole.headers, whole.body


@fault("official-names-are-unknown", "without configuration runs", "s 2 with a mirror without configuration")
def _(request, answer):
    """no plain name leads to the official registry"""
    if re.match(r"/v3/packages/(fc3|official__fc3)/|/simple/(official[^/]*/)?(devsapp/)?(core|fc)/", request.path):
        answer.status, answer.body = 404, b"{}"
        answer.headers = [("Content-Type", "application/json")]


@fault("folders-are-whole-repositories", "behind a folder alias")
def _(request, answer):
    """the zip of a folder alias is the repository's"""
    if answer.is_zip and "/start-in-folder/" in request.path:
        whole = ask(request, "/demo/apps/zipball/start-in-folder@1.0.0")
        answer.status, answer.headers, answer.body = whole.status, whole.headers, whole.body


@fault("unbuilt-is-served", "refuses an unbuilt component")
def _(request, answer):
    """the zip of an unbuilt component is served to the 3.x client"""
    if answer.status == 422:
        whole = ask(request, "/official/unbuilt/zipball/1.0.0")
        answer.status, answer.headers, answer.body = whole.status, whole.headers, whole.body


@fault("errors-have-no-reason", "refuses an unbuilt component")
def _(request, answer):
    """an error in place of a zip has the usual reason phrase"""
    if answer.status >= 400:
        answer.reason = None


@fault("stored-is-forgotten", "the official registry gone")
def _(request, answer):
    """what is stored is not served"""
    if "hit" in answer.header("cache-status") or "fwd=stale" in answer.header("cache-status"):
        answer.status, answer.body = 502, b"{}"
        answer.headers = [("Content-Type", "application/json")]


@fault("v3-latest-is-frozen", "s 3 updates a component", "s 3 updates to a later", "without configuration updates", "s 3 logs in and publishes")
def _(request, answer):
    """the latest release is the one that was first seen, for ever"""
    if request.path.endswith("/release/latest") and answer.status == 200:
        answer.body = request.server.first.setdefault(request.path, answer.body)


@fault("v3-without-envelope", "s 3 takes the mirror", "s 3 loads the latest", "s 3 without any setting", "s 3 inits an application by its name")
def _(request, answer):
    """v3 answers the bare release"""
    if "/v3/" in request.path:
        answer.value(lambda value: value.get("body"))


@fault("only-the-exact-tag", "s 3 loads a version with v")
def _(request, answer):
    """a version without v is not found where the tag has one"""
    if re.search(r"/tags/\d", request.path) and b'"tag_name":"v' in answer.body:
        answer.status, answer.body = 404, b'{"request_id":"1","body":"no"}'


@fault("missing-is-200", "s 3 says that a package or version", "s 3 does not keep", "octokit", "PyGithub")
def _(request, answer):
    """what does not exist is answered with 200"""
    if answer.status == 404:
        answer.status = 200


@fault("html-for-zips", "s 3 loads components by URL", "s 3 inits an application by --uri", "inits an official application", "octokit", "PyGithub", "s 2 loads", "s 2 inits", "curl -C")
def _(request, answer):
    """a page stands where the zip should"""
    if answer.is_zip:
        answer.body = b"<html>Sorry</html>"


@fault("short-zips", "s 3 loads the latest", "s 3 inits an application by --uri", "s 2 loads", "PyGithub", "curl -C", "wget -c", "curl over HTTP/2")
def _(request, answer):
    """zips end early, as a clean 200"""
    if answer.is_zip:
        answer.body = answer.body[:-300]


@fault("fragment-is-nothing", "s 3 loads components by URL")
def _(request, answer):
    """every zip of a version is that of the package asked for first"""
    if answer.is_zip:
        answer.body = request.server.first.setdefault(request.path.rsplit("/", 1)[1], answer.body)


@fault("no-double-slash", "s 3 takes a registry with a slash")
def _(request, answer):
    """//packages is not found"""
    if "//" in request.path:
        answer.status, answer.body = 404, b"{}"


@fault("list-is-no-array", "s 3 registry list")
def _(request, answer):
    """the list of packages is an object"""
    if "/packages/releases" in request.path:
        answer.value(lambda value: {**value, "body": {"packages": value["body"]}})


@fault("search-is-ignored", "s 3 registry list")
def _(request, answer):
    """the list does not mind what is searched for"""
    if "/packages/releases" in request.path:
        whole = ask(request, request.path.split("?")[0])
        answer.body = whole.body


@fault("detail-is-one-release", "s 3 registry detail", "octokit", "PyGithub")
def _(request, answer):
    """a list of releases has only the newest"""
    answer.value(lambda value: value[:1] if isinstance(value, list) else {**value, "body": value["body"][:1]} if isinstance(value.get("body"), list) else value)


@fault("writes-get-no-reason", "s 3 prints why")
def _(request, answer):
    """publishing is answered with an empty object"""
    if request.command != "GET" or "/user/" in request.path:
        answer.status, answer.body = 404, b'{"request_id":"1","body":{}}'


@fault("no-default-branch", "s 3 inits by name from its GitHub", "PyGithub")
def _(request, answer):
    """the repository does not say its default branch"""
    answer.text(lambda text: text.replace('"default_branch"', '"branch"'))


@fault("simple-list-is-no-array", "s 2 loads a component through http://registry")
def _(request, answer):
    """/simple/…/releases is an object"""
    if request.path.startswith("/simple/") and request.path.endswith("/releases"):
        answer.value(lambda value: {"Response": {"releases": value["Response"]}})


@fault("no-core", "s 2 loads a component through http://registry", "s 2 loads a component through its GitHub")
def _(request, answer):
    """devsapp/core is not found"""
    if "/devsapp/core/" in request.path:
        answer.status, answer.body = 404, b"{}"
        answer.headers = [("Content-Type", "application/json")]


@fault("no-plain-names", "s 2 inits through http://registry", "s 2 loads a component through http://registry", "s 3 loads the latest")
def _(request, answer):
    """a name without owner is not found"""
    if re.match(r"/simple/[^/]+/(releases|zipball)|/v3/packages/[a-z0-9-]+/", request.path):
        answer.status, answer.body = 404, b"{}"


@fault("no-github-com", "s 2 loads a component through its GitHub")
def _(request, answer):
    """what s 2 makes of a zipball_url is not found at github.com"""
    if request.headers["Host"] == "github.com":
        answer.status, answer.body = 404, b"{}"


@fault("tags-lose-their-v", "s 2 loads a component through", "octokit", "PyGithub", "s 3 registry detail")
def _(request, answer):
    """tag_name is the semantic version, not the tag"""
    answer.text(lambda text: text.replace('"tag_name":"v', '"tag_name":"'))


@fault("forges-own-zipball-url", "octokit", "PyGithub", "s 3 takes the mirror")
def _(request, answer):
    """zipball_url leads to the forge"""
    answer.text(lambda text: re.sub(r'"zipball_url":"https?://[^/]+/', '"zipball_url":"https://api.github.invalid/', text))


@fault("pages-lead-elsewhere", "PyGithub")
def _(request, answer):
    """Link has another host"""
    answer.headers = [(k, v.replace("127.0.0.1", "127.0.0.9") if k.lower() == "link" else v) for k, v in answer.headers]


@fault("no-ranges", "curl -C", "wget -c", "aria2c")
def _(request, answer):
    """a range is answered with the whole zip"""
    if answer.status == 206:
        whole = ask(request, request.path, without_range=True)
        answer.status, answer.headers, answer.body = 200, whole.headers, whole.body
    answer.without("accept-ranges")


@fault("ranges-off-by-one", "curl -C", "wget -c", "aria2c")
def _(request, answer):
    """a range begins one byte late"""
    if answer.status == 206:
        answer.body = answer.body[1:] + answer.body[:1]


@fault("no-file-name", "wget -c")
def _(request, answer):
    """no Content-Disposition"""
    answer.without("content-disposition")


@fault("flipped-bit", "PyGithub", "curl -C", "wget -c", "aria2c", "curl over HTTP/2", "every zip")
def _(request, answer):
    """one bit of each zip is another"""
    if answer.is_zip and len(answer.body) > 4000:
        answer.body = answer.body[:3000] + bytes([answer.body[3000] ^ 1]) + answer.body[3001:]


@fault("headers-go-upstream", "nothing a client sends")
def _(request, answer):
    """the forge is asked with what the client sent"""
    host = request.server.stage.forge_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "connection")}
    connection.request("GET", "/repos/demo/quiet/releases", headers=headers)
    connection.getresponse().read()


@fault("zips-are-not-signed", "closed mirror by `registry login", "by the signed address", "by its signed address")
def _(request, answer):
    """the address of a zip has no signature"""
    answer.text(lambda text: re.sub(r'("zipball_url":"[^"?]+)\?[^"]*"', r'\1"', text))


@fault("revoked-tokens-work", "a revoked token", "without a token", "for another audience", "a rotation of a provider")
def _(request, answer):
    """what is refused is answered with the rights of a token that holds"""
    if answer.status == 401:
        whole = ask(request, request.path, token=request.server.stage.master)
        answer.status, answer.headers, answer.body, answer.reason = whole.status, whole.headers, whole.body, whole.reason


@fault("401-says-nothing", "without a token")
def _(request, answer):
    """401 has neither its sentence nor its reason"""
    if answer.status == 401:
        answer.body, answer.reason = b"{}", None


@fault("upload-addresses-lead-nowhere", "s 3 logs in and publishes", "s 3 publishes an application", "what was published on the mirror")
def _(request, answer):
    """the address for the zip takes nothing, and says so with a status"""
    if request.command == "POST":
        answer.text(lambda text: text.replace("/v3/uploads/", "/v3/nowhere/"))


@fault("refused-zips-are-answered", "refuses its zip")
def _(request, answer):
    """a connection that the mirror breaks is answered instead"""
    if not answer.status:
        answer.status = 422


@fault("failed-publications-are-hidden", "refuses its zip")
def _(request, answer):
    """registry detail has no failed publications"""
    if "/release?page" in request.path and b"failed_version" in answer.body:
        answer.value(lambda value: {**value, "body": [row for row in value["body"] if "failed_version" not in row]})


@fault("refusals-say-nothing", "why the mirror refuses a publication", "which is then gone")
def _(request, answer):
    """a refused publication or deletion has no sentence"""
    if request.command in ("POST", "DELETE") and answer.status >= 400:
        answer.value(lambda value: {**value, "body": "no"})


@fault("own-packages-are-none", "what was published on the mirror")
def _(request, answer):
    """registry list --private has no packages"""
    if "/package/user" in request.path:
        answer.value(lambda value: {**value, "body": []})


@fault("new-codes-do-not-hold", "`registry login --retoken`")
def _(request, answer):
    """the new code of an account is another one than the mirror's"""
    if request.path.endswith("/user/token"):
        answer.text(lambda text: text.replace("srmt_", "srmt_x"))


@fault("deleted-versions-stay", "which is then gone")
def _(request, answer):
    """the list of versions is the one that was first seen"""
    if request.path.endswith("/acme-gone/release?page=1"):
        answer.body = request.server.first.setdefault(request.path, answer.body.replace(b'"1.0.0"', b'"1.1.0"'))


def ask(request, path, without_range=False, token=None):
    """The good mirror's answer to a request, with another token if one is named."""
    server = request.server
    if server.tls:
        connection = http.client.HTTPSConnection(*server.mirror, context=ssl._create_unverified_context(), timeout=60)
    else:
        connection = http.client.HTTPConnection(*server.mirror, timeout=60)
    drop = {"connection", "transfer-encoding", *(["range", "if-range"] if without_range else [])}
    headers = {key: value for key, value in request.headers.items() if key.lower() not in drop}
    if token:
        # Alone: the mirror refuses a signature of the command line client that does not hold beside it.
        headers = {key: value for key, value in headers.items() if key.lower() not in ("sign_code", "token", "authorization")}
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(request.command, path, body=request.content, headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (http.client.RemoteDisconnected, ConnectionError):
        return Answer(0, [], b"")  # broken by the mirror
    finally:
        connection.close()
    return Answer(response.status, response.getheaders(), body, response.reason)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        self.content = self.read_content()
        answer = ask(self, self.path)
        status = answer.status
        self.server.change(self, answer)
        if not answer.status:
            self.close_connection = True
            return
        if answer.status != status:
            answer.reason = None
        answer.without("content-length", "transfer-encoding", "connection", "repr-digest", "date")
        self.send_response_only(answer.status, answer.reason)
        for key, value in answer.headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def read_content(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = handle_one

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads, allow_reuse_address = True, True

    def handle_error(self, *_):
        pass  # a client that went away


def stand_in_front(stage, base, front, behind):
    """Starts the proxies before one mirror of a stage; returns the address that stands for `base`."""
    first, loopback = {}, base.removeprefix("http://").split(":")

    def serve(address, mirror, tls):
        server = Quiet(address, Handler)
        server.stage, server.mirror, server.tls, server.first = stage, mirror, tls, first
        server.change = BREAKS[stage.broken]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(stage.dir / f"tls/{NAMES[0]}.pem", stage.dir / f"tls/{NAMES[0]}.key")
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stage.proxies.append(server)
        return server.server_address[1]

    if stage.names:
        serve((front, 80), (behind, 80), False)
        serve((front, 443), (behind, 443), True)
    return f"http://127.0.0.1:{serve(('127.0.0.1', 0), (loopback[0], int(loopback[1])), False)}"
