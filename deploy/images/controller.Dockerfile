# The control plane: `docker build -f deploy/images/controller.Dockerfile -t trunkline/controller .` at the root of the
# repository. Pin the base to what you build from: docker buildx imagetools inspect python:3.11.14-slim-bookworm prints
# its digest; then --build-arg BASE=python:3.11.14-slim-bookworm@sha256:… for every build after.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /opt/trunkline
COPY requirements/controller.lock /tmp/
# --no-deps: the lock is complete. --only-binary: nothing of what is downloaded runs while the image is made.
RUN /opt/trunkline/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --no-deps --no-compile \
    -r /tmp/controller.lock
COPY specs /opt/trunkline/app/specs
COPY reconcilers /opt/trunkline/app/reconcilers
COPY adapters /opt/trunkline/app/adapters
COPY controller /opt/trunkline/app/controller
# The file system is read-only when it runs: whatever is not compiled now is compiled at every start.
# Some packages ship files for other Pythons; those may fail. What is ours may not.
RUN /opt/trunkline/bin/python -m compileall -q -j 0 /opt/trunkline/app \
    && { /opt/trunkline/bin/python -m compileall -q -j 0 -x '/tests?/' /opt/trunkline/lib >/dev/null 2>&1 || true; }
COPY LICENSE /opt/trunkline/

FROM ${BASE}
LABEL org.opencontainers.image.title="Trunkline controller" \
    org.opencontainers.image.licenses="AGPL-3.0-only"
# Debian keeps one version of a package at a time: a pinned one cannot be installed any more after its next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git gpg openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin trunkline
COPY --from=build /opt/trunkline /opt/trunkline
ENV PATH=/opt/trunkline/bin:$PATH PYTHONPATH=/opt/trunkline/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/trunkline
USER 65532:65532
CMD ["kopf", "run", "--module", "controller.operator", "--standalone", "--all-namespaces"]
