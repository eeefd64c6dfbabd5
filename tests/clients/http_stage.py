"""What the checks of HTTP itself play on: the scripted forge, and a mirror with the usual freshness, plain and with TLS."""

import json

import stage


class HttpStage(stage.Stage):
    """`base` is the mirror's plain address, `tls_base` the one with TLS; `short_base` is a mirror whose lists are fresh for
    a second and whose upstreams have a second to answer."""

    def __init__(self, directory, mirror, forge):
        super().__init__(directory, mirror, forge, names=False, broken=None)

    def _mirror(self):
        self._tls_init()
        self.base, self.tls_base = self._serve("mirror", {})
        self.mirror = self.running[-1]

    def _plain_mirror(self):
        short = {"SRM_MIRROR__DOCUMENTS__FRESH_ANONYMOUS": "1s", "SRM_MIRROR__DOCUMENTS__STALE_WHILE_REVALIDATE": "0s"}
        for name in ("GITHUB", "GITEE"):
            short[f"SRM_MIRROR__UPSTREAMS__{name}__RESPONSE_TIMEOUT"] = "1s"
        self.short_base, _ = self._serve("short-mirror", short)

    def _closed_mirror(self):
        """None here: the rules of access are no matter of HTTP."""

    def _serve(self, name, env):
        env = {
            "SRM_MIRROR__SERVER__LISTEN": json.dumps(["127.0.0.1:0"]),
            "SRM_MIRROR__SERVER__TLS__LISTEN": json.dumps(["127.0.0.1:0"]),
            "SRM_MIRROR__SERVER__TLS__CERTIFICATES": self._certificates(),
            "SRM_MIRROR__PACKAGES__DENY": json.dumps(["evil/*"]),
            **env,
        }
        process = self._start(name, [self.program, "serve", "--config", "upstreams.toml", "--cache-dir", f"{name}-cache"], env)
        stage.await_("the mirror", lambda: "\nready" in self.said(name) or process.poll() is not None)
        if process.poll() is not None:
            raise stage.Failed("the mirror does not start:\n" + self.said(name))
        words = [line.split()[-1] for line in self.said(name).splitlines() if line.startswith("listening on ")]
        return next(w for w in words if w.startswith("http:")), next(w for w in words if w.startswith("https:"))
