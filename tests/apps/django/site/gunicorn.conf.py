"""How gunicorn serves the site: one process, threads, connections that are kept."""

bind = "127.0.0.1:0"
worker_class = "gthread"
workers = 1
threads = 8
keepalive = 30
timeout = 120
# It would lie in the home folder, for all to share.
control_socket_disable = True


def pre_request(worker, req):
    """Told as soon as a request has come, before anything is done about it."""
    print(f"request {req.method} {req.uri}", flush=True)
