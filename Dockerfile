# idsync in a container: only locked, hashed packages build it and go into it; no compiler, no shell script, no root.
#
#   docker build -t idsync:0.1.0 .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v idsync-state:/var/lib/idsync -v /etc/idsync:/etc/idsync:ro idsync:0.1.0
#
# In a container the public port must listen on every address, and idsync refuses that until server.trusted_proxies
# names the network of the TLS proxy in front, in the file or as IDSYNC_SERVER__TRUSTED_PROXIES='["172.30.0.0/24"]'.
# That is on purpose: without TLS in front the tokens would cross the network in clear. It then ends with exit code 2.

# -- the package, as a wheel. The tools that build it are locked too; they stay in this stage.
FROM python:3.13-slim-bookworm AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/dev.lock requirements/dev.lock
RUN ["python", "-m", "venv", "/opt/build"]
RUN ["/opt/build/bin/pip", "install", "--require-hashes", "-r", "requirements/dev.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY idsync idsync
RUN ["/opt/build/bin/pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "/wheels", "."]

# -- what runs: the locked dependencies, with the extra for PostgreSQL, and that wheel.
FROM python:3.13-slim-bookworm AS install
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/postgres.lock /tmp/postgres.lock
RUN ["python", "-m", "venv", "/opt/idsync"]
RUN ["/opt/idsync/bin/pip", "install", "--require-hashes", "--only-binary", ":all:", "-r", "/tmp/postgres.lock"]
COPY --from=wheel /wheels /wheels
RUN /opt/idsync/bin/pip install --no-deps --no-index /wheels/idsync-*.whl

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="idsync" \
      org.opencontainers.image.description="When somebody leaves, every AI gateway key they hold stops working, with proof." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/idsync
COPY --from=install /opt/idsync /opt/idsync
ENV PATH=/opt/idsync/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    IDSYNC_SERVER__HOST=0.0.0.0
WORKDIR /var/lib/idsync
VOLUME /var/lib/idsync
# 9090 listens on the container's own loopback until IDSYNC_SERVER__OPS_HOST says otherwise: /metrics needs no token.
EXPOSE 8080 9090
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('IDSYNC_SERVER__PORT', '8080') + '/livez', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["idsync"]
CMD ["serve"]
