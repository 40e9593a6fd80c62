# The labour, as two images, at the root of the repository:
#   docker build -f deploy/images/workloads.Dockerfile --target train -t trunkline/workloads .   jobs; with PyTorch
#   docker build -f deploy/images/workloads.Dockerfile --target serve -t trunkline/serve .       servers; without
# requirements/all.lock holds the tests' tools too, so what is installed is cut from it: see lock.sh in this folder.
# Pin the base as controller.Dockerfile says.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /opt/trunkline
COPY specs /opt/trunkline/app/specs
COPY adapters/__init__.py adapters/artifact_signatures.py /opt/trunkline/app/adapters/
COPY adapters/store.py adapters/store_bucket.py adapters/store_folder.py /opt/trunkline/app/adapters/
COPY workloads /opt/trunkline/app/workloads
COPY LICENSE /opt/trunkline/

FROM build AS build-train
COPY adapters/data_platform.py adapters/dataset_folder.py adapters/labels.py /opt/trunkline/app/adapters/
COPY adapters/git_environment.py adapters/git_objects.py adapters/mlflow_api.py adapters/tracking_access.py /opt/trunkline/app/adapters/
COPY deploy/images/train.lock /tmp/
RUN /opt/trunkline/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --no-deps --no-compile \
    -r /tmp/train.lock
# Some packages ship files for other Pythons; those may fail. What is ours may not.
RUN /opt/trunkline/bin/python -m compileall -q -j 0 /opt/trunkline/app \
    && { /opt/trunkline/bin/python -m compileall -q -j 0 -x '/tests?/' /opt/trunkline/lib >/dev/null 2>&1 || true; }

FROM build AS build-serve
COPY deploy/images/serve.lock /tmp/
RUN /opt/trunkline/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --no-deps --no-compile \
    -r /tmp/serve.lock
RUN /opt/trunkline/bin/python -m compileall -q -j 0 /opt/trunkline/app \
    && { /opt/trunkline/bin/python -m compileall -q -j 0 -x '/tests?/' /opt/trunkline/lib >/dev/null 2>&1 || true; }

FROM ${BASE} AS runtime
RUN useradd --uid 65532 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin trunkline
ENV PATH=/opt/trunkline/bin:$PATH PYTHONPATH=/opt/trunkline/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp

FROM runtime AS serve
LABEL org.opencontainers.image.title="Trunkline serve" \
    org.opencontainers.image.licenses="AGPL-3.0-only"
COPY --from=build-serve /opt/trunkline /opt/trunkline
USER 65532:65532
CMD ["python", "-m", "workloads.serve", "--help"]

FROM runtime AS train
LABEL org.opencontainers.image.title="Trunkline workloads" \
    org.opencontainers.image.licenses="AGPL-3.0-only"
# git reads data repositories. Debian keeps one version of a package at a time, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/*
# By itself DVC keeps what its processes share below /var, where nothing can be written here.
ENV DVC_SITE_CACHE_DIR=/tmp/dvc DVC_NO_ANALYTICS=1
COPY --from=build-train /opt/trunkline /opt/trunkline
USER 65532:65532
CMD ["python", "-m", "workloads", "--help"]
