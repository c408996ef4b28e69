# Trains on a rented GPU: docker run --gpus all -v "$PWD/data:/data" -v "$PWD/runs:/runs" hw1 recipes/finetune.yaml     (docs/guide/docker.md)
#
# Debian's own Python and compilers on Debian: torch's wheels bring CUDA, so that of NVIDIA only the host's driver is needed.
# A tag with a date stays what it is unless someone moves it; `docker pull` prints a digest that cannot move: debian:TAG@sha256:...
FROM debian:bookworm-20250520-slim

# tini is process 1: it passes SIGTERM on and reaps. Triton and torch.compile need a compiler and Python's headers, wandb's client
# certificates. Debian keeps only the newest version of a package, so that versions written here would soon not build.
# hadolint ignore=DL3008
RUN apt-get update && apt-get upgrade -y && apt-get install -y --no-install-recommends \
        ca-certificates g++ gcc libpython3-dev python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/*

# The dependencies lie in a layer of their own, which is built, pushed and pulled anew only when these files change.
WORKDIR /app
ENV PATH=/app/bin:/opt/venv/bin:$PATH
COPY requirements.txt requirements-onnx.txt requirements-sweep.txt requirements.lock ./
RUN python3 -m venv /opt/venv \
    && pip install --no-cache-dir -r requirements.txt -r requirements-onnx.txt -r requirements-sweep.txt -c requirements.lock

# Any --user may write here, one without a name too. /cache is home and holds every cache: weights, compiled kernels, checked pictures.
RUN mkdir -m 1777 /data /runs /report /audit /cache
ENV HOME=/cache USER=hw1 XDG_CACHE_HOME=/cache TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor TRITON_CACHE_DIR=/cache/triton \
    PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY recipes /recipes/
COPY train.py validate.py ./
COPY docker/entrypoint.py docker/
COPY hw1 hw1/
# hw1 looks for the recipes beside itself, so that `finetune` is known as well as recipes/finetune.yaml.
RUN ln -s /recipes recipes && mkdir bin && printf '#!/bin/sh\nexec python -m hw1 "$@"\n' > bin/hw1 && chmod 755 bin/hw1 && chmod -R a+rX /app /recipes && python -m compileall -q /app

ARG COMMIT=
ENV HW1_COMMIT=$COMMIT
LABEL org.opencontainers.image.title=hw1 org.opencontainers.image.licenses=Apache-2.0 org.opencontainers.image.revision=$COMMIT

# No HEALTHCHECK: a training ends by itself, its exit code says how, and it watches over its own loader; nothing would act on the mark.
USER 1000:1000
WORKDIR /
ENTRYPOINT ["tini", "--", "python", "/app/docker/entrypoint.py"]
CMD ["--help"]
