"""The statement by which a GitHub App identifies itself, checked by PyJWT: app_jwt.py MIRROR

Runs `config check --online` with a new RSA key in both forms that GitHub and openssl write, against a server that
answers only to statements that PyJWT finds valid; then with another key, which must be refused.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

APP = "123456"


def new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key, form):
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


class Api(BaseHTTPRequestHandler):
    """Answers `/app` and `/app/installations` to the App whose public key `known` is."""

    known = None
    seen = []

    def do_GET(self):
        scheme, _, statement = self.headers.get("Authorization", "").partition(" ")
        try:
            assert scheme == "Bearer", scheme
            assert jwt.get_unverified_header(statement)["alg"] == "RS256"
            claims = jwt.decode(
                statement, self.known, algorithms=["RS256"], issuer=APP, options={"require": ["iat", "exp", "iss"]}
            )
            # GitHub: at most ten minutes ahead of its own clock, and not issued in its future.
            assert claims["exp"] - time.time() <= 600, claims
            assert claims["iat"] <= time.time(), claims
            assert set(claims) == {"iat", "exp", "iss"}, claims
            Api.seen.append(self.path)
            status, body = 200, {"slug": "checked"} if self.path == "/app" else []
        except (jwt.InvalidTokenError, AssertionError) as why:
            Api.seen.append(f"{type(why).__name__}: {why}")
            status, body = 401, {"message": "A JSON web token could not be decoded"}
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def check(mirror, directory, address, key):
    file = Path(directory) / "app.pem"
    file.write_bytes(key)
    config = Path(directory) / "mirror.toml"
    config.write_text(
        f'[upstreams.github]\napi = "http://{address}"\n'
        f'credentials = [{{ app_id = "{APP}", key_file = "{file}" }}]\n'
    )
    command = [mirror, "config", "check", "--online", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"HOME": directory})
    return done.returncode, done.stdout + done.stderr


def main(mirror):
    key = new_key()
    Api.known = key.public_key()
    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    forms = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8)
    with tempfile.TemporaryDirectory(prefix="srm-app-") as directory:
        for form in forms:
            Api.seen.clear()
            code, said = check(mirror, directory, address, pem(key, form))
            assert code == 0 and "app 123456 is accepted as checked" in said, (form, code, said, Api.seen)
            assert Api.seen == ["/app", "/app/installations?per_page=100"], Api.seen
        code, said = check(mirror, directory, address, pem(new_key(), forms[0]))
        assert code == 64 and "bad-credential" in said, (code, said)
        assert Api.seen[-1].startswith("InvalidSignatureError"), Api.seen
    print("PyJWT: all as it should be")


if __name__ == "__main__":
    main(sys.argv[1])
