"""Laws of nginx's configuration."""

from loadtests.bench.nginx import render


def test_the_configuration_is_filled_in():
    """Port and upstream are in their places, and no placeholder is left."""
    text = render(4711, "127.0.0.1:9001", root=False)
    assert "listen 127.0.0.1:4711 " in text
    assert "server 127.0.0.1:9001;" in text
    assert "$" not in text
    assert "user " not in text


def test_root_keeps_the_worker():
    """Started by root, the worker stays root, since the folder is ours alone."""
    assert render(1, "h:1", root=True).startswith("user root;")


def test_it_is_the_proxy_that_the_bench_names():
    """One worker, no buffering, kept-alive HTTP/1.1 upstream, no access log, in the foreground."""
    text = render(1, "h:1", root=False)
    for directive in (
        "worker_processes 1;",
        "proxy_buffering off;",
        "proxy_http_version 1.1;",
        "keepalive 128;",
        "access_log off;",
        "daemon off;",
    ):
        assert directive in text
