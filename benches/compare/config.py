"""The configurations of the servers, each as its own documentation recommends for this use."""

import json

# The programs run in a network namespace of their own, so every port is free.
ORIGIN, NGINX, NGINX_LOG, NGINX_TLS, VARNISH, MIRROR, MIRROR_LOG, MIRROR_TLS, SMALL, LARGE = range(7000, 7010)

COMMON = """
daemon off;
user root root;
worker_processes 2;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 75s;
  # With the default of 1000, wrk would have to reconnect continually.
  keepalive_requests 1000000000;
  server_tokens off;
  client_body_temp_path temp/body;
  fastcgi_temp_path temp/fastcgi;
  uwsgi_temp_path temp/uwsgi;
  scgi_temp_path temp/scgi;
  proxy_temp_path temp/proxy;
"""


def origin(files, log):
    """GitHub's API and archive host for the mirror; for the other servers the same zips at the mirror's paths."""
    return (
        COMMON
        + f"""
  log_format fetched '$msec $request_time $uri';
  access_log off;
  server {{
    listen 127.0.0.1:{ORIGIN} backlog=4096;
    root {files};
    location /repos/ {{
      root {files}/api;
      types {{}}
      default_type application/json;
      try_files $uri.json =404;
    }}
    location ~ ^/repos/bench/(?<package>[^/]+)/zipball/refs/tags/(?<tag>.+)$ {{
      return 302 http://127.0.0.1:{ORIGIN}/archive/$package/$tag.zip;
    }}
    location /archive/ {{
      access_log {log} fetched;
      types {{}}
      default_type application/zip;
    }}
    location ~ ^/bench/(?<package>[^/]+)/zipball/(?<tag>.+)$ {{
      access_log {log} fetched;
      alias {files}/archive/$package/$tag.zip;
      types {{}}
      default_type application/zip;
      add_header Cache-Control "public, max-age=31536000, immutable";
      add_header Content-Disposition 'attachment; filename="$package-$tag.zip"';
    }}
    location = /bench/json/releases/latest {{
      alias {files}/document.json;
      types {{}}
      default_type "application/json; charset=utf-8";
      add_header Cache-Control "public, max-age=60";
    }}
    # Compressed ahead, as by gzip_static: no server compresses during a measurement.
    location = /bench/list/releases {{
      alias {files}/list.json.gz;
      types {{}}
      default_type "application/json; charset=utf-8";
      add_header Content-Encoding gzip;
    }}
    location = /bench/longlist/releases {{
      alias {files}/longlist.json;
      types {{}}
      default_type "application/json; charset=utf-8";
    }}
  }}
}}
"""
    )


def nginx(cache, port, log, tls):
    """proxy_cache in front of the origin; the server without access log also has a TLS listener."""
    certificate, key = tls
    secure = f"""
    listen 127.0.0.1:{NGINX_TLS} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_session_cache shared:tls:10m;
"""
    return (
        COMMON
        + f"""
  access_log {log};
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 1h;
  proxy_cache_path {cache} levels=1:2 keys_zone=bench:64m inactive=1d max_size=50g use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 64; }}
  server {{
    # One accept queue per worker: otherwise one of the two gets most connections.
    listen 127.0.0.1:{port} reuseport backlog=4096;
{secure if port == NGINX else ""}
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache bench;
      proxy_cache_key $request_uri;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 1h;
      proxy_cache_lock_age 1h;
      # No response may become stale during a measurement.
      proxy_ignore_headers Cache-Control Expires;
      proxy_cache_valid 200 1d;
      add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""
    )


VCL = f"""
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{ORIGIN}"; }}
sub vcl_backend_response {{
  # No response may become stale during a measurement.
  set beresp.ttl = 1d;
}}
"""


def mirror(cache, port, level, tls):
    """Defaults, except for addresses and paths, and that no response becomes stale during a measurement."""
    text = json.dumps  # a JSON string is a TOML string
    secure = f"""
[server.tls]
listen = ["127.0.0.1:{MIRROR_TLS}"]
certificates = [{{ cert_file = {text(str(tls[0]))}, key_file = {text(str(tls[1]))} }}]
""" if tls else ""
    return f"""
[server]
listen = ["127.0.0.1:{port}"]
public_url = "http://127.0.0.1:{port}"
{secure}
[disk]
dir = {text(str(cache))}
scrub = "forever"
[documents]
fresh_anonymous = "1d"
[upstreams.github]
api = "http://127.0.0.1:{ORIGIN}"
web = "http://127.0.0.1:{ORIGIN}"
redirect_hosts = ["127.0.0.1:{ORIGIN}"]
[upstreams.gitee]
api = "http://127.0.0.1:{ORIGIN}/api/v5"
web = "http://127.0.0.1:{ORIGIN}"
[log]
format = "json"
level = {text(level)}
"""


def repository(package):
    return {"id": 1, "name": package, "full_name": f"bench/{package}", "private": False, "default_branch": "main"}


def release(package, tag, lines=30):
    """A release as GitHub sends it, long enough for a response of about 2 KB."""
    notes = "".join(f"- line {number} of the notes of a release, as people write them\r\n" for number in range(lines))
    at = "2024-01-01T05:00:00Z"
    return {
        "id": 1, "tag_name": tag, "name": tag, "target_commitish": "main", "draft": False, "prerelease": False,
        "created_at": at, "published_at": at, "body": notes, "assets": [],
        "zipball_url": f"http://127.0.0.1:{ORIGIN}/repos/bench/{package}/zipball/{tag}",
    }
