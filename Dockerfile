# Penstock as an image: the checkout, its hash-locked packages, and nothing that builds.
#
#   docker build -t penstock .
#   docker run -p 8080:8080 -p 127.0.0.1:8081:8081 -v penstock:/var/lib/penstock -v ./penstock.yaml:/etc/penstock.yaml:ro penstock
#
# In the configuration, listen on 0.0.0.0 (edge.listen, admin.listen): 127.0.0.1 is the container's own.
# One role alone, with the same REDIS_URL and PENSTOCK_KEY_SECRET for all (-e):
#   docker run … penstock edge --listen 0.0.0.0:8080 --run-dir /var/lib/penstock/run
#   docker run … --no-healthcheck --entrypoint python penstock -m console serve --config /etc/penstock.yaml --listen 0.0.0.0:8081
#
# It writes to its volume only, so that `--read-only` works; a directory in the volume's place has to belong to user 10001.

FROM python:3.13-slim AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock ./
# Wheels only: there is no compiler here, and a package that needed one would not be what the lock names.
RUN python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements.lock \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/penstock --create-home penstock
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/penstock
COPY . .
RUN /opt/venv/bin/python -m compileall -q proxy console ratelimit routing governance config store loadtests
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/penstock \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PENSTOCK_VAR=/var/lib/penstock
USER penstock
VOLUME /var/lib/penstock
EXPOSE 8080 8081
# Drains on SIGTERM; give it longer than edge.drain_timeout_s (docker stop --time 60).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-m", "proxy", "healthy"]
ENTRYPOINT ["python", "-m", "proxy"]
CMD ["up", "--config", "/etc/penstock.yaml"]
