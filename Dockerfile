# syntax=docker/dockerfile:1
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY managers managers
COPY scheduler scheduler
COPY workers workers
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/celeriac-*.whl)[postgresql]"
COPY --chmod=755 <<'ENTRYPOINT' /usr/local/bin/celeriac-entrypoint
#!/bin/sh
# Gives this host its name, then becomes the command. A name in CELERIAC_HOST stays.
#
# A container's hostname is its id, another with each recreation. Its own name (celeriac-worker-3), which Compose keeps,
# is nowhere inside it; but Docker's DNS has it as the reverse record of its address. Asked past /etc/hosts (-s dns),
# since that says the id; and only Docker's DNS (127.0.0.11) is asked, since another's answer would be a stranger's.
set -eu
if [ -z "${CELERIAC_HOST:-}" ]; then
    unset CELERIAC_HOST
    if grep -q '^nameserver 127\.0\.0\.11$' /etc/resolv.conf; then
        for _ in 1 2 3 4 5; do
            address=$(getent ahostsv4 "$(uname -n)" | cut -d ' ' -f 1 | head -n 1)
            name=$(getent -s dns hosts "$address" | tr -s ' ' | cut -d ' ' -f 2 | cut -d . -f 1)
            [ -z "$name" ] || break
            sleep 0.2
        done
        # while Compose replaces a container, the new one is for a moment <id>_<name>
        name=$(echo "$name" | sed -E 's/^[0-9a-f]{12}_//')
        [ -z "$name" ] || export CELERIAC_HOST="$name"
    fi
    if [ -z "${CELERIAC_HOST:-}" ]; then
        echo "celeriac-entrypoint: Docker's DNS knows no name of this container, so the host is called $(uname -n)," \
            "which changes when the container is made anew; set CELERIAC_HOST" >&2
    fi
fi
exec "$@"
ENTRYPOINT
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/celeriac --shell /usr/sbin/nologin celeriac \
    && install -d -o celeriac /var/lib/celeriac/state # whose owner an empty volume mounted there takes over
USER celeriac
WORKDIR /var/lib/celeriac
ENV CELERIAC_DIR=/var/lib/celeriac/state \
    PYTHONUNBUFFERED=1
ENTRYPOINT ["celeriac-entrypoint"]
CMD ["celery", "-A", "workers", "worker", "--loglevel", "info"]
